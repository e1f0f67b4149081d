"""Probabilities of options from vLLM's `/generative_scoring`, which scores any token and not only the likeliest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.clients.chat import PATH
from palate.clients.http import Endpoint, RequestFailed

Post = Callable[[Endpoint, object], object]
"""Sends JSON to an address, with the caller's deadline and retries, and returns the JSON value of the answer."""


@dataclass(frozen=True)
class LabelScoring:
    """A vLLM server's `/tokenize` and `/generative_scoring`, which lie beside its `/v1`.

    Attributes:
        url: base of the server's API (`http://host:port/v1`).
        model: the model's name there.
    """

    url: str
    model: str
    _option_ids: dict[str, int] = field(default_factory=dict)

    def answer(self, body: Mapping[str, Any], options: Sequence[str], post: Post) -> dict[str, object]:
        """Return the probabilities of the first token of each option after a conversation, in the form of an answer for chat.

        There is one request for each option, because the server gives the probability of the first label alone. `scores` holds its answers.

        Raises:
            RequestFailed: a request failed, or two options begin with the same token.
        """
        ids = [self._option_id(option, post) for option in options]
        for k, one in enumerate(ids):
            if one in ids[:k]:
                pair = f"{options[ids.index(one)]!r} and {options[k]!r}"
                raise RequestFailed(f"begins the options {pair} with the same token; name options that begin differently", "invalid")
        prompt = self._tokens({name: value for name, value in body.items() if name in TOKENIZE_FIELDS}, post)
        scores, tokens = [], 0
        for k in range(len(options)):
            # `apply_softmax: false` keeps the probability among all tokens, which says whether the model wants any of the options.
            labels = [ids[k], *ids[:k], *ids[k + 1 :]]
            request = {"query": prompt[:-1], "items": [prompt[-1:]], "label_token_ids": labels, "apply_softmax": False}
            scores.append(post(self._at("/generative_scoring"), {"model": self.model, **request}))
            tokens += len(prompt)
        top = [{"token": option, "logprob": _logp(score)} for option, score in zip(options, scores, strict=True)]
        likely = [one for one in top if one["logprob"] is not None]
        if not likely:
            raise RequestFailed("gives none of the options a probability", "invalid", is_sent=True)
        choice = {"message": {"content": ""}, "finish_reason": "length", "logprobs": {"content": [{**likely[0], "top_logprobs": likely}]}}
        return {"choices": [choice], "usage": {"prompt_tokens": tokens, "completion_tokens": len(options)}, "scores": scores}

    def _option_id(self, option: str, post: Post) -> int:
        if option not in self._option_ids:
            self._option_ids[option] = self._tokens({"prompt": option, "add_special_tokens": False}, post)[0]
        return self._option_ids[option]

    def _tokens(self, content: Mapping[str, object], post: Post) -> list[int]:
        answer = post(self._at("/tokenize"), {"model": self.model, **content})
        tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
        if not isinstance(tokens, list) or not tokens or not all(type(token) is int for token in tokens):
            raise RequestFailed(f"answered without tokens: {str(answer)[:80]!r}", "invalid", is_sent=True)
        return tokens

    def _at(self, path: str) -> Endpoint:
        return Endpoint.of("judge", self.url.rstrip("/").removesuffix(PATH).removesuffix("/v1") + path)


TOKENIZE_FIELDS = ("messages", "add_generation_prompt", "continue_final_message", "chat_template", "chat_template_kwargs")


def _logp(answer: object) -> float | None:
    """Return the log-probability in nats of the first label; None where its probability is 0."""
    try:
        score = answer["data"][0]["score"]  # type: ignore[index]
    except (LookupError, TypeError):
        score = None
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise RequestFailed(f"answered without a probability: {str(answer)[:80]!r}", "invalid", is_sent=True)
    return math.log(score) if score > 0 else None
