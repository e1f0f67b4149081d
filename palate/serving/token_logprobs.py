"""The log-probabilities of tokens that this process drew, in OpenAI's two forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, cast

from palate.samplers.draw_requests import DrawnToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOWEST_LOGP = -9999.0
"""What OpenAI writes for a log-probability of minus infinity, which JSON does not have."""


@dataclass(frozen=True)
class LogprobsForm:
    """Writes log-probabilities.

    Attributes:
        tokenizer: writes tokens as texts.
        is_chat: whether they belong to a chat.
    """

    tokenizer: PreTrainedTokenizerBase
    is_chat: bool

    def __call__(self, drawn: Sequence[DrawnToken]) -> dict[str, object]:
        """Return the JSON value for tokens with log-probabilities."""
        if self.is_chat:
            entries = [
                {**self._entry(one.token, one.logp), "top_logprobs": [self._entry(*like) for like in one.likeliest]} for one in drawn
            ]
            return {"content": entries, "refusal": None}
        texts = [self._token(one.token) for one in drawn]
        tops = [{self._token(token): _finite(logp) for token, logp in reversed(one.likeliest)} for one in drawn]
        logps = [_finite(one.logp) for one in drawn]
        return {"tokens": texts, "token_logprobs": logps, "top_logprobs": tops, "text_offset": text_offsets(texts)}

    def _entry(self, token: int, logp: float | None) -> dict[str, object]:
        text = self._token(token)
        return {"token": text, "logprob": _finite(logp), "bytes": list(text.encode("utf-8", "replace"))}

    def _token(self, token: int) -> str:
        return cast("str", self.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def text_offsets(texts: Sequence[str]) -> list[int]:
    """Return where each token's text begins."""
    return list(accumulate(map(len, texts), initial=0))[:-1]


def _finite(logp: float | None) -> float | None:
    return None if logp is None else max(logp, LOWEST_LOGP)
