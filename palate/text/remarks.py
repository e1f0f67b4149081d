"""What a chat template does to rows that can be used: words it leaves out, openings that differ, texts that are read as tokens.

Such rows are learned, and the user is told how many there are. `palate inspect` and every stage that learns from text count them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal

from palate.core import THOUGHT_FIELDS, Completion, Conversation, Demonstration, Message
from palate.text.chat_text import TODAY, fields_of, template_of, writes_date
from palate.text.ends import unterminated
from palate.text.template import chat_text, is_plain_text, special_texts
from palate.text.tokens import Answer, turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_WORDS = 8
"""How many of the words that a template leaves out are shown."""

WORDS = re.compile(r"\w+")
"""A word, as words that are left out are counted."""


@dataclass
class Remarks:
    """Counts remarks on rows. The words of a remark before a colon are the same for all rows of a kind."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, source: str, remarks: Iterable[str]) -> None:
        """Count the remarks on a row, each kind once."""
        by_kind: dict[str, str] = {}
        for remark in remarks:
            by_kind.setdefault(remark.partition(":")[0], remark)
        for kind, remark in by_kind.items():
            self.counts[kind] += 1
            self.first.setdefault(kind, (source, remark.partition(":")[2].strip()))

    def lines(self) -> tuple[str, ...]:
        """A sentence for each kind: how many rows, and the first of them."""
        return tuple(f"{count} x {kind}; first {source}: {detail}" for (kind, count), (source, detail) in self._kinds())

    def _kinds(self) -> Iterator[tuple[tuple[str, int], tuple[str, str]]]:
        return ((entry, self.first[entry[0]]) for entry in self.counts.most_common())


def demonstration_remarks(tokenizer: PreTrainedTokenizerBase, demonstration: Demonstration, branches: int) -> tuple[str, ...]:
    """What to tell about a demonstration that became a tree with so many branches."""
    found = _remarks(tokenizer, demonstration.conversation, demonstration.learned)
    if branches < 2:
        return found
    rewritten = f"the chat template rewrites earlier answers: {branches - 1} of them are learned as the last of a shorter conversation"
    return (rewritten, *found)


def _remarks(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, learned: Sequence[int]) -> tuple[str, ...]:
    """What to tell about the learned turns of a conversation, and about the turns before them."""
    conversation = conversation[: max(learned, default=len(conversation) - 1) + 1]
    found = (
        [f"a text spells out special tokens, which are read as tokens: {', '.join(texts)}"]
        if (texts := _special(tokenizer, conversation))
        else []
    )
    if is_plain_text(conversation):
        return tuple(found)
    for number in learned:
        before, turn = conversation[:number], conversation[number]
        if words := left_out(tokenizer, before, turn):
            found.append(f"the chat template leaves out words of an answer that is learned: {_quoted(words)}")
        if not chat_text(tokenizer, (*before, turn), generation_prompt=False).startswith(
            opened := chat_text(tokenizer, before, generation_prompt=True)
        ):
            opening = opened.removeprefix(chat_text(tokenizer, before, generation_prompt=False))
            found.append(f"an answer that is learned begins otherwise than the generation prompt: the prompt ends with {opening!r}")
    found += _context_left_out(tokenizer, conversation)
    found += date_remarks(tokenizer)
    return tuple(found)


def date_remarks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """What to tell if the template writes the date, which is not the day of the run."""
    if not writes_date(template_of(tokenizer)):
        return ()
    return (f"the chat template writes the date: {TODAY:%Y-%m-%d} stands for the day of the run",)


def answer_remarks(tokenizer: PreTrainedTokenizerBase, prompt: Conversation, answers: Iterable[Answer]) -> tuple[str, ...]:
    """What to tell about answers of one prompt, each of them learned. Nothing is left out of those whose tokens are known."""
    role: Literal["text", "assistant"] = "text" if is_plain_text(prompt) else "assistant"
    turns = [turn_of(answer, role) for answer in answers if not (isinstance(answer, Completion) and answer.ids)]
    return tuple(dict.fromkeys(remark for turn in turns for remark in _remarks(tokenizer, (*prompt, turn), (len(prompt),))))


def left_out(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, turn: Message) -> tuple[str, ...]:
    """The words of an answer that the template does not write where it is the last turn."""
    (bare,) = unterminated(tokenizer, (turn,))
    written = turn_text(tokenizer, conversation, turn)
    if squeezed(bare.text) in squeezed(written):
        return ()
    missing = Counter(WORDS.findall(bare.text)) - Counter(WORDS.findall(written))
    return tuple(missing.elements())


def turn_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, turn: Message) -> str:
    """What the template writes for the last turn, with its header; the whole text if the template rewrites what was before."""
    before = chat_text(tokenizer, conversation, generation_prompt=False)
    return chat_text(tokenizer, (*conversation, turn), generation_prompt=False).removeprefix(before)


def squeezed(text: str) -> str:
    """The text without white space, which templates change freely."""
    return "".join(text.split())


def _special(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> tuple[str, ...]:
    texts = (
        message.text + "".join(fields_of(message).get(name, "") for name in THOUGHT_FIELDS)
        for message in unterminated(tokenizer, conversation)
    )
    return tuple(dict.fromkeys(token for text in texts for token in special_texts(tokenizer, text)))


def _context_left_out(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[str]:
    """Turns of system and user that the template does not write. Earlier answers are its own business: it may forget thoughts."""
    written = squeezed(chat_text(tokenizer, conversation, generation_prompt=False))
    return [
        f"the chat template leaves out words of a turn: the {message.role} says {_quoted(message.text.split())}"
        for message in conversation
        if message.role in ("system", "user") and squeezed(message.text) not in written
    ]


def _quoted(words: Sequence[str]) -> str:
    return repr(" ".join(islice(words, SHOWN_WORDS)) + (" ..." if len(words) > SHOWN_WORDS else "")) + f" ({len(words)} words)"
