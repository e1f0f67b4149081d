"""Preferences: `chosen` and `rejected`, with a `prompt` or with one both begin with; strings or lists of messages."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import column, conversation, filled, number, shared_length, text
from palate.data.formats.prompt_only import prompt_of
from palate.data.formats.row_types import Columns, InvalidRow, PairRow

SCORE_COLUMNS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"))
"""How binarized UltraFeedback and its kin call the ratings of both sides."""

PAIR_COLUMNS = frozenset({"prompt", "chosen", "rejected", "probability", "margin", "weight", "dimension", "judgments"}) | frozenset(
    name for names in SCORE_COLUMNS for name in names
)


@dataclass(frozen=True)
class PreferenceFormat:
    """Rows with a better and a worse completion."""

    name: str = "preference"
    needs: str = "`chosen` and `rejected` (strings or lists of messages), `prompt` unless both sides begin with it"
    columns: frozenset[str] = PAIR_COLUMNS

    def fits(self, row: Columns) -> bool:
        """Whether there is a `chosen` or a `rejected`."""
        return "chosen" in row or "rejected" in row

    def parse(self, row: Columns) -> PairRow:
        """The prompt and the two sides."""
        chosen, rejected = column(row, "chosen"), column(row, "rejected")
        if isinstance(chosen, str) != isinstance(rejected, str):
            raise InvalidRow("one side is a string, the other a list of messages")
        if isinstance(chosen, str):
            return _of_strings(row, text(chosen, "chosen"), text(rejected, "rejected"))
        return _of_messages(row, conversation(chosen, "chosen"), conversation(rejected, "rejected"))


def margin_of(row: Columns) -> float:
    """How much better the chosen side is: `margin`, else the difference of both ratings, else 0 (unknown).

    Raises:
        Unfit: a number is none, or the ratings do not say that the chosen side is the better one.
    """
    rated = next((names for names in SCORE_COLUMNS if set(names) <= row.keys()), None)
    if rated is None or "margin" in row:
        return number(row, "margin", 0.0)
    chosen, rejected = (number(row, name, 0.0) for name in rated)
    if chosen == rejected:
        raise InvalidRow(f"both sides are rated alike: {chosen:g}")
    if chosen < rejected:
        raise InvalidRow(f"the chosen side is rated lower: {chosen:g}, the rejected one {rejected:g}")
    return chosen - rejected


def checked_pair(prompt: Conversation, chosen: str, rejected: str, calls: tuple[str, str] = ("", "")) -> PairRow:
    """The pair. Raises Unfit when a side is empty or both say and call the same (white space around them aside)."""
    sides = (chosen.strip(), calls[0]), (rejected.strip(), calls[1])
    if not all(any(side) for side in sides):
        raise InvalidRow("empty completion")
    if sides[0] == sides[1]:
        raise InvalidRow("the two sides are equal")
    return PairRow(prompt, chosen, rejected, calls)


def pair_of_wholes(chosen: Conversation, rejected: Conversation) -> PairRow:
    """The pair in two whole conversations: what both begin with is the prompt, one assistant turn is left on each side."""
    if chosen == rejected:
        raise InvalidRow("the two sides are equal")
    shared = shared_length(chosen, rejected)
    sides = chosen[shared:], rejected[shared:]
    if any(len(side) != 1 or side[0].role != "assistant" for side in sides):
        raise InvalidRow("the sides differ in more than the last assistant turn")
    if not shared:
        raise InvalidRow("the sides share no prompt")
    if any(not turn.text.strip() and not turn.tool_fields for turn in chosen[:shared] if turn.role != "system"):
        raise InvalidRow("empty turn: before the last one")
    return _pair_of_turns(chosen[:shared], sides[0][0], sides[1][0])


def _pair_of_turns(prompt: Conversation, chosen: Message, rejected: Message) -> PairRow:
    return checked_pair(prompt, chosen.text, rejected.text, (chosen.tool_fields, rejected.tool_fields))


def one_answer(prompt: Conversation, side: Conversation) -> Message:
    """The one assistant turn that `side` adds to `prompt` (which it may repeat). Raises Unfit otherwise."""
    added = side[len(prompt) :] if side[: len(prompt)] == prompt else side
    if len(added) != 1 or added[0].role != "assistant":
        raise InvalidRow("a side is not one assistant turn: several turns, or another role")
    return added[0]


def _of_strings(row: Columns, chosen: str, rejected: str) -> PairRow:
    if "prompt" in row:
        prompt = prompt_of(row["prompt"])
        # Transcripts and their completions are split at "Assistant:", so a blank follows that belongs to neither.
        is_transcript = isinstance(row["prompt"], str) and prompt[0].role != "text"
        return checked_pair(prompt, *((chosen.strip(), rejected.strip()) if is_transcript else (chosen, rejected)))
    if chosen.strip() == rejected.strip():
        raise InvalidRow("the two sides are equal")
    shared = _word_end(chosen, rejected)
    if not chosen[:shared].strip():
        raise InvalidRow("the sides share no prompt")
    return checked_pair((Message("text", chosen[:shared]),), chosen[shared:], rejected[shared:])


def _word_end(chosen: str, rejected: str) -> int:
    """Length of the text both begin with, without a word that the sides end in different ways and the blank before it."""
    shared = shared_length(chosen, rejected)
    is_whole_word = all(side[shared : shared + 1].isspace() for side in (chosen, rejected))
    blanks = (i for i in range(shared, 0, -1) if chosen[i - 1].isspace())
    return len(chosen[: shared if is_whole_word else next(blanks, 0)].rstrip())


def _of_messages(row: Columns, chosen: Conversation, rejected: Conversation) -> PairRow:
    shared = shared_length(chosen, rejected)
    if "prompt" not in row or (isinstance(row["prompt"], str) and shared):
        return pair_of_wholes(chosen, rejected)  # a string beside whole conversations repeats their first turn (UltraFeedback)
    if isinstance(row["prompt"], str):
        prompt: Conversation = (Message("user", filled(row["prompt"], "prompt")),)
    else:
        prompt = prompt_of(row["prompt"])
    return _pair_of_turns(prompt, one_answer(prompt, chosen), one_answer(prompt, rejected))
