"""The JSON of answers: whole ones and the parts of a stream, in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from palate.samplers.draw_requests import DrawnToken
from palate.serving.drawing import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOWEST_LOGP = -9999.0
"""What OpenAI writes for a log-probability of minus infinity, which JSON does not have."""

END = b"data: [DONE]\n\n"
"""The last part of a stream."""


@dataclass(frozen=True)
class SentAnswer:
    """One answer as it is sent.

    Attributes:
        text: what it says.
        finish: why it ends.
        ids: its token ids; () where a filter wrote the text.
        drawn: its tokens with log-probabilities, where they are asked for.
        score: what the reward model gives it; None where it has none.
        scores: its score by dimension.
    """

    text: str
    finish: FinishReason
    ids: tuple[int, ...] = ()
    drawn: tuple[DrawnToken, ...] = ()
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
        has_logps: whether log-probabilities are asked for.
        has_ids: whether token ids are asked for.
        tokenizer: writes tokens as texts.
    """

    id: str
    created: int
    model: str
    is_chat: bool
    has_logps: bool
    has_ids: bool
    tokenizer: PreTrainedTokenizerBase

    def whole(self, choices: Sequence[SentAnswer], usage: Mapping[str, int]) -> dict[str, object]:
        """Return the answer of a request that does not stream."""
        kind = "chat.completion" if self.is_chat else "text_completion"
        return {**self._head(kind), "choices": [self._choice(number, one) for number, one in enumerate(choices)], "usage": dict(usage)}

    def part(self, index: int, text: str, drawn: Sequence[DrawnToken] = (), *, is_first: bool = False) -> bytes:
        """Return more text of a choice, as an event of a stream."""
        role = {"role": "assistant"} if is_first else {}
        own: dict[str, object] = {"delta": {**role, "content": text}} if self.is_chat else {"text": text}
        return self._event([{"index": index, **own, "logprobs": self._logprobs(drawn), "finish_reason": None}])

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
        logprobs = self._logprobs(choice.drawn)
        return {"index": number, **own, "logprobs": logprobs, **self._further(choice), "finish_reason": choice.finish}

    def _further(self, choice: SentAnswer) -> dict[str, object]:
        ids = {"token_ids": list(choice.ids)} if self.has_ids else {}
        return {**ids, **({} if choice.score is None else {"score": choice.score, "scores": dict(choice.scores)})}

    def _logprobs(self, drawn: Sequence[DrawnToken]) -> dict[str, object] | None:
        if not self.has_logps:
            return None
        if self.is_chat:
            entries = [
                {**self._entry(one.token, one.logp), "top_logprobs": [self._entry(*like) for like in one.likeliest]} for one in drawn
            ]
            return {"content": entries, "refusal": None}
        texts = [self._token(one.token) for one in drawn]
        offsets = [sum(map(len, texts[:k])) for k in range(len(texts))]
        tops = [{self._token(token): _finite(logp) for token, logp in reversed(one.likeliest)} for one in drawn]
        return {"tokens": texts, "token_logprobs": [_finite(one.logp) for one in drawn], "top_logprobs": tops, "text_offset": offsets}

    def _entry(self, token: int, logp: float | None) -> dict[str, object]:
        text = self._token(token)
        return {"token": text, "logprob": _finite(logp), "bytes": list(text.encode("utf-8", "replace"))}

    def _token(self, token: int) -> str:
        return cast("str", self.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def event(value: object) -> bytes:
    """Return a value as an event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n\n"


def _finite(logp: float | None) -> float | None:
    return None if logp is None else max(logp, LOWEST_LOGP)
