"""How large a change must be before a guard speaks of it, so that few runs in which nothing changes get a warning."""

from __future__ import annotations

from statistics import NormalDist

FALSE_ALARMS = 0.05
"""Share of runs in which nothing changes that the guards of `RATED` may warn of, all together and however long the run is."""

RATED = ("length", "length_fall", "refusals", "tax", "gold", "held_out")
"""Guards that test a change against its standard error. The others compare a figure with their limit, and nothing else."""


def critical(look: int, comparisons: int = 1) -> float:
    """Return how many standard errors a change must be beyond 0 to be more than chance.

    Guards look again and again, so each look has a part of the rate. Look k of a guard has 1 / (k (k + 1)) of its share, and these parts
    add up to 1 over any number of looks. By Bonferroni's inequality the rate holds for all looks, comparisons and guards together, however
    they depend on each other. It needs errors that are right, and means that are nearly normal.

    Args:
        look: number of the guard's look, from 1.
        comparisons: how many changes it compares at this look.
    """
    return -NormalDist().inv_cdf(FALSE_ALARMS / len(RATED) / (look * (look + 1)) / comparisons)
