"""From tokens to text while they are drawn: no half characters, and nothing of a text that may become a stop text."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, cast

from palate.text.chat_text import Ids
from palate.text.tokens import WINDOW, decoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HALF = "\ufffd"
"""What a decoder writes for bytes that are not yet a character."""


def whole_text(tokenizer: PreTrainedTokenizerBase, trunk: Ids, body: Ids, *, is_chat: bool, hidden: Set[int] = frozenset()) -> str:
    """Return the text of finished tokens after the prompt `trunk`; an answer in a chat is without white space around it."""
    (text,) = decoded(tokenizer, trunk, [tuple(token for token in body if token not in hidden)])
    return text.strip() if is_chat else text


class TextStream:
    """The text of one completion, while it is drawn. The parts that `push` and `end` return are the text, in order.

    Attributes:
        text: the text so far, up to the stop text.
        is_stopped: whether a stop text came. It is not part of the text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, trunk: Ids, *, is_chat: bool, hidden: Set[int] = frozenset(), stops: Sequence[str] = ()
    ) -> None:
        """Continue the prompt `trunk`. The tokens in `hidden`, such as ends, have no text."""
        self._tokenizer, self._is_chat, self._stops, self._hidden = tokenizer, is_chat, stops, hidden
        self._ids = list(trunk[-WINDOW:])
        self._start, self._read = 0, len(self._ids)
        self._longest = max(map(len, stops), default=0)
        self._sent = 0
        self.text = ""
        self.is_stopped = False

    def push(self, *tokens: int) -> str:
        """Take tokens, and return what can be shown now. With stop texts push one token at a time: the first stop ends the text."""
        if self.is_stopped:
            return ""
        self._ids += [token for token in tokens if token not in self._hidden]
        if self._read == len(self._ids):
            return ""
        added = self._added()
        if added.endswith(HALF):
            return ""
        self._start, self._read = self._read, len(self._ids)
        self._add(added)
        return self._upto(self._shown())

    def end(self) -> str:
        """Return the rest, when no token comes any more."""
        if not self.is_stopped and self._read < len(self._ids):
            self._add(self._added())
            self._read = len(self._ids)
        if self._is_chat:
            self.text = self.text.rstrip()
        return self._upto(len(self.text))

    def _added(self) -> str:
        """Return what the tokens since `_read` add to the text of those before them."""
        before, whole = (self._decode(self._ids[self._start : end]) for end in (self._read, len(self._ids)))
        return whole[len(before) :]

    def _add(self, text: str) -> None:
        if self._is_chat and not self.text:
            text = text.lstrip()
        seen = max(len(self.text) - self._longest + 1, 0)
        self.text += text
        found = [at for at in (self.text.find(stop, seen) for stop in self._stops) if at >= 0]
        if found:
            self.text, self.is_stopped = self.text[: min(found)], True

    def _shown(self) -> int:
        """Return the length without an end that may become a stop text, and without white space that a chat may not end with."""
        shown = len(self.text)
        if not self.is_stopped:
            lengths = range(min(self._longest - 1, len(self.text)), 0, -1)
            shown -= next((length for length in lengths if any(stop.startswith(self.text[-length:]) for stop in self._stops)), 0)
        return len(self.text[:shown].rstrip()) if self._is_chat else shown

    def _upto(self, end: int) -> str:
        part = self.text[self._sent : end]
        self._sent = max(end, self._sent)
        return part

    def _decode(self, ids: list[int]) -> str:
        return cast("str", self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
