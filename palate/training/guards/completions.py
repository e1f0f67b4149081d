"""What guards look for in completions themselves, from token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

NGRAM = 4


def repeated_share(ids: Sequence[int], n: int = NGRAM) -> float:
    """The share of a completion's `n`-grams that are repeats of an earlier one: 0 where all differ, near 1 for a loop.

    Args:
        ids: token ids.
        n: tokens of a gram.

    Returns:
        1 - distinct / all (Welleck et al. 2019, arXiv 1908.04319, seq-rep-n); 0 for a completion shorter than `n`.
    """
    grams = len(ids) - n + 1
    if grams < 1:
        return 0.0
    return 1 - len(set(zip(*(ids[k : k + grams] for k in range(n)), strict=True))) / grams


def repetition(completions: Sequence[Sequence[int]], n: int = NGRAM) -> float:
    """The mean of `repeated_share` over completions; for the metric `repetition/mean`."""
    return fmean(repeated_share(ids, n) for ids in completions)
