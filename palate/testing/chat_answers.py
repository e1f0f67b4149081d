"""Answers of a chat model behind a `CompletionsServer`, as a judge gives them: texts, log-probabilities, cut and refused replies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def chat_answer(
    text: str | None,
    *,
    finish: str | None = "stop",
    options: Mapping[str, float] | None = None,
    usage: tuple[int, int] | None = (100, 1),
    refusal: str | None = None,
) -> dict[str, object]:
    """Return an answer of the API for chat.

    Args:
        text: the message.
        finish: why it ends.
        options: log-probabilities in nats of the likeliest first tokens, by their text; None reports none.
        usage: tokens read and written; None leaves out the field.
        refusal: a refusal in a field of its own.
    """
    message: dict[str, object] = {"role": "assistant", "content": text, **({} if refusal is None else {"refusal": refusal})}
    choice: dict[str, object] = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    if options is not None:
        top = [{"token": token, "logprob": logp, "bytes": list(token.encode())} for token, logp in options.items()]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    counted = {} if usage is None else {"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}}
    return {"object": "chat.completion", "choices": [choice], **counted}


def option_answer(logit: float, *, first: str = "A", second: str = "B", usage: tuple[int, int] | None = (100, 1)) -> dict[str, object]:
    """Return an answer in which the log-odds of the first option against the second are `logit`; other tokens have little probability."""
    log_first, log_second = -_softplus(-logit), -_softplus(logit)
    text = first if logit > 0 else second
    likely = {first: log_first - 1e-3, f" {second}": log_second - 1e-3, "I": math.log(1e-4)}
    return chat_answer(text, finish="length", options=likely, usage=usage)


def choice_answer(logits: Sequence[float], *, usage: tuple[int, int] | None = (100, 1)) -> dict[str, object]:
    """Return an answer whose options A, B, C, ... have these logits; other tokens have little probability."""
    top = max(logits)
    total = top + math.log(math.fsum(math.exp(logit - top) for logit in logits))
    likely = {chr(ord("A") + place): logit - total - 1e-3 for place, logit in enumerate(logits)}
    first = max(likely, key=likely.__getitem__)
    return chat_answer(first, finish="length", options={**likely, "I": math.log(1e-4)}, usage=usage)


def asked_ranking(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the answers in the question of a shipped instruction for rankings, in the order shown."""
    user = next(message["content"] for message in body["messages"] if message["role"] == "user")
    return tuple(part.removesuffix("\n") for part in user.split("=====\n")[3::2])


def asked_pair(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the two answers in the question of a shipped pairwise instruction, in the order shown."""
    user = next(message["content"] for message in body["messages"] if message["role"] == "user")
    parts = user.split("=====\n")
    return parts[3].removesuffix("\n"), parts[5].removesuffix("\n")


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
