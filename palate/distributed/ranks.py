"""The processes that work on one run together (ranks), and what they exchange.

Every rank runs the same program: it reads the same data, draws the same batches from the same seed, and decides the same. Only what costs
time on a model is shared out (`palate.distributed.sharing`). Its results are numbers on the CPU, which every rank gets. So all ranks go on
from the same state, and only rank 0, the writer, writes the run.

A process alone is a group of one, whose calls return at once. `palate.distributed.group` has the group of several; this file does
without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Ranks:
    """One rank's view of its group; this one is alone. All ranks must call the same methods in the same order."""

    rank = 0
    world = 1

    @property
    def is_writer(self) -> bool:
        """Whether this rank writes the run."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return the value of every rank, in the order of ranks; they are copied by pickle."""
        return [value]

    def broadcast(self, value: T | None) -> T:
        """Return the writer's value; what the others give is not looked at."""
        return cast("T", value)

    def wait_for_writer(self) -> None:
        """Wait until the writer is here too, however long that takes: people may be judging meanwhile."""

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks of a tensor, on its device."""
        return x

    def scattered_sum(self, x: Tensor) -> Tensor:
        """Return this rank's part (n,) of the sum over ranks of x (world * n,), on its device."""
        return x

    def joined(self, part: Tensor) -> Tensor:
        """Return the parts (n,) of all ranks one after another (world * n,), on their device."""
        return part

    def writers(self, x: Tensor) -> Tensor:
        """Return the writer's tensor; the others give one of the same shape, which may be overwritten."""
        return x


ALONE = Ranks()
_now = ALONE


def ranks() -> Ranks:
    """Return the group that works on what runs now; a process alone where a stage runs on the writer only."""
    return _now


def from_writer(make: Callable[[], T]) -> T:
    """Return what `make` returns on the writer; the other ranks do not call it. For what must happen once, such as asking a server."""
    group = ranks()
    return group.broadcast(make() if group.is_writer else cast("T", None))


@contextmanager
def working_together(group: Ranks) -> Iterator[Ranks]:
    """A context in which `ranks()` is this group."""
    global _now
    before, _now = _now, group
    try:
        yield group
    finally:
        _now = before
