"""Models whose layers ranks share out (`palate.models.shards`): taking them apart, and what reads and writes their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from palate.core import ModelError
from palate.core.process import computing_on, shard_now
from palate.models.devices import current_device, memory_of_device, placed
from palate.models.shards import Shards, SharingRanks, home_of, is_shared_out

M = TypeVar("M", bound=nn.Module)

_now: SharingRanks | None = None
"""The ranks that share out the models that are loaded now."""


@contextmanager
def sharing_out(windows: SharingRanks | None, *, learns: bool) -> Iterator[None]:
    """A context in which models are shared out over ranks when they are loaded, where the stage does that for such models.

    So no rank ever holds all layers of a model. `learns` says whether all weights of the models learn.
    """
    with _sharing(windows if shard_now().takes(learns=learns) else None):
        yield


def sharing_now() -> SharingRanks | None:
    """Return the ranks that share out the models that are loaded now; None where each holds them whole."""
    return _now


@contextmanager
def whole_on_cpu(*, when: bool = True) -> Iterator[SharingRanks | None]:
    """A context in which a model that is to be shared out is loaded whole, in the machine's memory; it yields the ranks that will share it.

    Where nobody shares models out, or `when` is false, it changes nothing and yields None.
    """
    sharing = _now if when else None
    if sharing is None:
        yield None
        return
    with computing_on("cpu"), _sharing(None):
        yield sharing


@contextmanager
def _sharing(windows: SharingRanks | None) -> Iterator[None]:
    global _now
    before, _now = _now, windows
    try:
        yield
    finally:
        _now = before


def share_out(module: nn.Module, windows: SharingRanks | None, dtype: torch.dtype | None = None) -> None:
    """Share out the layers of a module and move the rest of it to the process's device; with None as `windows` leave it where it is.

    Weights that are shared out already stay so. Parameters take the type `dtype`, unless that is None, as in `cast_parameters`.

    Raises:
        ModelError: it is a model of transformers in which there are no layers to be found.
    """
    if windows is None:
        if dtype is not None:
            cast_parameters(module, dtype)
        return
    if isinstance(module, PreTrainedModel) and not layers_of(module):
        raise ModelError(f"shard: no layers are found in {type(module).__name__}, so ranks cannot share them out. Use shard none")
    chosen = [(layer, [p for p in weights if not is_shared_out(p)]) for layer, weights in layers_of(module)]
    if any(weights for _, weights in chosen):
        Shards([(layer, weights) for layer, weights in chosen if weights], windows, current_device(), dtype)
    if dtype is not None:
        cast_parameters(module, dtype)
    if isinstance(module, PreTrainedModel):
        placed(module, current_device())
    else:
        module.to(current_device())


def cast_parameters(module: M, dtype: torch.dtype) -> M:
    """Let the parameters of a module have this type, and return it.

    Packed weights of 4 bits and the buffers stay as they are. `module.to(dtype)` would round the frequencies of rotary positions too, and
    in bfloat16 the angles of distant tokens would be wrong.
    """
    for shards in shards_of(module):
        shards.cast(dtype)
    for p in module.parameters():
        if p.is_floating_point() and not is_shared_out(p):
            p.data = p.data.to(dtype)
    return module


def layers_of(module: nn.Module) -> list[tuple[nn.Module, list[nn.Parameter]]]:
    """Return the layers that a model computes one after another, each with its weights. A weight that several layers use is left out."""
    lists = [(name, child) for name, child in module.named_modules() if isinstance(child, nn.ModuleList)]
    outer = [child for name, child in lists if not any(name.startswith(f"{other}.") for other, _ in lists)]
    layers = [layer for child in outer for layer in child]
    uses: dict[int, int] = {}
    for _, p in module.named_parameters(remove_duplicate=False):
        uses[id(p)] = uses.get(id(p), 0) + 1
    return [(layer, [p for p in layer.parameters() if uses[id(p)] == 1]) for layer in layers]


def shards_of(module: nn.Module) -> list[Shards]:
    """Return how the weights of a module are shared out; nothing where they are whole."""
    return list(dict.fromkeys(home_of(p)[0] for p in module.parameters() if is_shared_out(p)))


@contextmanager
def together(module: nn.Module) -> Iterator[None]:
    """A context for many passes without a gradient: layers that are shared out stay together in it, if the device has room for them.

    Otherwise each pass puts one layer after another together.
    """
    with ExitStack() as stack:
        if fit_together(module):
            for one in shards_of(module):
                stack.enter_context(one.together())
        yield


def fit_together(module: nn.Module) -> bool:
    """Whether the device has room for all layers of a module that are shared out: they may take half of the memory that is free."""
    shards = shards_of(module)
    free = memory_of_device(next(module.parameters()).device).free if shards else None
    return free is None or 2 * sum(one.whole_nbytes for one in shards) <= free


def put(p: nn.Parameter, weight: Tensor) -> None:
    """Give a parameter the numbers of `weight`; of one that is shared out, its slice on this rank (see `Shards.put`)."""
    if is_shared_out(p):
        home_of(p)[0].put(p, weight)
    else:
        with torch.no_grad():
            p.copy_(weight)


def settle(weights: Iterable[Tensor]) -> None:
    """Let all ranks read what was `put`. All of them must call it, with the weights of the same modules."""
    for shards in dict.fromkeys(home_of(p)[0] for p in weights if is_shared_out(p)):
        shards.settle()


def on_host(p: Tensor) -> Tensor:
    """Return the numbers of a weight on the CPU. A weight that is shared out is put together for it."""
    return readable(p).detach().to("cpu", copy=is_shared_out(p))


def readable(p: Tensor) -> Tensor:
    """Return a weight after its layer was put together, if it is shared out. It can be read until another layer is put together."""
    if is_shared_out(p):
        shards, number = home_of(p)
        shards.gather(number)
    return p


def take_back(module: nn.Module, endings: tuple[str, ...]) -> None:
    """Give every rank whole weights of the parts of `module` whose names have one of these endings, because they are to be copied."""
    for p in {p for name, part in module.named_modules() if name.endswith(endings) for p in part.parameters()}:
        if is_shared_out(p):
            home_of(p)[0].leave(p)


def make_whole(module: nn.Module) -> None:
    """Give a module whose layers are shared out whole weights on the CPU, because a device may be too small for them."""
    if shards_of(module):
        to_cpu(module)


def to_cpu(module: nn.Module) -> None:
    """Move a module to the CPU, with whole weights."""
    for shards in shards_of(module):
        shards.undo()
    module.cpu()
