"""Shuffled epochs, of one source or of several with weights. Seed and epoch are enough to know an order, so a run resumes exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from palate.core import DataError, derive_seed
from palate.data.data_sources import DataInput, sources_of, weights_of
from palate.data.exclusions import excluded_now
from palate.runs.run import Run

Numbers = npt.NDArray[np.int64]


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> Numbers:
    """Return the epoch's permutation (count,); cached, because drawing it takes time in proportion to `count`."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def shuffled(seed: int, count: int, start: int, wanted: int) -> list[int]:
    """Return `wanted` numbers below `count`, after the first `start` ones of an endless series of shuffled epochs."""
    numbers: list[int] = []
    while len(numbers) < wanted:
        epoch, k = divmod(start + len(numbers), count)
        numbers += epoch_order(seed, epoch, count)[k : k + wanted - len(numbers)].tolist()
    return numbers


@dataclass(frozen=True, eq=False)
class SourceMixture:
    """Examples of several sources, of which an epoch has fixed shares.

    In an epoch each source has as many places as its weight says, and the source that is largest for its weight has each example once. So
    an epoch has every example at least once, and the examples of the other sources come again. A source's own order is an endless series
    of shuffled epochs that goes on from one epoch of the mixture to the next: no example comes again before all of its source have come.
    The places of each source are spread evenly over the epoch, so every step has the shares too, to within an example or two.

    Attributes:
        sources: the source of each example.
        weights: the weight of each source.
    """

    sources: Sequence[str]
    weights: Mapping[str, float]

    @cached_property
    def numbers(self) -> dict[str, Numbers]:
        """The numbers of each source's examples."""
        number = {name: k for k, name in enumerate(self.weights)}
        of_each = np.fromiter((number.get(name, -1) for name in self.sources), np.int16, len(self.sources))  # no text per example
        return {name: np.flatnonzero(of_each == k) for name, k in number.items()}

    @cached_property
    def places(self) -> dict[str, int]:
        """How many places each source has in an epoch."""
        most = max(len(numbers) / self.weights[name] for name, numbers in self.numbers.items())
        return {name: round(weight * most) for name, weight in self.weights.items()}

    def __len__(self) -> int:
        """The number of places in an epoch."""
        return sum(self.places.values())

    def order(self, seed: int, epoch: int) -> Numbers:
        """Return the numbers of the examples in an epoch, in order."""
        return _mixed(self, seed, epoch)

    def some(self, seed: int, start: int, wanted: int) -> list[int]:
        """Return `wanted` numbers after the first `start` ones of an endless series of epochs, as `shuffled` does."""
        numbers: list[int] = []
        while len(numbers) < wanted:
            epoch, k = divmod(start + len(numbers), len(self))
            numbers += self.order(seed, epoch)[k : k + wanted - len(numbers)].tolist()
        return numbers


def mixture_of(run: Run, sources: Sequence[str], data: DataInput) -> SourceMixture | None:
    """Return the mixture of examples whose sources have weights; None without weights: then an epoch has every example once.

    Args:
        run: the run; it warns of sources without an example where there are no weights.
        sources: the source of each example.
        data: the setting that names the sources.

    Raises:
        DataError: a source that has a weight has no example.
    """
    names, weights = set(sources), weights_of(data)
    empty = [one.called for one in sources_of(data) if one.called not in names and not excluded_now().has_source(one.called)]
    if not empty:
        return SourceMixture(sources, weights) if weights else None
    text = (
        f"the source {empty[0]!r} has no example to learn from: its rows were left out, or stand in an earlier source too. "
        "Take it out of the list, or correct its rows"
    )
    if weights:
        raise DataError(text)
    if not run.is_resumed:
        run.warn(0, {"sources": text}, {})
    return None


def sources_summary(sources: Sequence[str], mixture: SourceMixture | None) -> dict[str, dict[str, dict[str, float]]]:
    """Return what a summary says of the sources of examples: how many are of each and, with weights, its share of an epoch and passes.

    Returns:
        `{"sources": {name: {"examples", "share", "passes"}}}`; {} where nothing names a source.
    """
    counts = Counter(sources)
    if not any(counts):
        return {}
    places = counts if mixture is None else mixture.places
    total = sum(places.values())
    return {
        "sources": {name: {"examples": n, "share": places[name] / total, "passes": places[name] / n} for name, n in counts.items() if n}
    }


@lru_cache(maxsize=4)
def _mixed(mixture: SourceMixture, seed: int, epoch: int) -> Numbers:
    """The order of an epoch of a mixture; cached like `epoch_order`."""
    rng = np.random.default_rng([seed, epoch])
    taken, keys = [], []
    for name, count in mixture.places.items():
        numbers = mixture.numbers[name]
        series = shuffled(derive_seed(seed, name), len(numbers), epoch * count, count)
        taken.append(numbers[series])
        keys.append((np.arange(count) + rng.random(count)) / count)
    return np.concatenate(taken)[np.argsort(np.concatenate(keys), kind="stable")]


def series(seed: int, examples: int, mixture: SourceMixture | None, start: int, wanted: int) -> list[int]:
    """Return `wanted` numbers of examples after the first `start` ones of an endless series, mixed where there is a mixture."""
    return shuffled(seed, examples, start, wanted) if mixture is None else mixture.some(seed, start, wanted)
