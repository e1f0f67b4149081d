"""What a composition says of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Failure:
    """A completion, by number, that a part could not score, and why."""

    part: str
    completion: int
    reason: str


@dataclass(frozen=True)
class Scores:
    """What a composition says of b completions.

    Attributes:
        table: (b,) scores as the parts gave them, by `part` or `part/dimension`; NaN where scoring failed.
        parts: (b,) scores by part, dimensions added up, after normalisation and bounds, before weights.
        multipliers: of the parts with a constraint, as used here.
        rewards: (b,) all parts together; NaN where one that counts failed.
        failures: each failed score with its reason.
    """

    table: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]
    multipliers: Mapping[str, float]
    rewards: Tensor
    failures: tuple[Failure, ...]

    def metrics(self) -> dict[str, float]:
        """Means over what was scored, and how much was not; a part without any score has no mean."""
        failed = {name: float(part.isnan().float().mean()) for name, part in self.parts.items()}
        return {
            **{
                f"score_{name.replace('/', '_')}/mean": float(column.nanmean())
                for name, column in self.table.items()
                if not column.isnan().all()
            },
            **{f"part_{name}/mean": float(part.nanmean()) for name, part in self.parts.items() if failed[name] < 1},
            **{f"unscored_{name}/share": share for name, share in failed.items()},
            **{f"multiplier_{name}/value": value for name, value in self.multipliers.items()},
        }
