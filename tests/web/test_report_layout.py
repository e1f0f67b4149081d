"""What a reader sees of the report, in a real browser: nothing lies on something else, is cut off, or leaves half of the page empty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from palate.evaluation.coverage.coverage_report import coverage, read_deployment, read_judged
from palate.evaluation.report import ReportData, Training, TrainingPoint, TrainingRun, Variant, render
from palate.evaluation.report.coverage_page import render_coverage
from tests.unit.evaluation.sample_report import part_of_sample, sample_report, sample_reward_model, sample_without_gold
from tests.unit.evaluation.test_coverage import asked, judged_file, prompts

SCREENS = {"wide": (1400, 1000), "phone": (400, 800)}

TEXTS = """
[...document.querySelectorAll('svg')].filter((svg) => svg.getBoundingClientRect().width).flatMap((svg) => {
  const card = svg.closest('figure').getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent.trim(), text.getBoundingClientRect()]);
  const outside = texts.filter(([, box]) => box.left < card.left - 1 || box.right > card.right + 1);
  const crossed = texts.flatMap(([one, a], k) => texts.slice(k + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2.5
  ).map(([other]) => `${one} / ${other}`));
  return [...outside.map(([one]) => `outside: ${one}`), ...crossed];
})
"""
"""Texts of the visible charts that leave their card, and pairs of texts that lie on each other."""

WIDE = """
[document.documentElement, ...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.getAttribute('aria-label') || one.tagName)
"""
"""Parts of the page that must be pushed sideways to be seen."""

HALVES = """
[...document.querySelectorAll('.pair')].filter((pair) => pair.children.length === 1)
  .filter((pair) => pair.firstElementChild.getBoundingClientRect().width < 0.95 * pair.getBoundingClientRect().width).length
"""
"""How many lone parts leave the other half of the page empty."""


def wandering(name: str, shift: float, variant: str = "") -> TrainingRun:
    """A run whose KL goes up and down around the same place, late in training."""
    points = [
        TrainingPoint(k, (min(k, 10) / 6 + (0.35 * math.sin(2.4 * k + shift) if k > 8 else 0)) ** 2, 0.1 * min(k, 10) + 0.05 * shift,
                      0.55 + 0.015 * min(k, 10) + 0.02 * math.sin(k + shift), 0.01, 0.05)
        for k in range(20)
    ]  # fmt: skip
    return TrainingRun(name, 0.1, tuple(points), "online", 192, variant)


def four_runs() -> ReportData:
    runs = tuple(wandering(name, shift) for shift, name in enumerate(("PPO", "CAI PPO", "PPO with a long name of its own", "RLOO")))
    return part_of_sample(training=Training(runs, "PPO"))


def many_models() -> ReportData:
    """Ten models with names as people give them."""
    report = sample_report()
    more = tuple(Variant(f"more-{k}", f"model number {k}", "other") for k in range(4))
    return replace(report, variants=(*report.variants, *more))


REPORTS: dict[str, Callable[[], ReportData]] = {
    "everything": sample_report,
    "four runs": four_runs,
    "sources without training": lambda: part_of_sample("gold", "sources"),
    "gold alone": lambda: part_of_sample("gold"),
    "without gold": sample_without_gold,
    "no calibration": lambda: part_of_sample(reward_model=replace(sample_reward_model(), calibration=())),
    "many models": many_models,
}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render(make()) for name, make in REPORTS.items()}


@pytest.fixture(scope="module", params=list(SCREENS))
def window(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = SCREENS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, java_script_enabled=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def screen(window: Page) -> Page:
    """An empty page: each document begins anew."""
    window.goto("about:blank")
    return window


@pytest.mark.parametrize("name", list(REPORTS))
def test_nothing_lies_on_something_else_or_is_cut_off(pages: dict[str, str], screen: Page, name: str) -> None:
    screen.set_content(pages[name])
    assert screen.evaluate(TEXTS) == []
    assert screen.evaluate(WIDE) == []
    assert screen.evaluate(HALVES) == 0


@pytest.fixture
def coverage_page(tmp_path: Path) -> str:
    """A page with a hole, a long name, and prompts to collect next."""
    judged = read_judged(judged_file(tmp_path, prompts(1, 80, ("cook", "code")), 1.0, 1.0), None)
    report, _ = coverage(judged, read_deployment(asked(tmp_path, prompts(0, 60))))
    named = replace(report.clusters[0], name="internationalisation, counterrevolutionary, " + report.clusters[0].name)
    return render_coverage(replace(report, clusters=(named, *report.clusters[1:])), prompts(2, 8))


def test_the_page_of_coverage_fits_its_screen(coverage_page: str, screen: Page) -> None:
    screen.set_content(coverage_page)
    assert screen.evaluate(TEXTS) == []
    assert screen.evaluate(WIDE) == []
