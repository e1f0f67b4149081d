"""A group of several ranks, by torch.distributed: gloo between CPUs, and NCCL between GPUs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from palate.core import RunError
from palate.core.process import DEADLINE, Place, place
from palate.distributed.ranks import Ranks, working_together

T = TypeVar("T")

DEFAULT_DEADLINE = 600.0
# Before torch 2.13 they had other names.
_SCATTER = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_JOIN = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Group(Ranks):
    """One rank's view of a group of several.

    Every method that exchanges something raises RunError where another rank has ended, or does not come before the deadline.
    """

    def __init__(self, here: Place, store: Store, deadline: float) -> None:
        """Take a place in the process group that torch has made; `store` is what all its ranks can read."""
        self.rank, self.world = here.rank, here.world
        self._store, self._deadline = store, deadline
        self._host = dist.new_group(backend="gloo", timeout=timedelta(seconds=deadline))
        """Exchanges what lies on the CPU."""
        self._waits = 0

    def gather(self, value: T) -> list[T]:
        """See `Ranks.gather`."""
        values: list[Any] = [None] * self.world
        self._meet(lambda: dist.all_gather_object(values, value, group=self._host))
        return cast("list[T]", values)

    def broadcast(self, value: T | None) -> T:
        """See `Ranks.broadcast`."""
        values = [value if self.is_writer else None]
        self._meet(lambda: dist.broadcast_object_list(values, src=0, group=self._host))
        return cast("T", values[0])

    def wait_for_writer(self) -> None:
        """See `Ranks.wait_for_writer`."""
        self._waits += 1
        key = f"wait {self._waits}"
        if self.is_writer:
            self._store.set(key, "over")
            return
        while True:
            try:
                self._store.wait([key], timedelta(seconds=self._deadline))
            except dist.DistStoreError:  # the deadline: whoever started the ranks ends them where the writer is gone
                continue
            return

    def sum(self, x: Tensor) -> Tensor:
        """See `Ranks.sum`."""
        x = x.clone()
        self._meet(lambda: dist.all_reduce(x))
        return x

    def scattered_sum(self, x: Tensor) -> Tensor:
        """See `Ranks.scattered_sum`."""
        part = x.new_empty(len(x) // self.world)
        self._meet(lambda: _SCATTER(part, x))
        return part

    def joined(self, part: Tensor) -> Tensor:
        """See `Ranks.joined`."""
        whole = part.new_empty(self.world * len(part))
        self._meet(lambda: _JOIN(whole, part.contiguous()))
        return whole

    def writers(self, x: Tensor) -> Tensor:
        """See `Ranks.writers`."""
        self._meet(lambda: dist.broadcast(x, src=0))
        return x

    def _meet(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as error:  # all that torch raises here is of this class
            raise RunError(lost(self, self._deadline, str(error))) from error


def lost(group: Ranks, deadline: float, reason: str) -> str:
    """Return what to tell where an exchange failed. What NCCL says is told too, because its errors may have another cause."""
    of_nccl = next((f" NCCL says: {line.strip()}." for line in reason.splitlines() if "NCCL" in line), "")
    return (
        f"rank {group.rank} of {group.world} lost the others: one has ended, or did not answer for {deadline:g} s.{of_nccl} "
        "The last checkpoint is kept: the same command goes on from it, also with another number of ranks"
    )


@contextmanager
def joined_group() -> Iterator[Ranks]:
    """A context in which this process works with the others that its launcher started.

    In ranks other than the writer, standard output and standard error are silent. Of an error, one rank says its message.

    Raises:
        RunError: the others cannot be reached.
    """
    here = place()
    deadline = _deadline()
    store = _start(here, timedelta(seconds=deadline))
    group = Group(here, store, deadline)
    out, err, silence = sys.stdout, sys.stderr, io.StringIO()
    if here.rank:
        sys.stdout = sys.stderr = silence
    try:
        with working_together(group):
            yield group
    except BaseException:
        # Where one rank fails the others lose it, and would tell of that too.
        sys.stdout, sys.stderr = (out, err) if _is_first(store) else (silence, silence)
        raise
    sys.stdout, sys.stderr = out, err
    dist.destroy_process_group()


def _deadline() -> float:
    word = os.environ.get(DEADLINE, str(DEFAULT_DEADLINE))
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise RunError(f"the environment variable {DEADLINE} is {word!r}: give seconds above 0, or unset it")
    return seconds


def _is_first(store: Store) -> bool:
    """Return whether this rank is the first that failed."""
    try:
        return int(store.add("failed", 1)) == 1
    except RuntimeError:  # the store is gone with the process that held it, and with the others
        return True


def _start(here: Place, deadline: timedelta) -> Store:
    """Meet the other ranks and return the store that all of them share.

    Raises:
        RunError: they cannot be reached.
    """
    if unset := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise RunError(
            f"this process is rank {here.rank} of {here.world}, and {' and '.join(unset)} are not set, so it cannot meet the others. "
            "Start ranks with --launch or torchrun, or unset WORLD_SIZE"
        )
    has_gpus = torch.cuda.is_available()
    if has_gpus and here.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(here.local_rank)
    try:
        plain, rank, world = next(rendezvous("env://", timeout=deadline))
        # Ranks that were started again must not read what the former ones left in the store.
        store = PrefixStore(f"palate/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", plain)
        dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", store=store, rank=rank, world_size=world, timeout=deadline)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(
            f"rank {here.rank} of {here.world} cannot meet the others at {address} ({str(error).splitlines()[0]}). "
            "Is the address right, free, and open to every node?"
        ) from error
    return store
