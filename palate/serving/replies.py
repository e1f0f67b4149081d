"""The JSON of answers: whole ones and the parts of a stream, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from palate.serving.answer_sources import FinishReason, Logprobs

END = b"data: [DONE]\n\n"
"""The last part of a stream."""


@dataclass(frozen=True)
class SentAnswer:
    """One answer as it is sent.

    Attributes:
        text: what it says.
        finish: why it ends.
        ids: its token ids; () where a filter wrote the text, None where nobody says them.
        logprobs: the log-probabilities of its tokens, where they are asked for.
        score: what the reward model gives it; None where it has none.
        scores: its score by dimension.
    """

    text: str
    finish: FinishReason
    ids: tuple[int, ...] | None = ()
    logprobs: Logprobs | None = None
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplyForm:
    """How the answers of one request are written.

    Attributes:
        id: names the request; feedback refers to it.
        created: seconds since 1970.
        model: the model's name.
        is_chat: whether it is a chat.
        has_ids: whether token ids are asked for.
    """

    id: str
    created: int
    model: str
    is_chat: bool
    has_ids: bool

    def whole(self, choices: Sequence[SentAnswer], usage: Mapping[str, int]) -> dict[str, object]:
        """Return the answer of a request that does not stream."""
        kind = "chat.completion" if self.is_chat else "text_completion"
        return {**self._head(kind), "choices": [self._choice(number, one) for number, one in enumerate(choices)], "usage": dict(usage)}

    def part(self, index: int, text: str, logprobs: Logprobs | None = None, *, is_first: bool = False) -> bytes:
        """Return more text of a choice, as an event of a stream."""
        role = {"role": "assistant"} if is_first else {}
        own: dict[str, object] = {"delta": {**role, "content": text}} if self.is_chat else {"text": text}
        return self._event([{"index": index, **own, "logprobs": logprobs, "finish_reason": None}])

    def last_part(self, index: int, choice: SentAnswer) -> bytes:
        """Return the end of a choice, as an event of a stream; its text has been sent."""
        own: dict[str, object] = {"delta": {}} if self.is_chat else {"text": ""}
        return self._event([{"index": index, **own, "logprobs": None, **self._further(choice), "finish_reason": choice.finish}])

    def usage_part(self, usage: Mapping[str, int]) -> bytes:
        """Return the tokens of a request, as an event of a stream."""
        return event({**self._head(self._stream_kind), "choices": [], "usage": dict(usage)})

    @property
    def _stream_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _event(self, choices: Sequence[Mapping[str, object]]) -> bytes:
        return event({**self._head(self._stream_kind), "choices": choices})

    def _choice(self, number: int, choice: SentAnswer) -> dict[str, object]:
        own: dict[str, object] = {"text": choice.text}
        if self.is_chat:
            own = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        return {"index": number, **own, "logprobs": choice.logprobs, **self._further(choice), "finish_reason": choice.finish}

    def _further(self, choice: SentAnswer) -> dict[str, object]:
        ids = {"token_ids": None if choice.ids is None else list(choice.ids)} if self.has_ids else {}
        return {**ids, **({} if choice.score is None else {"score": choice.score, "scores": dict(choice.scores)})}


def event(value: object) -> bytes:
    """Return a value as an event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n\n"
