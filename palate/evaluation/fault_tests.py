"""Tests for faults: each is a harm with its interval, and all of a report share one rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from palate.evaluation.intervals import Z95, Estimate
from palate.evaluation.report.fault_records import FAULTS, FaultCheck, FoundFault

FALSE_ALARMS = 0.05
"""Share of reports without a fault that may name one."""


@dataclass(frozen=True)
class FaultTest:
    """Something that may be wrong.

    Attributes:
        fault: what it would be, a name of `FAULTS`.
        about: the model, or what else would have the fault.
        sentence: what to say where it is shown.
        harm: how large it is; above 0 is harm. None for a plain fact, which needs no interval.
        least: the smallest harm that is named. A smaller one may be measurable and does not matter.
        sides: 2 where the harm is the size of a difference that may have either sign, which counts as two tests.
    """

    fault: str
    about: str
    sentence: str
    harm: Estimate | None
    least: float = 0.0
    sides: int = 1

    def is_shown(self, z: float) -> bool:
        """Return whether the harm matters, and its interval of `z` standard errors excludes 0; False where its error is not known."""
        if self.harm is None:
            return True
        return self.harm.value >= self.least and self.harm.low - (z - Z95) * self.harm.se > 0


def check_of(tests: Sequence[FaultTest], looked_for: Sequence[str]) -> FaultCheck:
    """Return the faults that are shown, so that at most 5 % of reports without a fault name one (Bonferroni).

    Args:
        tests: everything that was measured. A plain fact is a test only where it holds.
        looked_for: faults for which there were figures, also where they gave no test.
    """
    count = sum(test.sides for test in tests if test.harm is not None)
    z = NormalDist().inv_cdf(1 - FALSE_ALARMS / max(count, 1))
    found = tuple(FoundFault(test.fault, test.about, test.sentence) for test in tests if test.is_shown(z))
    names = {*looked_for, *(test.fault for test in tests)}
    return FaultCheck(found, tuple(name for name in FAULTS if name in names), tuple(name for name in FAULTS if name not in names), count)
