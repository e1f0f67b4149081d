"""The templates of the pages: each is compiled once, and all share a style and the filters that write figures. Every string is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from palate.evaluation.intervals import Estimate
from palate.evaluation.report import formatting as wording


def rendered_page(template: str, values: Mapping[str, object]) -> str:
    """Return a page as one string; the same values give the same bytes. `template` is a file of this folder."""
    return _environment().get_template(template).render(values, style=_style()) + "\n"


@cache
def _style() -> Markup:
    return Markup(resources.files("palate.evaluation.report").joinpath("page.css").read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    loader = PackageLoader("palate.evaluation", "report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=wording.number, signed=wording.signed, percent=wording.percent, thousands=wording.thousands, seconds=wording.seconds,
        interval=wording.interval, money=wording.money, sentence=wording.sentence,
        value=value_cell, share=share_cell, gap=gap_cell, points=points_cell,
    )  # fmt: skip
    return environment


def value_cell(estimate: Estimate | None) -> Markup:
    """A table cell's content: value, and its interval in small figures."""
    if estimate is None:
        return Markup('<span class="none">not measured</span>')
    return Markup("{}<small>{}</small>").format(wording.number(estimate.value, 3), wording.interval(estimate, 3))


def share_cell(estimate: Estimate | None) -> Markup:
    """A share with its interval and n."""
    if estimate is None:
        return Markup('<span class="none">not measured</span>')
    size = f", n {wording.thousands(estimate.n)}" if wording.has_interval(estimate) else ""
    return Markup("{}<small>{}{}</small>").format(wording.percent(estimate.value), wording.percent_interval(estimate), size)


def gap_cell(estimate: Estimate | None, digits: int = 3) -> Markup:
    """A paired difference with its distance from zero, bold when the interval excludes zero."""
    return _gap(estimate, wording.signed(estimate.value, digits)) if estimate is not None else Markup("")


def points_cell(estimate: Estimate | None) -> Markup:
    """A paired difference of shares in percentage points."""
    return _gap(estimate, f"{wording.signed(100 * estimate.value, 0)} pts") if estimate is not None else Markup("")


def _gap(estimate: Estimate, text: str) -> Markup:
    shape = '<span class="gap"><b>{}</b> {}</span>' if estimate.excludes_zero else '<span class="gap">{} {}</span>'
    return Markup(shape).format(text, wording.errors(estimate))
