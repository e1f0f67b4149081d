"""The layers of a model shared out over ranks: each holds a slice of every layer, and puts a layer together while it computes.

Embeddings, the last norm and heads stay whole on every rank, so tied embeddings and whatever reads a head see ordinary weights. Of the
layers a rank has its slices and the one layer that computed last. A layer is put together before its forward pass, and again before its
backward pass. It takes the place of the layer before, so nothing needs to know when a layer is done with. Parameters keep their shapes
and their places. Where a layer is apart their numbers are NaN, so whatever reads them by mistake is not taken for a result.

Autograd keeps views of a weight from the forward pass to the backward pass. So a layer always comes together in the same storage, which
has no memory meanwhile.

This is what FSDP (Zhao et al. 2023) does with the layers of a model, but a rank copies slices out of the memory of others
(`palate.distributed.windows`) and does not wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from palate.core import ModelError


class SharingRanks(Protocol):
    """The ranks that share; see `palate.distributed.windows`."""

    world: int
    rank: int

    def open(self, count: int, dtype: torch.dtype, device: torch.device) -> Sequence[Tensor]:
        """Return memory of `count` numbers on every rank."""
        ...

    def meet(self, device: torch.device) -> None:
        """Wait until all ranks have written and read."""
        ...


@dataclass
class _Piece:
    """Weights of one layer that have one type, one after another; zeros at the end let the ranks' slices be equal.

    Attributes:
        starts: where each weight begins.
        length: numbers of a slice.
        offset: where the slice of this piece begins in the window of its type.
        whole: (ranks * length,), with memory only while the layer is put together.
    """

    starts: dict[int, tuple[nn.Parameter, int]]
    length: int
    offset: int
    whole: Tensor

    def slice_of(self, window: Tensor) -> Tensor:
        """Return the slice of this piece in a rank's window."""
        return window[self.offset : self.offset + self.length]


class Shards:
    """The layers of one model, shared out. All ranks must make it, `cast` it and leave it in the same order; all else is up to each."""

    def __init__(
        self,
        layers: Sequence[tuple[nn.Module, Sequence[nn.Parameter]]],
        windows: SharingRanks,
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Take `layers` apart, each with the weights to share out, and move the slices to `device`.

        Slices have the type `dtype`, except those of packed weights; None keeps the types of the weights. Of each weight a rank reads only
        its slice, so weights that are mapped from a file need no memory of their own.
        """
        self._windows, self._device = windows, device
        self._here: int | None = None
        """The layer that is put together."""
        self._are_together = False
        self._pieces: list[dict[torch.dtype, _Piece]] = []
        """The pieces of each layer, by the type that they had at first."""
        sizes: dict[torch.dtype, int] = {}
        for _, weights in layers:
            self._pieces.append(pieces := {})
            for was in dict.fromkeys(p.dtype for p in weights):
                starts, total = {}, 0
                for p in (p for p in weights if p.dtype == was):
                    starts[id(p)], total = (p, total), total + p.numel()
                length = -(-total // windows.world)
                pieces[was] = _Piece(starts, length, sizes.get(was, 0), torch.empty(0))
                sizes[was] = sizes.get(was, 0) + length
        self._parts = {was: tuple(windows.open(count, _held(was, dtype), device)) for was, count in sizes.items()}
        """The windows of all ranks, by the type that their weights had at first."""
        for number, (_, weights) in enumerate(layers):
            for p in weights:
                _HOMES[p] = (ref(self), number)
                self.put(p, p.data)
            self._prepare(number)
        self._hooks = [hook for number, (layer, _) in enumerate(layers) for hook in self._watch(number, layer)]
        windows.meet(device)

    @property
    def nbytes(self) -> int:
        """Return the bytes of this rank's slices."""
        return sum(parts[self._windows.rank].nbytes for parts in self._parts.values())

    @property
    def whole_nbytes(self) -> int:
        """Return the bytes of all layers together."""
        return self._windows.world * self.nbytes

    def gather(self, number: int) -> None:
        """Put a layer together, and take the one apart that was together before."""
        if self._are_together or self._here == number:
            return
        self.forget()
        with torch.no_grad():
            for dtype, piece in self._pieces[number].items():
                piece.whole.untyped_storage().resize_(piece.whole.numel() * piece.whole.itemsize)
                for rank, part in enumerate(self._parts[dtype]):
                    piece.whole[rank * piece.length : (rank + 1) * piece.length].copy_(piece.slice_of(part))
                for p, start in piece.starts.values():
                    p.data = piece.whole[start : start + p.numel()].view(p.shape)
        self._here = number

    def forget(self) -> None:
        """Give back the memory of the layer that is together. Call it also when weights changed."""
        if self._here is not None:
            for piece in self._pieces[self._here].values():
                self._take_apart(piece)
            self._here = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """A context in which all layers are together, for many passes through them, such as those of sampling."""
        self.forget()
        try:
            for number in range(len(self._pieces)):
                self.gather(number)
                self._here = None
            self._are_together = True
            yield
        finally:
            self._are_together = False
            for number in range(len(self._pieces)):
                self._here = number
                self.forget()

    def put(self, p: nn.Parameter, weight: Tensor) -> None:
        """Write this rank's part of a weight. No rank may read it meanwhile."""
        dtype, piece = self._piece_of(p)
        start, first = piece.starts[id(p)][1], self._windows.rank * piece.length
        low, high = max(start, first), min(start + p.numel(), first + piece.length)
        if low < high:
            with torch.no_grad():
                own = piece.slice_of(self._parts[dtype][self._windows.rank])
                own[low - first : high - first].copy_(weight.detach().reshape(-1)[low - start : high - start])

    def settle(self) -> None:
        """Let all ranks read what was `put`."""
        self.forget()
        self._windows.meet(self._device)

    def cast(self, dtype: torch.dtype) -> None:
        """Let the slices have another type, except those of packed weights."""
        if all(parts[0].dtype == dtype or not was.is_floating_point for was, parts in self._parts.items()):
            return
        self.forget()
        before = self._parts
        self._parts = {
            was: tuple(self._windows.open(len(parts[0]), dtype, self._device)) if was.is_floating_point else parts
            for was, parts in before.items()
        }
        for was, parts in self._parts.items():
            if parts is not before[was]:
                parts[self._windows.rank].copy_(before[was][self._windows.rank])
        for number in range(len(self._pieces)):
            self._prepare(number)
        self._windows.meet(self._device)

    def leave(self, p: nn.Parameter) -> None:
        """Give one weight memory of its own again."""
        self.gather(home_of(p)[1])
        del self._piece_of(p)[1].starts[id(p)], _HOMES[p]
        p.data = p.data.clone()

    def undo(self) -> None:
        """Give every weight memory of its own on the CPU again."""
        for number, pieces in enumerate(self._pieces):
            self.gather(number)
            self._here = None  # this layer is not to be taken apart any more
            for piece in pieces.values():
                for p, _ in piece.starts.values():
                    p.data = p.data.to("cpu", copy=True)
                    del _HOMES[p]
                piece.whole.untyped_storage().resize_(0)
        for hook in self._hooks:
            hook.remove()

    def __deepcopy__(self, memo: dict[int, object]) -> Shards:
        """Refuse a copy, whose weights would be those of this model.

        Raises:
            ModelError: always.
        """
        raise ModelError("a model whose layers are shared out over ranks cannot be copied. Use shard none")

    def _piece_of(self, p: nn.Parameter) -> tuple[torch.dtype, _Piece]:
        number = home_of(p)[1]
        return next((dtype, piece) for dtype, piece in self._pieces[number].items() if id(p) in piece.starts)

    def _prepare(self, number: int) -> None:
        """Make the storage in which a layer comes together, of the type of its windows."""
        for dtype, piece in self._pieces[number].items():
            piece.whole = torch.empty(piece.length * self._windows.world, dtype=self._parts[dtype][0].dtype, device=self._device)
            self._take_apart(piece)

    def _take_apart(self, piece: _Piece) -> None:
        nothing = piece.whole.new_full((1,), math.nan if piece.whole.is_floating_point() else 0)
        for p, _ in piece.starts.values():
            p.data = nothing.expand(p.shape)
        piece.whole.untyped_storage().resize_(0)

    def _watch(self, number: int, layer: nn.Module) -> Iterator[RemovableHandle]:
        """Put a layer together before its forward pass, and before its backward pass, which begins with the gradient of its output."""
        # Copying a module copies its hooks, and so meets `__deepcopy__`, unless they are plain functions.
        yield layer.register_forward_pre_hook(partial(self._before_forward, number))
        yield layer.register_forward_hook(partial(self._after_forward, number))

    def _before_forward(self, number: int, _layer: nn.Module, _given: object) -> None:
        self.gather(number)

    def _after_forward(self, number: int, _layer: nn.Module, _given: object, output: object) -> None:
        for x in output if isinstance(output, tuple) else (output,):
            if isinstance(x, Tensor) and x.requires_grad:
                x.register_hook(partial(self._before_backward, number))

    def _before_backward(self, number: int, _gradient: Tensor) -> None:
        self.gather(number)


def _held(was: torch.dtype, dtype: torch.dtype | None) -> torch.dtype:
    """Return the type of the slices of weights that had the type `was`."""
    return dtype if dtype is not None and was.is_floating_point else was


_HOMES: Any = WeakTensorKeyDictionary()
"""Where each weight that is shared out has its slices, and the number of its layer there. The module's hooks keep that alive."""


def is_shared_out(p: Tensor) -> bool:
    """Return whether ranks share out a weight."""
    return p in _HOMES


def home_of(p: Tensor) -> tuple[Shards, int]:
    """Return where a weight that is shared out has its slices, and the number of its layer there."""
    shards, number = _HOMES[p]
    found = shards()
    assert isinstance(found, Shards), "a module keeps the shards of its weights alive"
    return found, number
