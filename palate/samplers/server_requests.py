"""What all samplers that ask servers have in common: the fields of a request, several requests at a time, and words for what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from palate.clients.http import RequestFailed
from palate.core import Sampling

T = TypeVar("T")


def drawing_fields(sampling: Sampling, budget: int, seed: int) -> dict[str, object]:
    """Return the fields of OpenAI's API that say how to draw. All are sent, because a server may have other defaults for a model."""
    return {
        "max_tokens": budget,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "seed": seed >> 32,  # 31 bits, which every server takes
        "logprobs": 1,
    }


def further_fields(sampling: Sampling, end_ids: Collection[int]) -> dict[str, object]:
    """Return the fields that OpenAI's own API does not have, and that vLLM, SGLang and llama.cpp take or ignore."""
    return {
        "top_k": sampling.top_k or -1,  # what all servers take for no limit
        "min_p": sampling.min_p,
        "repetition_penalty": 1.0,
        "stop_token_ids": sorted(end_ids),
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def asked_together(ask: Callable[[int], T], numbers: Sequence[int], concurrency: int) -> list[T]:
    """Return what `ask` returns for each number, several at a time; after a failure no further request is sent."""
    pool = ThreadPoolExecutor(concurrency)
    try:
        return list(pool.map(ask, numbers))
    finally:
        pool.shutdown(cancel_futures=True)


def told(failure: RequestFailed) -> str:
    """Return the failure as the end of a sentence that begins with the server."""
    match failure.kind:
        case "timeout":
            return f"gave {failure}"
        case "unreachable":
            return f"cannot be reached ({failure})"
        case _:
            return str(failure)
