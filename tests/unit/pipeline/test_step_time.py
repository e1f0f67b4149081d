"""The time of an online step: simple cases by hand, and published figures of verl's asynchronous mode."""

from __future__ import annotations

import random

import pytest

from palate.models.shapes import find_shape
from palate.pipeline.estimates.decoding import Decoder, DecodingShares, LengthDistribution, draw_seconds, ends
from palate.pipeline.estimates.gpus import GPUS
from palate.pipeline.estimates.step_time import Cards, Reached, Simulation, Workload

ALIKE = LengthDistribution(100, 0.0, 1000)


def test_rows_that_are_alike_take_what_the_formula_says() -> None:
    decoder = Decoder(fixed=0.01, per_row=0.001, per_token=1e-6, rows=8)
    seconds = draw_seconds([50] * 8, decoder, 1, 20)
    assert seconds == pytest.approx(50 * (0.01 + 8 * 0.001 + 1e-6 * (8 * 20 + 8 * 50 / 2)))


def test_rows_that_do_not_fit_wait() -> None:
    decoder = Decoder(fixed=0.01, per_row=0.0, per_token=0.0, rows=4)
    assert draw_seconds([50] * 8, decoder, 1, 20) == pytest.approx(2 * 50 * 0.01)
    assert draw_seconds([50] * 8, decoder, 2, 20) == pytest.approx(50 * 0.01)
    assert draw_seconds([10, 10, 90, 10], Decoder(0.01, 0.0, 0.0, 2), 1, 20) == pytest.approx(0.01 * (10 + 90))


def test_ends_come_in_order_and_each_once() -> None:
    lengths = LengthDistribution(60, 0.8, 300).draw(200, random.Random(0))
    found = list(ends(lengths, Decoder(0.01, 1e-5, 1e-7, 16), 4, 10))
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    assert sorted(number for _, number in found) == list(range(200))
    # A token of one row takes at least the fixed seconds.
    assert all(time >= 0.01 * lengths[number] for time, number in found)


def test_lengths_have_the_mean_that_was_asked_for() -> None:
    drawn = LengthDistribution(200, 0.7, 10**6).draw(20_000, random.Random(0))
    assert sum(drawn) / len(drawn) == pytest.approx(200, rel=0.03)
    assert max(LengthDistribution(200, 0.7, 300).draw(2000, random.Random(0))) == 300


def simulation(sampling: int, learning: int, /, **reached: float) -> Simulation:
    cards = Cards(GPUS["h100"], sampling, learning, is_colocated=sampling == learning)
    return Simulation(find_shape("1.5B"), cards, Workload(64, 8, 100, ALIKE), Reached(**reached))


def test_a_synchronous_step_is_the_sum_of_its_parts_and_one_ahead_hides_the_shorter() -> None:
    both = simulation(4, 4, pause=1.0)
    parts, step = both.parts(), both.step("synchronous")
    assert parts.step == pytest.approx(parts.sample + parts.score + parts.learn + parts.sync + 1.0)
    assert step.step == pytest.approx(parts.step)  # all lengths are alike
    split = simulation(2, 6, pause=1.0)
    apart = split.parts()
    ahead = split.step("one step ahead").step
    assert ahead == pytest.approx(max(apart.sample, apart.score + apart.learn) + apart.sync + 1.0)


def test_streaming_is_as_fast_as_the_slower_side() -> None:
    slow_learner = simulation(7, 1, pause=0.0, network=1e30)
    parts = slow_learner.parts()
    assert parts.learn > parts.sample
    assert slow_learner.step("streaming", pieces=4).step == pytest.approx(parts.score + parts.learn, rel=0.01)
    slow_sampler = simulation(1, 7, pause=0.0, network=1e30)
    parts = slow_sampler.parts()
    assert parts.sample > parts.learn + parts.score
    assert slow_sampler.step("streaming", pieces=4).step == pytest.approx(parts.sample, rel=0.1)


def test_twice_the_cards_halve_what_is_shared_and_more_passes_take_longer() -> None:
    one, two = simulation(4, 4).parts(), simulation(8, 8).parts()
    assert two.learn == pytest.approx(one.learn / 2, rel=0.05)
    assert simulation(4, 4, learning=0.7).parts().learn == pytest.approx(one.learn / 2)
    assert simulation(4, 4, colocated=0.5).parts().learn == pytest.approx(2 * one.learn)


def test_the_longest_completion_bounds_a_step_of_many_cards() -> None:
    work = Workload(8, 8, 10, LengthDistribution(500, 1.0, 20_000))
    cards = [Cards(GPUS["h100"], n, n, is_colocated=True) for n in (8, 64, 512)]
    learn = [Simulation(find_shape("1.5B"), one, work).parts().learn for one in cards]
    assert learn[0] > learn[1] >= learn[2] > 0.5 * learn[1]


PUBLISHED = {32: (790.10, 294.77), 64: (365.28, 189.26), 128: (356.30, 150.63)}
"""Seconds of a step of verl by the number of H20 cards: synchronous on shared cards, and asynchronous on two halves. Qwen2.5-Math-7B, 512
prompts with 16 completions of up to 28K tokens, 16 optimizer steps. Source: verl, docs/advance/fully_async.md."""

FITTED = Reached(0.55, 0.22, 0.45, DecodingShares(overhead=0.0175), pause=85)
"""Fitted to all six figures, with the mean and the spread of the lengths below. Learning at 55 % of the peak is assumed."""

LENGTHS = LengthDistribution(370, 0.815, 28_672)

TOLERANCE = 0.2


def verl(cards: Cards, scored: int) -> Simulation:
    return Simulation(find_shape("7B"), cards, Workload(512, 16, 200, LENGTHS, minibatches=16, scored=scored), FITTED)


def test_published_steps_are_described_within_a_fifth() -> None:
    found = {}
    for number in PUBLISHED:
        together = Cards(GPUS["h20"], number, number, per_replica=4)
        apart = Cards(GPUS["h20"], number // 2, number // 2, is_colocated=False, per_replica=4)
        synchronous = verl(together, 1).step("synchronous").step
        asynchronous = verl(apart, 0).step("streaming", staleness=0.5, pieces=4).step
        found[number] = (synchronous, asynchronous)
        assert asynchronous < synchronous
    ratios = {number: [a / b for a, b in zip(found[number], PUBLISHED[number], strict=True)] for number in PUBLISHED}
    assert {number: pair for number, pair in ratios.items() if max(abs(ratio - 1) for ratio in pair) > TOLERANCE} == {}, ratios
