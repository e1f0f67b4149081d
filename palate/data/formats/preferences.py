"""Preferences: `chosen` and `rejected` as strings or lists of messages, with a `prompt` or with a common beginning."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Conversation, Message
from palate.data.cells import Columns, InvalidRow, filled, list_or_text, number, present, sequence, text
from palate.data.conversations import conversation, prompt_of, shared_length
from palate.data.formats.row_types import PairRow, RowKind
from palate.data.formats.sampled import has_ids

SCORE_COLUMNS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating"))
"""Names of the ratings of both sides in binarized UltraFeedback and similar data sets."""

PAIR_COLUMNS = frozenset(
    {"prompt", "chosen", "rejected", "probability", "margin", "weight", "dimension", "judgments"}
    | {name for names in SCORE_COLUMNS for name in names}
)


@dataclass(frozen=True)
class PreferenceFormat:
    """Rows with a better and a worse completion."""

    name: str = "preference"
    kind: RowKind = "preferences"
    needs: str = "`chosen` and `rejected` (strings or lists of messages), `prompt` unless both sides begin with it"
    columns: frozenset[str] = PAIR_COLUMNS

    def fits(self, row: Columns) -> bool:
        """Whether there is a `chosen` or a `rejected`."""
        return "chosen" in row or "rejected" in row

    def parse(self, row: Columns) -> PairRow:
        """The prompt and the two sides."""
        if "prompt" in row and has_ids(row, "chosen") and has_ids(row, "rejected"):
            return _of_sampled(row)
        chosen, rejected = present(row, "chosen"), present(row, "rejected")
        if isinstance(chosen, str) != isinstance(rejected, str):
            raise InvalidRow("one side is a string, the other a list of messages")
        if isinstance(chosen, str):
            return _of_strings(row, text(chosen, "chosen"), text(rejected, "rejected"))
        return _of_messages(row, conversation(chosen, "chosen"), conversation(rejected, "rejected"))


def margin_of(row: Columns) -> float:
    """How much better the chosen side is: `margin`, else the difference of the ratings, else 0 (unknown).

    Raises:
        InvalidRow: a value is not a number, or the chosen side is not rated higher.
    """
    rated = next((names for names in SCORE_COLUMNS if set(names) <= row.keys()), None)
    if rated is None or "margin" in row:
        return number(row.get("margin", 0.0), "margin")
    chosen, rejected = (number(row[name], name) for name in rated)
    if chosen == rejected:
        raise InvalidRow(f"both sides are rated alike: {chosen:g}")
    if chosen < rejected:
        raise InvalidRow(f"the chosen side is rated lower: {chosen:g}, the rejected one {rejected:g}")
    return chosen - rejected


def vote_columns(row: Columns) -> frozenset[str]:
    """The columns that hold single votes: `votes` and `raters`, or `rater`. Other values under these names are the user's columns."""
    if isinstance(list_or_text(row.get("votes"), "votes"), list | tuple):
        return frozenset({"votes", "raters"})
    return frozenset({"rater"} if isinstance(row.get("rater"), str) else ())


def votes_in(row: Columns, probability: float) -> tuple[tuple[str, float], ...]:
    """The single judgments of a row, as (rater, vote for chosen). A row with a `rater` alone is one vote of this rater.

    Raises:
        InvalidRow: a vote is not between 0 and 1, or votes and raters differ in number.
    """
    if "rater" in vote_columns(row):
        return ((text(row["rater"], "rater"), probability),)
    if not vote_columns(row):
        return ()
    votes = [number(vote, "votes", least=0.0, most=1.0) for vote in sequence(row["votes"], "votes")]
    raters = [text(rater, "raters") for rater in sequence(row.get("raters", [""] * len(votes)), "raters")]
    if len(raters) != len(votes):
        raise InvalidRow(f"`raters` does not name one rater per vote: {len(raters)} for {len(votes)} votes")
    return tuple(zip(raters, votes, strict=True))


def checked_pair(prompt: Conversation, chosen: str, rejected: str, calls: tuple[str, str] = ("", "")) -> PairRow:
    """The pair. Raises InvalidRow if a side is empty or both have the same text and calls, apart from white space around them."""
    sides = (chosen.strip(), calls[0]), (rejected.strip(), calls[1])
    if not all(any(side) for side in sides):
        raise InvalidRow("empty completion")
    if sides[0] == sides[1]:
        raise InvalidRow("the two sides are equal")
    return PairRow(prompt, chosen, rejected, calls)


def pair_of_wholes(chosen: Conversation, rejected: Conversation) -> PairRow:
    """The pair in two whole conversations. The prompt is their common beginning, and one assistant turn must follow on each side."""
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
    """The single assistant turn that `side` adds to `prompt`, which it may repeat. Raises InvalidRow otherwise."""
    added = side[len(prompt) :] if side[: len(prompt)] == prompt else side
    if len(added) != 1 or added[0].role != "assistant":
        raise InvalidRow("a side is not one assistant turn: several turns, or another role")
    return added[0]


def _of_strings(row: Columns, chosen: str, rejected: str) -> PairRow:
    if "prompt" in row:
        prompt = prompt_of(row["prompt"])
        # A transcript ends with "Assistant:", so its completion begins with a space that belongs to neither.
        is_transcript = isinstance(row["prompt"], str) and prompt[0].role != "text"
        return checked_pair(prompt, *((chosen.strip(), rejected.strip()) if is_transcript else (chosen, rejected)))
    if chosen.strip() == rejected.strip():
        raise InvalidRow("the two sides are equal")
    shared = _word_end(chosen, rejected)
    if not chosen[:shared].strip():
        raise InvalidRow("the sides share no prompt")
    return checked_pair((Message("text", chosen[:shared]),), chosen[shared:], rejected[shared:])


def _of_sampled(row: Columns) -> PairRow:
    """The pair of two sampled sides. A model may answer nothing, and equal texts have other tokens where one of them was cut."""
    prompt = prompt_of(row["prompt"])
    turns = [_sampled_turn(row[side], side) for side in ("chosen", "rejected")]
    return PairRow(prompt, turns[0].text, turns[1].text, (turns[0].tool_fields, turns[1].tool_fields))


def _sampled_turn(value: object, side: str) -> Message:
    if isinstance(value, str):
        return Message("assistant", text(value, side))
    turns = sequence(value, side)
    if len(turns) == 1 and isinstance(turns[0], dict) and turns[0].get("content") == "" and not turns[0].get("tool_calls"):
        return Message("assistant", "")
    return one_answer((), conversation(turns, side))


def _word_end(chosen: str, rejected: str) -> int:
    """Length of the common beginning in whole words, without the white space after them."""
    shared = shared_length(chosen, rejected)
    is_whole_word = all(side[shared : shared + 1].isspace() for side in (chosen, rejected))
    blanks = (i for i in range(shared, 0, -1) if chosen[i - 1].isspace())
    return len(chosen[: shared if is_whole_word else next(blanks, 0)].rstrip())


def _of_messages(row: Columns, chosen: Conversation, rejected: Conversation) -> PairRow:
    shared = shared_length(chosen, rejected)
    if "prompt" not in row or (isinstance(row["prompt"], str) and shared):
        return pair_of_wholes(chosen, rejected)  # in UltraFeedback a string beside whole conversations repeats their first turn
    if isinstance(row["prompt"], str):
        prompt: Conversation = (Message("user", filled(row["prompt"], "prompt")),)
    else:
        prompt = prompt_of(row["prompt"])
    return _pair_of_turns(prompt, one_answer(prompt, chosen), one_answer(prompt, rejected))
