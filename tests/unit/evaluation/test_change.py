"""The page of a refresh: its words follow from the intervals, and nothing given is markup."""

from dataclasses import replace
from math import nan

import pytest

from palate.evaluation.calibration import reliability
from palate.evaluation.intervals import Estimate, share
from palate.evaluation.report.change import (
    ChangedBest,
    HeldOutChange,
    RescoredCompletion,
    RewardChange,
    advice,
    headline,
    lines,
    scale_sentence,
)
from palate.evaluation.report.change_page import render_change, tiles


def made(name: str, change: float, se: float, before: float = 0.6) -> HeldOutChange:
    bins = reliability([0.2, 0.8, 0.7], [0.0, 1.0, 0.5])
    found = Estimate(change, se, change - 1.96 * se, change + 1.96 * se, 200)
    sides = share(200 * before, 200), share(200 * (before + change), 200)
    return HeldOutChange(name, *sides, found, (0.66, 0.6), (0.1, 0.05), (bins, bins))


def change(new: tuple[float, float], old: tuple[float, float] | None = None, **more: object) -> RewardChange:
    tests = (made("new", *new), *(() if old is None else (made("old", *old),)))
    return replace(RewardChange("It went on.", tests, (2.0, 2.5), 0.97, 40, 10), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("new", "old", "says", "advises"),
    [
        ((0.1, 0.02), (0.0, 0.01), "Better on the new judgments: 60 % to 70 %; no measurable change on the old ones", "Put it in use"),
        (
            (0.1, 0.02),
            (-0.05, 0.01),
            "worse on the old ones: 60 % to 55 %",
            "Think twice: it lost 5.0 points on old judgments (+10.0 on new ones)",
        ),
        ((0.1, 0.2), (0.0, 0.01), "No measurable change on the new", "No difference can be shown yet"),
        (
            (0.0, 0.002),
            None,
            "No measurable change on the new",
            "No difference can be shown yet: on 200 held-out judgments the change lies somewhere from \u22120.4 to +0.4 points",
        ),
        (
            (0.0, 0.0),
            None,
            "No measurable change on the new",
            "No difference can be shown yet: both models are right about the same ones of 200",
        ),
        ((0.0, nan), None, "No measurable change on the new", "No difference can be shown yet: too few new judgments are held out (200)"),
        ((-0.1, 0.02), None, "Worse on the new judgments: 60 % to 50 %", "Keep the former model"),
        ((0.1, 0.02), None, "Better on the new judgments: 60 % to 70 %", "Put it in use"),
    ],
)
def test_words_follow_from_the_intervals(new: tuple[float, float], old: tuple[float, float] | None, says: str, advises: str) -> None:
    found = change(new, old)
    assert says in headline(found).replace("\u00a0", " ")
    assert advice(found).startswith(advises)
    assert lines(found) == (advice(found).replace("\u2212", "-"),)
    assert len(tiles(found)) == 2 + len(found.tests)


def test_the_sentence_on_scale_and_ranking() -> None:
    told = scale_sentence(change((0.1, 0.02)))
    assert "spread wider: 2.00 to 2.50 logits" in told
    assert "for 10 prompts (25 %) another completion" in told
    assert "spread as before" in scale_sentence(change((0.1, 0.02), spread=(2.0, 2.1)))


def test_nothing_given_is_markup_and_the_same_record_gives_the_same_page() -> None:
    evil = "<img src=x onerror=alert(1)>"
    sides = RescoredCompletion(evil, (1.0, 0.5)), RescoredCompletion(evil, (0.5, 1.0))
    found = change(
        (0.1, 0.02), (0.0, 0.01), moved=(ChangedBest(evil, *sides),), commands=((evil, evil),), facts=((evil, evil),), subtitle=evil
    )
    page = render_change(found)
    assert "<img" not in page
    assert page.count("&lt;img") == 8
    assert page == render_change(found)
    assert "http" not in page.replace("http://www.w3.org", "")
