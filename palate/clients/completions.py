"""Client for the completions of an OpenAI-compatible API: a prompt of token ids in, texts with their tokens and log-probabilities out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.clients.chat import ENDED
from palate.clients.http import Endpoint, RequestFailed

COMPLETIONS_PATH = "/completions"


def completions_endpoint(kind: str, url: str) -> Endpoint:
    """Return the endpoint for completions at the base of an API, such as `http://127.0.0.1:8000/v1`.

    Raises:
        ConfigError: as `Endpoint.of`.
    """
    return Endpoint.of(kind, url.rstrip("/").removesuffix(COMPLETIONS_PATH) + COMPLETIONS_PATH)


@dataclass(frozen=True)
class CompletionChoice:
    """One completion as a server gives it.

    Attributes:
        text: its text.
        is_ended: whether the model ended it; else it was cut.
        ids: its token ids; None where the server does not say them.
        logps: the log-probability of each token in nats, NaN where there is none; None where the server does not say them.
    """

    text: str
    is_ended: bool
    ids: tuple[int, ...] | None = None
    logps: tuple[float, ...] | None = None


@dataclass(frozen=True)
class CompletionsClient:
    """A model that continues token ids.

    Attributes:
        endpoint: its address (`completions_endpoint`).
        model: its name there.
        headers: headers of each request, such as `bearer(key)`.
        options: further fields of each request, such as `temperature` and `max_tokens`.
    """

    endpoint: Endpoint
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Mapping[str, object] = field(default_factory=dict)

    def complete(
        self, prompt: Sequence[int], options: Mapping[str, object], n: int, deadline: float, *, attempts: int | None = None
    ) -> list[CompletionChoice]:
        """Return `n` completions of a prompt of token ids, as `Endpoint.post` obtains them; `options` are further fields of this request.

        Raises:
            RequestFailed: there is no answer, or it is of kind `invalid` because it does not hold `n` completions.
        """
        content = {"model": self.model, "prompt": list(prompt), "n": n, **self.options, **options}
        answer = self.endpoint.post(content, self.headers, deadline, attempts=attempts)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise RequestFailed(f"answered without completions: {str(answer)[:80]!r}", "invalid")
        if len(choices) != n:
            raise RequestFailed(f"answered with {len(choices)} completions instead of {n}", "invalid")
        return [_choice(choice) for choice in sorted(choices, key=_index)]

    def prompt_logps(self, prompt: Sequence[int], deadline: float) -> list[float]:
        """Return vLLM's log-probability of each token of a prompt after the first, given those before it, nats.

        The field that asks for them is vLLM's own. vLLM computes such a prompt afresh, whatever its cache holds.

        Raises:
            RequestFailed: there is no answer, or it is of kind `invalid` because it does not hold a number per token.
        """
        content = {"model": self.model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, **self.options}
        answer: Any = self.endpoint.post(content, self.headers, deadline, attempts=1)
        try:
            entries = answer["choices"][0]["prompt_logprobs"][1:]
            return [float(entry[str(token)]["logprob"]) for entry, token in zip(entries, prompt[1:], strict=True)]
        except (LookupError, TypeError, ValueError) as error:
            raise RequestFailed(f"answered without a log-probability per token of the prompt: {str(answer)[:80]!r}", "invalid") from error


def _index(choice: Mapping[str, Any]) -> int:
    """Return the number of a choice. Where a server does not number them, the order of the answer stays."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _choice(choice: Mapping[str, Any]) -> CompletionChoice:
    text, finish, ids = choice.get("text"), choice.get("finish_reason"), choice.get("token_ids")
    if not isinstance(text, str):
        raise RequestFailed(f"answered with a completion without text: {str(choice)[:80]!r}", "invalid")
    if ids is not None and not (isinstance(ids, list) and all(type(token) is int and token >= 0 for token in ids)):
        raise RequestFailed(f"answered with token ids that are not numbers: {str(ids)[:80]!r}", "invalid")
    logps = _logps(choice.get("logprobs"))
    if ids is not None and logps is not None and len(ids) != len(logps):
        raise RequestFailed(f"answered with {len(logps)} log-probabilities of {len(ids)} tokens", "invalid")
    is_ended = isinstance(finish, str) and finish.lower() in ENDED
    return CompletionChoice(text, is_ended, None if ids is None else tuple(ids), logps)


def _logps(logprobs: object) -> tuple[float, ...] | None:
    if logprobs is None:
        return None
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(values, list) or not all(value is None or type(value) in (int, float) for value in values):
        raise RequestFailed(f"answered with log-probabilities that are not numbers: {str(logprobs)[:80]!r}", "invalid")
    return tuple(math.nan if value is None else float(value) for value in values)
