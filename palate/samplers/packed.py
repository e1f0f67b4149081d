"""Decoding with a model that takes packed trees: it prefills prompts together without padding, and refills rows that are done."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.samplers.cache import Cache, LayerRows, Prefill, Step
from palate.samplers.forward import Forward
from palate.samplers.graphs import GraphedSteps
from palate.samplers.requests import Prompts, Share

_PREFILL_TOKENS = 4096
"""Largest number of prompt tokens in one prefill, which bounds the memory of its activations."""

_LEAST_FILL = 0.75
"""A prompt shorter than this share of the longest one starts another prefill, because attention there is padded."""

REFILL_SHARE = 4
"""Rows are refilled when one in this many is free, so that a prefill serves several prompts; 2 to 4 were fastest among 2 to 256."""


@dataclass(frozen=True)
class _PrefilledPrompt:
    """A prefilled prompt with samples that still wait: its logits (1, v), and keys and values by layer (one row)."""

    prompt: int
    logits: Tensor
    layers: tuple[tuple[int, LayerRows], ...]


class PackedRows:
    """Active rows over a `Forward`; each prompt is prefilled once, whatever the number of its samples."""

    def __init__(
        self, forward: Forward, cache: Cache, prompts: Prompts, *, longest: int, slots: int, device: torch.device, is_eager: bool = False
    ) -> None:
        """Decode up to `slots` rows of at most `longest` tokens.

        Args:
            forward: the model.
            cache: memory of keys and values, whose content is dropped.
            prompts: token ids by the prompt's number; prompts may be added later.
            longest: tokens of a prompt and its sample together, at most.
            slots: number of rows.
            device: where the model is.
            is_eager: whether any free row is filled at once. Otherwise refilling waits until several rows are free, which is faster.
        """
        self._forward = forward
        self._cache = cache
        self._prompts = prompts
        self._slots = slots
        self._least_free = 1 if is_eager else -(-slots // REFILL_SHARE)
        self._held: _PrefilledPrompt | None = None
        self._lengths = torch.empty(0, dtype=torch.long, device=device)  # (b,) number of tokens in the cache
        self._longest = 0
        cache.reshape(slots, longest)
        self._lays_out = device.type == "cpu"
        # Recording must not meet what another thread does on the GPU, such as learning.
        is_recorded = device.type == "cuda" and forward.is_steady and threading.current_thread() is threading.main_thread()
        self._graphs = GraphedSteps(forward, cache, device) if is_recorded else None

    def places(self) -> int:
        """Return the number of free rows; 0 while few are free and others can continue."""
        free = self._slots - len(self._lengths)
        return free if free >= self._least_free else 0

    def admit(self, shares: Sequence[Share]) -> Tensor:
        """Return logits (new, v) of the first token of each request."""
        longest = max(share.longest for share in shares)
        if self._lays_out and longest:
            self._cache.lay_out(longest, len(self._lengths))
        logits = []
        if self._held is not None and shares[0].prompt == self._held.prompt:
            logits.append(self._admit_held(self._held, shares[0].count))
            shares = shares[1:]
        logits.extend(self._prefill(batch) for batch in self._batches(shares))
        if shares:
            self._hold(shares[-1], logits[-1][-1:])
        return torch.cat(logits)

    def advance(self, tokens: Tensor) -> Tensor:
        """Return logits (b, v) of each row's next token."""
        if self._graphs is not None:
            logits = self._graphs.logits(tokens, self._lengths, self._longest)
        else:
            step = Step(self._cache, self._lengths, self._longest)
            logits = self._forward.logits(tokens[None], self._lengths[None], step)
        self._lengths = self._lengths + 1
        self._longest += 1
        return logits

    def keep(self, alive: Tensor) -> Tensor:
        """Drop rows; the last ones move into the holes, so that few keys and values are copied."""
        count = int(alive.sum())
        holes = (~alive[:count]).nonzero()[:, 0]
        movers = alive[count:].nonzero()[:, 0] + count
        order = torch.arange(count, device=alive.device)
        order[holes] = movers
        if len(holes):
            self._cache.move(movers, holes, self._longest)
        self._lengths = self._lengths[order]
        self._longest = int(self._lengths.max()) if count else 0
        return order

    def _batches(self, shares: Sequence[Share]) -> Iterator[list[Share]]:
        """Yield shares in batches of similar prompt length and bounded size, longest first."""
        batch: list[Share] = []
        for share in shares:
            length = len(self._prompts[share.prompt])
            if batch:
                longest = len(self._prompts[batch[0].prompt])
                if length < _LEAST_FILL * longest or (len(batch) + 1) * longest > _PREFILL_TOKENS:
                    yield batch
                    batch = []
            batch.append(share)
        if batch:
            yield batch

    def _prefill(self, shares: Sequence[Share]) -> Tensor:
        prompts = [self._prompts[share.prompt] for share in shares]
        device = self._lengths.device
        ids = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        repeats = torch.tensor([share.count for share in shares], device=device)
        prefill = Prefill(self._cache, lengths, repeats, first_row=len(self._lengths))
        logits = self._forward.logits(ids[None], prefill.positions[None], prefill, prefill.last)
        self._add(lengths.repeat_interleave(repeats))
        return logits.repeat_interleave(repeats, 0)

    def _add(self, lengths: Tensor) -> None:
        self._lengths = torch.cat((self._lengths, lengths))
        self._longest = max(self._longest, int(lengths.max()))

    def _hold(self, share: Share, logits: Tensor) -> None:
        """Keep the last admitted prompt if some of its samples wait; its last row holds only the prompt so far."""
        self._held = None
        if share.waiting:
            row = torch.tensor([len(self._lengths) - 1], device=self._lengths.device)
            length = len(self._prompts[share.prompt])
            layers = tuple((number, layer.picked(row, length)) for number, layer in self._cache.layers())
            self._held = _PrefilledPrompt(share.prompt, logits, layers)

    def _admit_held(self, prefilled: _PrefilledPrompt, count: int) -> Tensor:
        first = len(self._lengths)
        for number, layer in prefilled.layers:
            self._cache.layer(number).write(slice(first, first + count), layer)
        self._add(torch.full((count,), len(self._prompts[prefilled.prompt]), device=self._lengths.device))
        return prefilled.logits.expand(count, -1)
