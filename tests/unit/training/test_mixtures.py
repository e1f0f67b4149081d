"""Mixtures: shares are exact, no example comes again before all of its source have come, and a step's number says what it sees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from palate.core import DataError
from palate.data.data_sources import DataSource
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.training.epochs import SourceMixture, mixture_of, series, shuffled, sources_summary
from palate.training.fit import Epochs

SIZES = {"small": 3, "large": 20, "middle": 8}
SOURCES = [name for name, size in SIZES.items() for _ in range(size)]
MIXTURE = SourceMixture(SOURCES, {"small": 1, "large": 2, "middle": 1})


def test_the_source_that_is_largest_for_its_weight_sets_the_epoch_and_shares_are_exact() -> None:
    assert MIXTURE.places == {"small": 10, "large": 20, "middle": 10}
    assert len(MIXTURE) == 40
    for epoch in range(3):
        seen = Counter(SOURCES[k] for k in MIXTURE.order(5, epoch))
        assert seen == {"small": 10, "large": 20, "middle": 10}
    assert {SOURCES[k] for k in range(31)} == set(SIZES)
    assert set(MIXTURE.order(5, 0).tolist()) == set(range(31)), "an epoch has every example"


def test_no_example_comes_again_before_its_source_is_used_up() -> None:
    places = [k for epoch in range(6) for k in MIXTURE.order(5, epoch).tolist()]
    for name, size in SIZES.items():
        own = [k for k in places if SOURCES[k] == name]
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size])) == size, name
        assert own[:size] != own[size : 2 * size], "each pass has an order of its own"


def test_every_step_has_the_shares_too() -> None:
    order = [SOURCES[k] for k in MIXTURE.order(5, 0)]
    for start in range(0, 40, 8):
        assert abs(order[start : start + 8].count("large") - 4) <= 1
        assert abs(order[start : start + 8].count("small") - 2) <= 2


def test_the_order_of_a_source_does_not_depend_on_the_others() -> None:
    other = SourceMixture(["large"] * 20 + ["new"] * 5, {"large": 1, "new": 1})
    first = [k - 3 for k in MIXTURE.order(5, 0).tolist() if SOURCES[k] == "large"]
    assert [k for k in other.order(5, 0).tolist() if k < 20] == first
    assert MIXTURE.order(5, 0).tolist() != MIXTURE.order(6, 0).tolist()


def test_a_step_or_a_place_is_known_without_those_before() -> None:
    epochs = Epochs(31, 7, 3, 5, mixture=MIXTURE)
    assert (epochs.steps_per_epoch, epochs.steps) == (6, 18)
    straight = [epochs.indices(step) for step in range(18)]
    again = Epochs(31, 7, 3, 5, mixture=SourceMixture(SOURCES, MIXTURE.weights))
    assert [again.indices(step) for step in reversed(range(18))] == straight[::-1]
    assert [len(step) for step in straight[:6]] == [7] * 5 + [5]
    whole = series(5, 31, MIXTURE, 0, 100)
    assert [series(5, 31, MIXTURE, start, 7) for start in (0, 33, 77)] == [whole[start : start + 7] for start in (0, 33, 77)]
    assert series(5, 31, None, 3, 40) == shuffled(5, 31, 3, 40)


def test_without_weights_there_is_no_mixture_and_a_summary_counts_the_sources() -> None:
    assert sources_summary(["", ""], None) == {}
    assert sources_summary(["a", "b", "b", "b"], None)["sources"] == {
        "a": {"examples": 1, "share": 0.25, "passes": 1},
        "b": {"examples": 3, "share": 0.75, "passes": 1},
    }
    assert sources_summary(SOURCES, MIXTURE)["sources"]["small"] == {"examples": 3, "share": 0.25, "passes": 10 / 3}


def test_a_source_without_an_example_is_an_error_with_weights_and_a_warning_without(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", RunPlan("sft", "sft", seed=1))
    weighted = tuple(DataSource(f"{name}.jsonl", weight=1) for name in ("small", "large", "empty"))
    with pytest.raises(DataError, match="the source 'empty' has no example to learn from.*Take it out of the list, or correct its rows"):
        mixture_of(run, SOURCES, weighted)
    mixture = mixture_of(run, SOURCES, weighted[:2])
    assert mixture is not None
    assert mixture.weights == {"small": 1, "large": 1}
    assert not (run.directory / "warnings.jsonl").exists()
    assert mixture_of(run, SOURCES, ("small.jsonl", "empty.jsonl")) is None
    assert "the source 'empty' has no example to learn from" in (run.directory / "warnings.jsonl").read_text()
    assert mixture_of(run, [""], "one.jsonl") is None
