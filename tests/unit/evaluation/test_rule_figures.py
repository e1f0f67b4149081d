"""How well a classifier tells broken rules from kept ones: the area under the curve, calibration, agreement, and what is said of them."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from palate.agreement.estimates import Estimate
from palate.core import Completion, Message, Prompt
from palate.evaluation.ranking_quality import auc
from palate.evaluation.rule_figures import RulePrediction, alpha_of, figures_of, findings, is_badly_worded
from palate.evaluation.rule_votes import RuledCompletion

TOSSED = [(broken, 3 - broken) for broken in (0, 1, 1, 1, 2, 2, 2, 3)] * 8
"""What three raters say who toss a coin."""


def pairs_won(scores: list[float], truth: list[bool]) -> float:
    """The area by its definition."""
    pairs = list(
        itertools.product([s for s, t in zip(scores, truth, strict=True) if t], [s for s, t in zip(scores, truth, strict=True) if not t])
    )
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(8))
def test_the_area_is_the_share_of_pairs_in_the_right_order_and_ties_are_halves(seed: int) -> None:
    rng = random.Random(seed)
    scores = [float(rng.randrange(6)) for _ in range(40)]
    truth = [rng.random() < 0.4 for _ in scores]
    found = auc(scores, truth, list(range(40)))
    assert found.value == pytest.approx(pairs_won(scores, truth))
    turned = auc([-score for score in scores], truth, list(range(40)))
    assert turned.value == pytest.approx(1 - found.value)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, covered, truth = np.random.default_rng(0), 0, 0.7602  # of N(1, 1) over N(0, 1)
    for _ in range(400):
        is_true = np.arange(120) < 40
        found = auc(rng.normal(is_true.astype(float)), is_true, np.arange(120))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_copies_of_a_prompt_make_no_interval_narrower() -> None:
    rng = np.random.default_rng(1)
    is_true = np.arange(60) % 3 == 0
    scores = rng.normal(is_true.astype(float))
    once, copied = auc(scores, is_true, np.arange(60)), auc(np.tile(scores, 4), np.tile(is_true, 4), np.tile(np.arange(60), 4))
    assert copied.value == pytest.approx(once.value)
    assert copied.se == pytest.approx(once.se)
    assert auc(np.tile(scores, 4), np.tile(is_true, 4), np.arange(240)).se < 0.6 * once.se
    assert once.n == copied.n == 60


def test_a_perfect_order_leaves_room_and_one_kind_alone_says_nothing() -> None:
    found = auc([1, 2, 3, 4, 5, 6], [False, False, False, True, True, True], range(6))
    assert (found.value, found.low, found.high) == (1.0, pytest.approx(0.025 ** (1 / 3)), 1.0)
    turned = auc([6, 5, 4, 3, 2, 1], [False, False, False, True, True, True], range(6))
    assert (turned.value, turned.low, turned.high) == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    for truth in ([True] * 3, [False] * 3):
        assert math.isnan(auc([1, 2, 3], truth, range(3)).value)
    assert math.isnan(auc([], [], []).value)


def predictions(count: int, *, skill: float = 4.0, held_out: float | None = None, votes: int = 3) -> list[RulePrediction]:
    """A third of the completions break the rule, and `skill` is how far their log-odds lie above those of the others."""
    rng = random.Random(5)
    rows = []
    for k in range(count):
        is_broken = k % 3 == 0
        for wording, own in (("question", skill), ("held_out", held_out)):
            if own is not None:
                logit = rng.gauss(own / 2 if is_broken else -own / 2, 1)
                p = 1 / (1 + math.exp(-logit))
                rows.append(RulePrediction("rice", wording, p, k, float(is_broken), votes, is_broken))  # type: ignore[arg-type]
    return rows


def said(shares: list[tuple[int, int]]) -> list[RuledCompletion]:
    """Completions with so many raters who say broken, and so many who do not."""
    prompt = Prompt("p", (Message("user", "x"),))
    return [
        RuledCompletion(prompt, Completion(str(k)), "rice", tuple((f"r{j}", j < broken) for j in range(broken + kept)))
        for k, (broken, kept) in enumerate(shares)
    ]


def test_brier_is_of_single_votes_beside_that_of_the_base_rate() -> None:
    rows = [
        RulePrediction("rice", "question", 0.9, 0, 1.0, 2),
        RulePrediction("rice", "question", 0.2, 1, 0.25, 4),
        RulePrediction("rice", "question", 0.6, 2, 0.5, 2),
    ]
    found = figures_of(rows, said([(2, 0), (1, 3), (1, 1)]), 0)
    assert found is not None
    singles = [(0.9, 1)] * 2 + [(0.2, 1)] + [(0.2, 0)] * 3 + [(0.6, 1), (0.6, 0)]
    assert found.brier == pytest.approx(sum((p - v) ** 2 for p, v in singles) / 8)
    assert found.base_rate.value == 0.5
    assert found.brier_base == 0.25
    assert found.questions == 3
    assert found.auc.value == 1.0, "a completion that raters are divided on has no right answer"
    assert found.calibration_error == pytest.approx((0.1 + 0.05 + 0.1) / 3)
    assert found.auc_held_out is None
    assert found.auc_program is None


def test_wordings_that_were_not_learned_are_measured_by_themselves() -> None:
    found = figures_of(predictions(150, skill=6.0, held_out=0.0), [], 0)
    assert found is not None
    assert found.auc_held_out is not None
    assert found.auc_program is not None
    assert found.auc_program_held_out is not None
    assert found.questions == 150
    assert found.auc.value > 0.99
    assert abs(found.auc_held_out.value - 0.5) < 0.12
    assert (found.auc_program.value, found.auc_program_held_out.value) == (found.auc.value, found.auc_held_out.value)
    assert found.agreement is None
    assert found.is_badly_worded is None
    assert figures_of([], [], 0) is None


def test_only_a_rule_that_raters_surely_do_not_agree_on_is_badly_worded() -> None:
    agreed = said([(3, 0), (0, 3)] * 30)
    tossed = said(TOSSED)
    few = said([(1, 1), (2, 0), (0, 2)])
    assert [is_badly_worded(alpha_of(votes, 0)) for votes in (agreed, tossed, few)] == [False, True, False]
    assert is_badly_worded(alpha_of(said([(1, 0), (0, 1)]), 0)) is None, "one vote per completion says nothing of agreement"
    assert is_badly_worded(alpha_of(said([(0, 3)] * 20), 0)) is None, "nor do votes that are all the same"


def test_findings_name_what_is_not_reached_and_how_sure_that_is() -> None:
    good, bad = (figures_of(predictions(300, skill=skill, held_out=held), [], 0) for skill, held in ((6.0, 6.0), (6.0, 1.0)))
    near = figures_of(predictions(24, skill=6.0, held_out=3.0), [], 0)
    none = figures_of(predictions(60, skill=6.0), [], 0)
    tossed = figures_of(predictions(60, skill=6.0, held_out=6.0), said(TOSSED), 0)
    assert good is not None
    assert bad is not None
    assert near is not None
    assert none is not None
    assert tossed is not None
    assert findings({"good": good}) == []
    assert "rule bad: on held-out wordings the classifier has not reached 0.9" in findings({"bad": bad})[0]
    assert "rule near: on held-out wordings the classifier may be below 0.9" in findings({"near": near})[0]
    assert findings({"none": none}) == ["rule none: it has no held-out wording, so nobody knows whether the classifier reads it"]
    assert findings({"tossed": tossed})[0].startswith("rule tossed: raters do not agree on it (alpha ")
    never = figures_of([one for one in predictions(60, held_out=1.0) if not one.truth], [], 0)
    assert never is not None
    assert "the test holds no completion that breaks it" in findings({"never": never})[0]


def test_figures_are_json() -> None:
    found = figures_of(predictions(30, held_out=1.0), said([(2, 1), (0, 3), (3, 0)]), 0)
    assert found is not None
    plain = found.plain()
    assert plain["auc"]["n"] == 30
    assert isinstance(found.base_rate, Estimate)
    assert plain["agreement"]["value"] == found.agreement.value  # type: ignore[union-attr]
