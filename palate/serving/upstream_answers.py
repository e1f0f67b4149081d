"""The answers in the stream of another server, put together from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.clients.chat import ENDED
from palate.clients.http import RequestFailed
from palate.serving.answer_sources import DrawnAnswer, DrawPlan, FinishReason, Logprobs, TextDelta
from palate.serving.token_logprobs import text_offsets


class StreamedAnswers:
    """Takes the events of a stream, and gives texts and finished answers.

    Attributes:
        read_tokens: tokens of the prompt, as the server counts them.
        drawn_tokens: tokens of the answers, as the server counts them.
    """

    def __init__(self, plan: DrawPlan, *, is_chat: bool) -> None:
        self._plan, self._is_chat = plan, is_chat
        self._samples = [_Sample() for _ in range(plan.n)]
        self.read_tokens = self.drawn_tokens = 0

    def push(self, value: Mapping[str, Any]) -> Iterable[TextDelta | DrawnAnswer]:
        """Yield what an event says. Raises RequestFailed where it is not one of such a stream."""
        if error := value.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            raise RequestFailed(f"broke its answer off: {str(message)[:200]}", "invalid", is_sent=True)
        usage = value.get("usage")
        if isinstance(usage, dict):
            self.read_tokens = _count(usage, "prompt_tokens") or self.read_tokens
            self.drawn_tokens = _count(usage, "completion_tokens") or self.drawn_tokens
        choices = value.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise RequestFailed(f"sent an event without choices: {str(value)[:80]!r}", "invalid", is_sent=True)
        for choice in choices:
            yield from self._choice(choice)

    def end(self) -> None:
        """Check that all answers are whole. Raises RequestFailed."""
        missing = sum(own.finish is None for own in self._samples)
        if missing:
            raise RequestFailed(f"broke off before {missing} of {self._plan.n} answers were whole", "unreachable", is_sent=True)

    def _choice(self, choice: Mapping[str, Any]) -> Iterable[TextDelta | DrawnAnswer]:
        number = choice.get("index", 0)
        if type(number) is not int or not 0 <= number < self._plan.n or self._samples[number].finish is not None:
            raise RequestFailed(f"sent text of answer {number!r}; {self._plan.n} were asked for", "invalid", is_sent=True)
        own = self._samples[number]
        delta = choice.get("delta") if self._is_chat else choice
        text = (delta.get("content" if self._is_chat else "text") or "") if isinstance(delta, dict) else None
        if not isinstance(text, str):
            raise RequestFailed(f"sent an answer without text: {str(choice)[:80]!r}", "invalid", is_sent=True)
        logprobs = choice.get("logprobs")
        own.add(text, logprobs if isinstance(logprobs, dict) else None, choice.get("token_ids"))
        if self._plan.streams and (text or logprobs):
            yield TextDelta(number, text, logprobs if isinstance(logprobs, dict) else None)
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            own.finish = _finish(finish)
            ids = tuple(own.ids) if own.has_ids else None
            yield DrawnAnswer(number, "".join(own.texts), own.finish, ids, logprobs=_joined(own.logprobs))


@dataclass
class _Sample:
    """One answer so far."""

    texts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    has_ids: bool = False
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    finish: FinishReason | None = None

    def add(self, text: str, logprobs: Mapping[str, Any] | None, ids: object) -> None:
        """Take what an event says about it."""
        self.texts.append(text)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        if isinstance(ids, list) and all(type(one) is int for one in ids):
            self.ids += ids
            self.has_ids = True


def _finish(word: str) -> FinishReason:
    if word == "content_filter":
        return "content_filter"
    return "stop" if word.lower() in {*ENDED, "tool_calls", "function_call"} else "length"


def _joined(parts: Sequence[Mapping[str, Any]]) -> Logprobs | None:
    """Return the log-probabilities of stretches of tokens as those of one; None where there are none."""
    if not parts:
        return None
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, list):
                own = whole.setdefault(name, [])
                own += value
            else:
                whole[name] = value
    texts = whole.get("tokens")
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        whole["text_offset"] = text_offsets(texts)  # each part counts from its own beginning
    return whole


def _count(usage: Mapping[str, Any], name: str) -> int:
    count = usage.get(name)
    return count if type(count) is int and count >= 0 else 0
