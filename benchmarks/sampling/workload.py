"""The calls of both sides, one line of JSON each. It does not import Palate, as the peer reads it too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

NEVER = -1
"""An EOS id that no token has."""


@dataclass(frozen=True)
class Work:
    """One call of a sampler.

    Attributes:
        prompts: token ids.
        end_ids: any of them ends a completion.
        max_tokens: longest completion.
        dtype: float32 or bfloat16.
        method: how the peer does it: generate, or generate_batch.
        batch: rows that `generate` is given at once; ours has as many slots.
        seed: of this call.
    """

    prompts: tuple[tuple[int, ...], ...]
    end_ids: tuple[int, ...]
    max_tokens: int
    dtype: str
    method: str
    batch: int
    seed: int

    def line(self) -> str:
        """Return it for a worker's standard input."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Done:
    """The seconds of a call, and the tokens of each completion with its EOS token."""

    seconds: float
    lengths: tuple[int, ...]

    @property
    def rate(self) -> float:
        """New tokens per second."""
        return sum(self.lengths) / self.seconds


def serve(draw: Callable[[Work], Sequence[int]]) -> None:
    """Answer each line of standard input with the time of `draw`, which returns the completions' lengths."""
    for line in sys.stdin:
        work = Work(**json.loads(line))
        begun = time.perf_counter()
        lengths = draw(work)
        sys.stdout.write(json.dumps(["done", time.perf_counter() - begun, list(lengths)]) + "\n")
        sys.stdout.flush()
