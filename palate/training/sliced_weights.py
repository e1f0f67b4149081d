"""The float32 weights that optimizer steps move, where several ranks share them: each holds a slice, with its optimizer's state.

The modules of every rank hold weights in the type that they compute in: whole ones, or layers that are shared out (`palate.models.shards`).
After a backward pass a gradient is summed over ranks, and each rank keeps the sum for its slice. After a step the ranks exchange their
slices. Per parameter a rank holds 2 bytes of weight and 2 of gradient in bfloat16, and 16 bytes (weight, gradient, two moments) divided by
the number of ranks. This is stage 2 of ZeRO (Rajbhandari et al. 2020). Of layers that are shared out, the 2 bytes of weight are divided
too, and those of the gradient wait in the machine's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from palate.distributed.ranks import Ranks
from palate.models.shards import is_shared_out
from palate.models.shared_layers import put, readable, settle
from palate.training.optimizer import AdamW

BUCKET = 1 << 26
"""Numbers that are exchanged at once, at most, unless a single weight is larger."""


@dataclass
class Bucket:
    """Some weights one after another, cut into equal slices, one per rank; zeros at the end fill the last.

    Attributes:
        used: the modules' parameters, by name.
        starts: where each begins.
        own: (n,) this rank's slice of the float32 weights.
        gradient: (n,) this rank's slice of the summed gradient; it has memory from the first step on.
        pieces: what of each weight lies in the slice, as a view of `own` with where it begins there; a weight may have none.
    """

    used: Mapping[str, nn.Parameter]
    starts: Mapping[str, int]
    own: Tensor
    gradient: Tensor
    pieces: Mapping[str, tuple[nn.Parameter, int]]

    @staticmethod
    def of(used: Mapping[str, nn.Parameter], group: Ranks, device: torch.device) -> Bucket:
        """Return the bucket of some parameters, whose slice is to lie on `device`."""
        starts, total = {}, 0
        for name, p in used.items():
            starts[name], total = total, total + p.numel()
        size = -(-total // group.world)
        first = group.rank * size
        own = torch.zeros(size, device=device)
        pieces = {}
        for name, p in used.items():
            start, end = max(starts[name] - first, 0), min(starts[name] + p.numel() - first, size)
            if start < end:
                low = first + start - starts[name]
                own[start:end].copy_(readable(p).detach().reshape(-1)[low : low + end - start])
                pieces[name] = (nn.Parameter(own[start:end]), start)
        return Bucket(used, starts, own, own.new_empty(0), pieces)

    def named(self, whole: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights of a whole bucket by name, as views of it."""
        for name, p in self.used.items():
            yield name, whole[self.starts[name] : self.starts[name] + p.numel()].view(p.shape)


class SlicedWeights:
    """This rank's slices of the float32 weights behind the modules' own parameters, and their optimizer."""

    def __init__(self, used: Mapping[str, nn.Parameter], optimizer: AdamW, group: Ranks, device: torch.device) -> None:
        """Take the modules' float32 parameters `used`, by name; every rank has the same. The slices lie on `device`."""
        self._used, self._group, self._device = dict(used), group, device
        self._resting: dict[str, Tensor] = {}
        """Gradients of the pass in the machine's memory, of weights that are shared out."""
        self._hooks: list[RemovableHandle] = []
        self._buckets = [Bucket.of(part, group, self._device) for part in _cut(used)]
        matrices = [piece for name, piece in self._pieces() if used[name].ndim >= 2]
        others = [piece for name, piece in self._pieces() if used[name].ndim < 2]
        self.optimizer = optimizer.build_groups(matrices, others)
        self._with_gradient: set[str] = set()

    def watch(self) -> None:
        """Bring the gradients of weights that are shared out to the machine's memory, each when the backward pass has it."""
        for name, p in self._used.items():
            if is_shared_out(p):
                self._hooks.append(p.register_post_accumulate_grad_hook(partial(self._take, name)))

    def _take(self, name: str, p: Tensor) -> None:
        assert p.grad is not None, "torch calls this when it has added to the gradient"
        assert name not in self._resting, "there is one backward pass between two exchanges"
        self._resting[name], p.grad = p.grad.to("cpu"), None

    def start(self) -> None:
        """Forget the gradient of the step before."""
        self._with_gradient.clear()
        self._resting.clear()
        for bucket in self._buckets:
            bucket.gradient = bucket.gradient.zero_() if len(bucket.gradient) else torch.zeros_like(bucket.own)
        for p in self._used.values():
            p.grad = None

    def gather(self) -> None:
        """Add the gradients of all ranks' micro-batches to the slices. All ranks must call it, also one without a micro-batch."""
        new = {name: p.grad for name, p in self._used.items() if p.grad is not None} | self._resting
        # A weight without a gradient must not decay, as it would not on one rank.
        anywhere = set[str]().union(*self._group.gather(set(new)))
        self._with_gradient |= anywhere
        for bucket in self._buckets:
            if not anywhere.isdisjoint(bucket.used):
                gradients = {name: new.get(name, p) for name, p in bucket.used.items()}
                size = len(bucket.own) * self._group.world
                whole = _flat(gradients, size, self._device, without=bucket.used.keys() - new.keys())
                bucket.gradient += self._group.scattered_sum(whole)
        self._resting.clear()
        for p in self._used.values():
            p.grad = None

    def divide_and_clip(self, count: float, most: float) -> float:
        """Divide the gradient by `count`, shorten it to a norm of at most `most`, and return the norm that it had."""
        squares = torch.zeros(1, device=self._device)
        for bucket in self._buckets:
            bucket.gradient.div_(count)
            squares += bucket.gradient.double().square().sum()
        norm = math.sqrt(float(self._group.sum(squares)))
        for bucket in self._buckets:
            bucket.gradient.mul_(min(1.0, most / (norm + 1e-6)))
            for name, (piece, start) in bucket.pieces.items():
                piece.grad = bucket.gradient[start : start + len(piece)] if name in self._with_gradient else None
        return norm

    def use(self) -> None:
        """Give the modules the weights as they are now."""
        # The first exchange ends when all ranks are here, so none reads weights any more.
        for bucket in self._buckets:
            dtype = next(iter(bucket.used.values())).dtype
            for name, weight in bucket.named(self._group.joined(bucket.own.to(dtype))):
                put(self._used[name], weight)
        settle(self._used.values())

    def release(self) -> None:
        """Give the modules, which are float32 by now, the weights as they are, and let them have their gradients again."""
        self.use()
        for hook in self._hooks:
            hook.remove()

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state by the names of a checkpoint, on the CPU; empty on ranks that are not the writer."""
        steps = {name: state["step"] for name, piece in self._pieces() if (state := self.optimizer.state.get(piece))}
        known: dict[str, Tensor] = {name: step for part in self._group.gather(steps) for name, step in part.items()}
        tensors = {f"optimizer.step.{name}": step for name, step in known.items()}
        for bucket in self._buckets:
            for key in ("weights", "exp_avg", "exp_avg_sq"):
                for name, x in bucket.named(self._group.joined(self._slice(bucket, key))):
                    if self._group.is_writer and key == "weights":
                        tensors[f"weights.{name}"] = x.cpu()
                    elif self._group.is_writer and name in known:
                        tensors[f"optimizer.{key}.{name}"] = x.cpu()
        return tensors if self._group.is_writer else {}

    def restore(self, tensor: Callable[[str], Tensor | None]) -> None:
        """Take weights and optimizer state from the writer's checkpoint, which gives None for what it does not hold."""
        held = {name: tensor(f"optimizer.step.{name}") for name in self._used} if self._group.is_writer else {}
        steps = self._group.broadcast(held)
        for bucket in self._buckets:
            weights, first, second = (self._sent(bucket, tensor, key) for key in ("weights", "optimizer.exp_avg", "optimizer.exp_avg_sq"))
            bucket.own.copy_(weights)
            for name, (piece, start) in bucket.pieces.items():
                if (step := steps[name]) is not None:
                    part = slice(start, start + len(piece))
                    state = {"step": step.to(piece.device), "exp_avg": first[part].clone(), "exp_avg_sq": second[part].clone()}
                    self.optimizer.state[piece] = state
        self.use()

    def _pieces(self) -> Iterator[tuple[str, nn.Parameter]]:
        for bucket in self._buckets:
            for name, (piece, _) in bucket.pieces.items():
                yield name, piece

    def _slice(self, bucket: Bucket, key: str) -> Tensor:
        """Return this rank's slice of the weights, or of one part of the optimizer's state, with zeros where there is none."""
        if key == "weights":
            return bucket.own
        values = torch.zeros_like(bucket.own)
        for piece, start in bucket.pieces.values():
            if (state := self.optimizer.state.get(piece)) is not None:
                values[start : start + len(piece)] = state[key]
        return values

    def _sent(self, bucket: Bucket, tensor: Callable[[str], Tensor | None], key: str) -> Tensor:
        """Return this rank's slice of what the writer's checkpoint holds under `key`, with zeros where it holds nothing."""
        size = len(bucket.own)
        whole = torch.zeros(size * self._group.world, device=bucket.own.device)
        if self._group.is_writer:
            for name, place in bucket.named(whole):
                if (value := tensor(f"{key}.{name}")) is not None:
                    place.copy_(value)
        first = self._group.rank * size
        return self._group.writers(whole)[first : first + size]


def _cut(used: Mapping[str, nn.Parameter]) -> Sequence[dict[str, nn.Parameter]]:
    """Return the parameters in parts of at most `BUCKET` numbers."""
    parts: list[dict[str, nn.Parameter]] = []
    room = 0
    for name, p in used.items():
        if not parts or p.numel() > room:
            parts.append({})
            room = BUCKET
        parts[-1][name] = p
        room -= p.numel()
    return parts


def _flat(tensors: Mapping[str, Tensor], size: int, device: torch.device, without: frozenset[str] | set[str] = frozenset()) -> Tensor:
    """Return the numbers of all tensors one after another (size,) in float32, with zeros for those to leave out and at the end."""
    whole = torch.zeros(size, device=device)
    start = 0
    for name, x in tensors.items():
        if name not in without:
            whole[start : start + x.numel()] = x.detach().reshape(-1)
        start += x.numel()
    return whole
