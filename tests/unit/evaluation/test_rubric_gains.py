"""Gains on a rubric by several judges: paired, and said only where the intervals support it."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

import numpy as np
import pytest

from palate.core import DataError
from palate.evaluation.rubric_gains import JudgedGain, RubricGains

Gain = Callable[[random.Random], float | None]


def judged(own: Gain, panel: Gain, verdict: Gain, n: int = 60) -> list[JudgedGain]:
    """Prompts with a score of 0.4 before and what a gain adds to it."""
    rng = random.Random(3)
    rows = []
    for _ in range(n):
        before = dict.fromkeys(("judge", "one", "other"), (0.4,))
        gains = {"judge": own(rng), "one": panel(rng), "other": panel(rng)}
        after = {name: (None if gain is None else 0.4 + gain,) for name, gain in gains.items()}
        rows.append(JudgedGain(before, after, {"one": (verdict(rng),), "other": (verdict(rng),)}))
    return rows


def gains_of(rows: list[JudgedGain]) -> RubricGains:
    return RubricGains.of(rows, "judge", ("one", "other"))


def test_a_gain_that_only_the_judge_sees_is_called_hacking() -> None:
    found = gains_of(judged(lambda r: r.gauss(0.4, 0.1), lambda r: r.gauss(0.0, 0.1), lambda r: r.uniform(0, 0.6)))
    assert found.is_confined_to_judge
    assert found.is_against_verdict
    assert found.excess.value == pytest.approx(0.4, abs=0.05)
    assert "does not confirm the gain" in found.findings[1]
    assert "judges prefer what was there before" in found.findings[2]
    assert "rubric hacking" in found.findings[-1]


def test_a_gain_that_all_see_is_confirmed() -> None:
    found = gains_of(judged(lambda r: r.gauss(0.3, 0.1), lambda r: r.gauss(0.3, 0.1), lambda r: r.uniform(0.5, 1)))
    assert not found.is_confined_to_judge
    assert not found.is_against_verdict
    assert "it confirms the gain." in found.findings[1]
    assert "judges prefer it" in found.findings[2]
    assert len(found.findings) == 3


def test_a_gain_that_the_panel_sees_in_part_is_no_hacking() -> None:
    found = gains_of(judged(lambda r: r.gauss(0.4, 0.1), lambda r: r.gauss(0.2, 0.1), lambda r: r.uniform(0.5, 1)))
    assert "it confirms a part of the gain" in found.findings[1]
    assert not found.is_confined_to_judge


def test_few_noisy_prompts_say_nothing() -> None:
    found = gains_of(judged(lambda r: r.gauss(0.3, 0.05), lambda r: r.gauss(0.2, 0.5), lambda r: r.uniform(0, 1), n=5))
    assert not found.is_confined_to_judge
    assert not found.is_against_verdict
    assert "do not tell whether it sees the gain" in found.findings[1]
    assert "does not tell which is better" in found.findings[2]


def test_without_a_gain_there_is_nothing_to_check() -> None:
    found = gains_of(judged(lambda r: r.gauss(0.0, 0.2), lambda r: r.gauss(-0.3, 0.1), lambda r: 0.1))
    assert len(found.findings) == 1
    assert "does not rise beyond chance" in found.findings[0]
    assert not found.is_against_verdict


def test_equal_gains_have_an_interval_that_narrows_with_the_prompts() -> None:
    few, many = (gains_of(judged(lambda r: 0.5, lambda r: 0.0, lambda r: 0.5, n=n)) for n in (3, 200))
    assert not few.judge.gain.low > 0
    assert many.judge.gain.low > 0.45
    assert many.judge.gain.high < 0.52
    assert many.is_confined_to_judge


def test_missing_scores_are_left_out_and_counted() -> None:
    rows = judged(lambda r: r.gauss(0.3, 0.1), lambda r: None if r.random() < 0.3 else r.gauss(0.3, 0.1), lambda r: None, n=40)
    found = gains_of(rows)
    missing = {name: sum(row.after[name] == (None,) for row in rows) for name in ("one", "other")}
    assert {name: (seen.missing, seen.unscored) for name, seen in found.panel.items()} == {name: (n, n) for name, n in missing.items()}
    assert found.excess.n == sum(all(row.after[name] != (None,) for name in ("one", "other")) for row in rows)
    assert found.verdict is None
    assert found.abstentions == 80
    assert found.summary()["verdict"] is None


def test_a_judge_without_scores_is_an_error() -> None:
    with pytest.raises(DataError, match="no prompt has a score by every judge"):
        gains_of(judged(lambda r: 0.1, lambda r: None, lambda r: 0.5))


def test_a_prompt_counts_once_however_many_completions_it_has() -> None:
    """One prompt of three has many completions; its mean counts as much as each other's, and the error is that of three."""
    names = ("judge", "one", "other")
    sizes, gains = (1, 1, 8), (0.1, 0.2, 0.6)
    rows = [
        JudgedGain(
            dict.fromkeys(names, (0.1, 0.3)),
            dict.fromkeys(names, (0.2 + gain,) * size),
            {"one": (1.0,) * size, "other": (0.0,) * size},
        )
        for size, gain in zip(sizes, gains, strict=True)
    ]
    found = gains_of(rows)
    assert found.judge.gain.value == pytest.approx(0.3)
    assert found.judge.gain.se == pytest.approx(statistics.stdev(gains) / math.sqrt(3))
    assert (found.judge.gain.n, found.judge.before) == (3, pytest.approx(0.2))
    assert found.verdict is not None
    assert (found.verdict.value, found.verdict.n) == (0.5, 3)


def test_judges_are_compared_on_completions_that_all_of_them_scored() -> None:
    """The panel did not score the completion that pleases the judge, so the judge's mean without it is compared."""
    rows = judged(lambda r: r.gauss(0.1, 0.05), lambda r: r.gauss(0.1, 0.05), lambda r: 0.5)
    better = [
        JudgedGain(
            row.before,
            {"judge": (*row.after["judge"], 1.0), "one": (*row.after["one"], None), "other": (*row.after["other"], 0.9)},
            row.verdicts,
        )
        for row in rows
    ]
    plain, found = gains_of(rows), gains_of(better)
    assert found.excess == plain.excess
    assert found.panel_mean == plain.panel_mean
    assert found.judge.gain.value > plain.judge.gain.value + 0.1
    assert (found.panel["one"].unscored, found.panel["one"].missing) == (60, 0)


def test_the_interval_of_verdicts_is_right_with_few_and_with_many_pairs_of_a_prompt() -> None:
    """Of 400 runs whose later completion wins in 70 % of prompts on average, the interval of 95 % holds the truth; more pairs narrow it."""
    rng = np.random.default_rng(0)
    widths = {}
    for pairs, spread in ((1, 0.0), (8, 0.0), (8, 0.25)):
        held, width = 0, []
        for _ in range(400):
            means = 0.7 + spread * rng.choice([-1, 1], 40)
            wins = rng.random((40, pairs)) < means[:, None]
            rows = [JudgedGain(*(dict.fromkeys(("judge", "one", "other"), (0.1,)),) * 2, {"one": tuple(map(float, own))}) for own in wins]
            verdict = gains_of(rows).verdict
            assert verdict is not None
            held += verdict.low <= 0.7 <= verdict.high
            width.append(verdict.high - verdict.low)
        assert held / 400 == pytest.approx(0.95, abs=0.035)
        widths[pairs, spread] = statistics.fmean(width)
    assert widths[8, 0.0] < 0.5 * widths[1, 0.0]
    assert widths[8, 0.0] < widths[8, 0.25] < widths[1, 0.0]
