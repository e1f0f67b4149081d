"""Best-of-n from one set of samples: expected score for every n, and how far from the start it can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from palate.core import DataError
from palate.evaluation.intervals import Estimate, mean

Floats = NDArray[np.float64]


def best_of_n_weights(total: int, n: int) -> Floats:
    """Weights (total,) of the samples in ascending order of score: C(i-1, n-1) / C(total, n) for the i-th smallest.

    The chance that the i-th smallest is the best of n drawn without replacement (Nakano 2021, appendix); they sum to 1.
    """
    if not 1 <= n <= total:
        raise DataError(f"Best-of-n needs 1 <= n <= number of samples; got n = {n} of {total}. Draw more samples per prompt.")
    ways = math.comb(total, n)
    return np.array([math.comb(i, n - 1) / ways for i in range(total)], dtype=np.float64)


def best_of_n_value(proxy: ArrayLike, value: ArrayLike, n: int) -> float:
    """The unbiased estimate of E[value of the sample with the highest proxy among n], from N samples of one prompt.

    `proxy` and `value` are (N,); with `value = proxy` it is the expected maximum, with gold it is the curve of
    over-optimisation. Samples of equal proxy share their weights, as if one of them were picked at random.
    """
    scores, values = np.asarray(proxy, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != values.shape:
        raise DataError(f"Proxy and value must be flat lists of one length; got shapes {scores.shape} and {values.shape}.")
    if not (np.isfinite(scores).all() and np.isfinite(values).all()):
        raise DataError("Best-of-n got scores that are not finite. Leave out samples that could not be scored, and count them.")
    order = np.argsort(scores, kind="stable")
    ranked, weights = values[order], best_of_n_weights(scores.size, n)
    _, starts = np.unique(scores[order], return_index=True)
    sizes = np.diff([*starts, scores.size])
    tied_weight = np.add.reduceat(weights, starts)
    tied_value = np.add.reduceat(ranked, starts) / sizes
    return float(tied_weight @ tied_value)


def best_of_n_curve(proxy: Sequence[ArrayLike], value: Sequence[ArrayLike], ns: Sequence[int]) -> dict[int, Estimate]:
    """For each n, the mean over prompts of `best_of_n_value` with the SE over prompts. One array (N,) per prompt."""
    return {n: mean(column) for n, column in zip(ns, best_of_n_table(proxy, value, ns).T, strict=True)}


def best_of_n_table(proxy: Sequence[ArrayLike], value: Sequence[ArrayLike], ns: Sequence[int]) -> Floats:
    """For each prompt and each n, `best_of_n_value` (prompts, ns). One array (N,) per prompt."""
    return np.array([[best_of_n_value(p, v, n) for n in ns] for p, v in zip(proxy, value, strict=True)])


def best_of_n_kl(n: int) -> float:
    """The number log n - (n - 1) / n in nats: an upper bound of KL(best-of-n || policy), equal for continuous scores without ties.

    Stiennon 2020 app. G.3; Beirami 2024 shows that it is only a bound. Report it as "KL at most".
    """
    if n < 1:
        raise DataError(f"Best-of-n needs n >= 1; got {n}.")
    return math.log(n) - (n - 1) / n
