"""How near the prompts of a deployment are to prompts that were judged: hashed word n-grams, without a model."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from palate.core import derive_seed

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

WORDS = re.compile(r"[^\W_]+")
BOXES = 2048
"""Length of the features: words and pairs of neighbouring words are hashed into as many boxes."""

UNUSUAL = 0.05
"""A prompt is unlike the judged ones if it is farther from them than all but this share of the judged ones are from one another."""

FEWEST = 60
"""Judged prompts that are needed to say so: the limit is their third lowest then, and surer with more."""

MOST_COMPARED = 2000
"""Judged prompts whose distance from the others is measured, at most."""

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class PromptReach:
    """How near each of n prompts is to the nearest judged one.

    Attributes:
        nearest: (n,) cosine of the features of a prompt and of the nearest judged one: 1 for the same words, 0 for none in common.
        limit: below it a prompt is unlike the judged ones; None with fewer than `FEWEST` judged prompts.
        usual: the median of the same figure among the judged prompts; 1 with fewer.
        features: (n, d) unit vectors of the prompts.
    """

    nearest: Floats
    limit: float | None
    usual: float
    features: Floats

    @property
    def need(self) -> Floats:
        """How much farther each prompt (n,) is from the judged ones than these usually are from one another; 0 where it is not."""
        return np.maximum(self.usual - self.nearest, 0)

    @property
    def unreached(self) -> Flags:
        """Which prompts (n,) are unlike every judged one; none where that is not known."""
        return np.zeros(len(self.nearest), dtype=bool) if self.limit is None else self.nearest < self.limit


def prompt_reach(prompts: Sequence[str], judged: Sequence[str], seed: int = 0) -> PromptReach:
    """Return how near prompts are to the judged ones, each of which stands once.

    The limit comes from the judged prompts alone: the 5 % of them that are farthest from their nearest neighbour lie below it.
    """
    both = features_of([*judged, *prompts])
    known, asked = both[: len(judged)], both[len(judged) :]
    nearest = _nearest(asked, known)
    if len(judged) < FEWEST:
        return PromptReach(nearest, None, 1.0, asked)
    rng = np.random.default_rng(derive_seed(seed, "coverage", "judged"))
    compared = np.sort(rng.permutation(len(judged))[:MOST_COMPARED])
    among = _nearest(known[compared], known, itself=compared)
    # Not an interpolated quantile: rounding may put that above values that are equal.
    limit = float(np.quantile(among, UNUSUAL, method="inverted_cdf"))
    return PromptReach(nearest, limit, float(np.median(among)), asked)


def features_of(texts: Sequence[str]) -> Floats:
    """Return unit vectors (n, d) of texts: hashed counts of words and of pairs of words, which count less where many texts have them."""
    table = np.zeros((len(texts), BOXES), dtype=np.float32)
    for row, text in enumerate(texts):
        for gram, times in Counter(_grams(text)).items():
            table[row, zlib.crc32(gram.encode("utf-8", errors="replace")) % BOXES] += 1 + np.log(times)
    holders = (table > 0).sum(0)
    table *= np.log((1 + len(texts)) / (1 + holders)) + 0.01  # what all have still tells an empty text from others
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(norms > 0, norms, 1), dtype=np.float32)


def _grams(text: str) -> Iterator[str]:
    words = WORDS.findall(text.lower())
    yield from words
    yield from map(" ".join, pairwise(words))


def _nearest(vectors: Floats, known: Floats, itself: NDArray[np.int64] | None = None) -> Floats:
    """Return the largest cosine (n,) with any of `known`; `itself` (n,) are the numbers of the vectors in it, which do not count."""
    found = np.zeros(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors) if len(known) else 0, _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ known.T
        if itself is not None:
            cosines[np.arange(len(cosines)), itself[start : start + _BLOCK]] = -1
        found[start : start + _BLOCK] = np.round(cosines.max(1), 5)
    return found
