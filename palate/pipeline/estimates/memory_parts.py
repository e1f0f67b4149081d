"""What is in a device's memory at one moment, by role and kind, and the moments of a stage at which it is fullest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PhaseName = Literal["load", "sample", "score", "learn", "write"]

GB = 1_000_000_000
"""Bytes in a gigabyte, as makers of devices count."""

CERTAIN = frozenset({"weights", "float32 weights", "gradients", "moments"})
"""Kinds that follow from the number of parameters alone, whatever a batch holds."""

CHECK = "check"
"""The role of weights that are read again after they were written. Their file is mapped, and needs no memory that others need."""


def gigabytes(size: float) -> str:
    """Return bytes in gigabytes."""
    return f"{size / GB:.2f}" if size < 10 * GB else f"{size / GB:.1f}"


@dataclass(frozen=True)
class MemoryPart:
    """Some bytes that are in memory together.

    Attributes:
        role: whose they are: a model of the stage, or `process` for what every process needs.
        kind: what they are, such as weights, gradients, moments, activations, head or cache.
        size: number of bytes.
    """

    role: str
    kind: str
    size: float


@dataclass(frozen=True)
class StageMemory:
    """The memory that a stage needs.

    Attributes:
        phases: what is in memory when a phase of the stage needs most, by the phase.
        host: bytes of the machine's own memory, beside a GPU, while models are loaded or written.
    """

    phases: Mapping[PhaseName, tuple[MemoryPart, ...]]
    host: float = 0.0

    @property
    def peak_phase(self) -> PhaseName:
        """Return the phase that needs most."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> float:
        """Return the bytes that the stage needs."""
        return self.total(self.peak_phase)

    def total(self, phase: PhaseName) -> float:
        """Return the bytes that a phase needs."""
        return sum(part.size for part in self.phases[phase])

    @property
    def certain(self) -> tuple[MemoryPart, ...]:
        """Return the weights, gradients and moments of the phase that has most of them."""
        each = [tuple(part for part in parts if part.kind in CERTAIN and part.role != CHECK) for parts in self.phases.values()]
        return max(each, key=lambda parts: sum(part.size for part in parts))

    def by_role(self) -> dict[str, dict[str, float]]:
        """Return bytes of the fullest phase by role and kind."""
        return sizes_by_role(self.phases[self.peak_phase])


def sizes_by_role(parts: Iterable[MemoryPart]) -> dict[str, dict[str, float]]:
    """Return bytes by role and kind."""
    table: dict[str, dict[str, float]] = {}
    for part in parts:
        kinds = table.setdefault(part.role, {})
        kinds[part.kind] = kinds.get(part.kind, 0.0) + part.size
    return table


@dataclass
class MemoryScript:
    """Follows a stage: what it holds and drops, and the moments between. Each phase keeps its fullest moment.

    Attributes:
        gaps: the share of what passes that lies unused between blocks of memory, which an allocator cannot join.
        held: bytes by role and kind.
        phases: the fullest moment of each phase so far.
        host: bytes of the machine's own memory that are needed at one moment.
        resting: bytes of the machine's own memory that are needed all the time, by weights that wait there.
    """

    gaps: float = 0.0
    held: dict[tuple[str, str], float] = field(default_factory=dict)
    phases: dict[PhaseName, tuple[MemoryPart, ...]] = field(default_factory=dict)
    host: float = 0.0
    resting: float = 0.0

    def hold(self, role: str, kind: str, size: float) -> None:
        """Have these bytes from now on, in place of those of the same role and kind."""
        self.held[role, kind] = size

    def drop(self, role: str, *kinds: str) -> None:
        """Forget what a role holds, or some kinds of it."""
        for key in [key for key in self.held if key[0] == role and (not kinds or key[1] in kinds)]:
            del self.held[key]

    def moment(self, phase: PhaseName, passing: Iterable[MemoryPart] = (), apart: Iterable[MemoryPart] = ()) -> None:
        """Record a moment of a phase, with what is in memory only then; between what is `apart` there are no gaps."""
        own = list(passing)
        if self.gaps and own:
            own.append(MemoryPart("process", "gaps", self.gaps * sum(part.size for part in own)))
        parts = (*(MemoryPart(role, kind, size) for (role, kind), size in self.held.items() if size), *own, *apart)
        if sum(part.size for part in parts) > sum(part.size for part in self.phases.get(phase, ())):
            self.phases[phase] = tuple(parts)

    @property
    def freed(self) -> float:
        """Return the bytes that earlier moments needed beyond those held now."""
        fullest = max((sum(part.size for part in parts) for parts in self.phases.values()), default=0.0)
        return max(0.0, fullest - sum(self.held.values()))

    def needs_host(self, size: float) -> None:
        """Record bytes of the machine's memory that are needed at one moment."""
        self.host = max(self.host, size)

    def result(self) -> StageMemory:
        """Return the fullest moments."""
        return StageMemory(dict(self.phases), self.host + self.resting)
