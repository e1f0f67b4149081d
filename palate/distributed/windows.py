"""Memory of one rank that the other ranks of its machine read when they need it, without a call of its own.

To gather sharded weights by an exchange, all ranks would have to make the same passes through the same layers in the same order. Ours do
not: the number of micro-batches, the parts of a long one, references and sampling differ from rank to rank, and a missing pass is a hang.
A rank that copies from the memory of another needs nothing from it. So ranks only meet where weights are written, which is between steps.

On CPUs a window is anonymous shared memory. On GPUs it is memory whose handle the others open (CUDA's interprocess communication), so the
GPUs must reach each other, over NVLink or PCIe. Other machines cannot be read: they hold copies of their own.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.core import ConfigError, RunError
from palate.core.process import WHOLE, shard_now
from palate.distributed.ranks import Ranks, ranks

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux has a number that no two running machines share."""
DEVICE = 6
"""The place of the device among the arguments with which torch opens a tensor of another process."""


class Windows:
    """The ranks that share out the weights of a model, this one among them."""

    def __init__(self, group: Ranks, members: range) -> None:
        """Share among `members` of the whole group, which lie on one machine."""
        self._group, self._members = group, members
        self.world = len(members)
        """Number of ranks that share."""
        self.rank = group.rank - members.start
        """The place of this rank among them."""

    def open(self, count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """Return the memory of every rank that shares, in order: `count` numbers each. This rank may write to its own.

        All ranks of the whole group must call it.

        Raises:
            ConfigError: the device's memory cannot be read by other ranks.
        """
        if device.type == "cuda":
            return self._on_gpu(count, dtype, device)
        if device.type != "cpu" or sys.platform != "linux":
            raise ConfigError(
                f"shard: ranks can share out weights on CUDA, and on CPUs under Linux; the device is {device}. Use shard none"
            )
        return self._on_cpu(count, dtype)

    def meet(self, device: torch.device) -> None:
        """Wait until all ranks have written what they write and read what they read. All ranks of the whole group must call it."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._group.gather(None)

    def _on_cpu(self, count: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        file = os.memfd_create("palate")  # type: ignore[attr-defined, unused-ignore]  # only Linux has it
        try:
            os.ftruncate(file, max(1, count) * dtype.itemsize)
            names = self._group.gather(f"/proc/{os.getpid()}/fd/{file}")
            parts = tuple(torch.from_file(names[rank], shared=True, size=count, dtype=dtype) for rank in self._members)
            self._group.gather(None)  # all have it open, so it needs no name any more
        finally:
            os.close(file)
        return parts

    def _on_gpu(self, count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        from torch.multiprocessing.reductions import reduce_tensor

        own = torch.empty(count, dtype=dtype, device=device)
        rebuild, arguments = reduce_tensor(own)  # type: ignore[no-untyped-call]
        offered: list[Any] = self._group.gather(arguments)
        parts = []
        for rank in self._members:
            if rank == self._group.rank:
                parts.append(own)
                continue
            # Opened for this rank's own device, the others' memory needs no context of theirs, which would cost memory on each of them.
            there = [*offered[rank][:DEVICE], device.index, *offered[rank][DEVICE + 1 :]]
            try:
                parts.append(rebuild(*there))
            except RuntimeError as error:
                raise ConfigError(
                    f"shard: rank {self._group.rank} cannot read the memory of rank {rank} ({str(error).splitlines()[0]}). Ranks share out "
                    "weights only where their GPUs reach each other; `nvidia-smi topo -p2p r` lists which do. Use shard none"
                ) from error
        return tuple(parts)


def windows() -> Windows | None:
    """Return the ranks that share out weights in this stage; None where each holds them whole. All ranks must call it.

    Raises:
        RunError: ranks that are to share lie on several machines.
    """
    group, shard = ranks(), shard_now()
    if group.world == 1 or shard.kind == WHOLE:
        return None
    boot = BOOT.read_text(encoding="ascii").strip() if BOOT.is_file() else ""
    machines = group.gather(f"{platform.node()} {boot}")
    return Windows(group, members_of(machines, group.rank, shard.ranks))


def members_of(machines: Sequence[str], rank: int, most: int | None) -> range:
    """Return the ranks with which a rank shares weights.

    Args:
        machines: what names the machine of each rank.
        rank: the rank.
        most: ranks that share, in their order; None stands for all neighbours on one machine.

    Raises:
        RunError: some group of `most` ranks lies on several machines.
    """
    if most is None:
        before = sum(1 for _ in takewhile(lambda name: name == machines[rank], reversed(machines[:rank])))
        after = sum(1 for _ in takewhile(lambda name: name == machines[rank], machines[rank:]))
        return range(rank - before, rank + after)
    groups = [range(start, min(start + most, len(machines))) for start in range(0, len(machines), most)]
    for group in groups:
        if len({machines[member] for member in group}) > 1:
            raise RunError(
                f"shard: ranks {group.start} to {group.stop - 1} are to share weights, and lie on several machines. A rank "
                f"reads the memory of its own machine only: use a number that divides its ranks, or leave out :{most}"
            )
    return groups[rank // most]
