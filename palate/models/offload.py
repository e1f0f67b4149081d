"""Frozen models that lie in the CPU's memory while they do not compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its own parameters."""


class Offload:
    """The weights of a frozen model: on the CPU, except while the model is used.

    Weights do not change, so they are copied to the device before each use, and forgotten there afterwards. On a GPU they come from pinned
    memory, on a stream of their own, while the processor and the GPU go on with other work. Buffers stay on the device: they are small.
    """

    def __init__(self, module: nn.Module) -> None:
        """Take the weights of `module` off its device. They must be frozen, and no other model may share them."""
        self._device = next(module.parameters()).device
        is_cuda = self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if is_cuda else None
        slots: dict[int, list[Slot]] = {}
        weights: dict[int, nn.Parameter] = {}
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                slots.setdefault(id(weight), []).append((part, name))
                weights[id(weight)] = weight
        self._slots = list(slots.values())
        """Where each weight stands; one that is tied stands in several places."""
        kept = (weight.detach().to("cpu") for weight in weights.values())
        self._resting = [nn.Parameter(x.pin_memory() if is_cuda else x, requires_grad=False) for x in kept]
        self._fetched: list[nn.Parameter] = []
        self._put(self._resting)

    def fetch(self) -> None:
        """Begin to copy the weights to the device, unless that has begun."""
        if self._fetched:
            return
        if self._stream is None:
            self._fetched = [nn.Parameter(weight.to(self._device), requires_grad=False) for weight in self._resting]
            return
        # Memory of the stream that computes: it is not used again before that stream's work with it is over.
        self._fetched = [nn.Parameter(torch.empty_like(weight, device=self._device), requires_grad=False) for weight in self._resting]
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream), torch.no_grad():
            for there, weight in zip(self._fetched, self._resting, strict=True):
                there.copy_(weight, non_blocking=True)

    @contextmanager
    def used(self) -> Iterator[None]:
        """A context in which the weights are on the device."""
        self.fetch()
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._put(self._fetched)
        try:
            yield
        finally:
            self._put(self._resting)
            self._fetched = []

    def _put(self, weights: list[nn.Parameter]) -> None:
        for places, weight in zip(self._slots, weights, strict=True):
            for part, name in places:
                part.register_parameter(name, weight)


def shares_weights(module: nn.Module, *others: nn.Module) -> bool:
    """Return whether a model has a weight in common with one of the others."""
    return not _places(module).isdisjoint(place for other in others for place in _places(other))


def _places(module: nn.Module) -> set[int]:
    """Return where the weights lie; a weight whose device does not tell stands for itself."""
    return {weight.data_ptr() or id(weight) for weight in module.parameters()}
