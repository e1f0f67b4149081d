"""Decoding steps on a GPU as CUDA graphs: a step's operations are recorded once and then started together.

A step of a small model consists of some hundred short operations, and starting them one by one takes longer than computing them. A graph
reads and writes the same memory each time, so tokens and lengths are copied into tensors of its own first. Rows and columns are rounded up,
so that a few graphs serve a call. The rows after the last one write to unused rows of the cache.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from palate.models.paths import TOLERANCE
from palate.samplers.cache import Cache, Step, gpu_columns
from palate.samplers.forward import Forward
from palate.text.attention_plan import round_up

Replay = Callable[[], Tensor]
"""Computes the recorded operations again, and returns their result, which the next call overwrites."""

Record = Callable[[Callable[[], Tensor]], Replay]


class GraphWarning(UserWarning):
    """A GPU decodes without CUDA graphs, which is slower."""


def cuda_graph(act: Callable[[], Tensor]) -> Replay:
    """Record what `act` does on the GPU as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = act()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


class GraphedSteps:
    """The decoding steps of one call of the sampler. A shape is computed plainly at first, and recorded when it comes again.

    A graph is compared with the plain step before it is used. Where recording fails or the numbers differ, one warning says why, and all
    steps are computed plainly.
    """

    def __init__(self, forward: Forward, cache: Cache, device: torch.device, record: Record = cuda_graph) -> None:
        """Decode with `forward` into `cache`, whose rows and columns are those of the call."""
        self._forward, self._cache, self._record = forward, cache, record
        self._tokens, self._lengths = torch.zeros(2, cache.rows, dtype=torch.long, device=device)
        self._met: set[tuple[int, int]] = set()
        self._graphs: dict[tuple[int, int], Replay] = {}
        self._is_on = True

    def logits(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Return logits (b, v) of each row's next token, given its last one (b,) and the tokens before it (b,), `longest` at most.

        The next call overwrites them.
        """
        count = len(tokens)
        if not self._is_on:
            return self._forward.logits(tokens[None], lengths[None], Step(self._cache, lengths, longest))
        shape = min(round_up(count, 4), self._cache.rows), gpu_columns(longest, self._cache)
        for own, given in ((self._tokens, tokens), (self._lengths, lengths)):
            own[:count] = given
            own[count:] = 0
        if shape in self._graphs:
            return self._graphs[shape]()[:count]
        logits = self._plain(shape)
        if shape in self._met:
            self._add(shape, logits)
        self._met.add(shape)
        return logits[:count]

    def _plain(self, shape: tuple[int, int]) -> Tensor:
        """Return logits (rows, v) of a step of this shape; computed again it writes the same keys and values."""
        rows, columns = shape
        tokens, lengths = self._tokens[:rows], self._lengths[:rows]
        return self._forward.logits(tokens[None], lengths[None], Step(self._cache, lengths, columns - 1))

    def _add(self, shape: tuple[int, int], expected: Tensor) -> None:
        """Record the step of this shape, unless that fails or gives other logits than `expected`."""
        try:
            replay = self._record(lambda: self._plain(shape))
            gap = float((replay() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
            reason = f"its logits are off by {gap:.2g} of the largest" if gap > TOLERANCE[expected.dtype] else None
        except RuntimeError as error:
            reason = f"{type(error).__name__}: {str(error).strip()[:200]}"
        if reason is None:
            self._graphs[shape] = replay
            return
        self._is_on = False
        warnings.warn(
            f"sampling goes on without CUDA graphs, which is slower and gives the same tokens ({reason})", GraphWarning, stacklevel=3
        )
