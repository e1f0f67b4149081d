"""Which policy wins, in a terminal; and how the tables of that page are written."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from palate.agreement import AgreementReport, Estimate
from palate.runs.console import Console

ROWS = 15
"""The most lines that a table has."""


def show_policies(report: AgreementReport, console: Console) -> None:
    """Print the policies by their strength, the win rates of their pairs, and what both mean."""
    console.print(_ranked(report))
    console.print(_win_rates(report))
    for line in _about_policies(report):
        console.print(Text(line, style="dim"), soft_wrap=True)


def _ranked(report: AgreementReport) -> Table:
    several = len({one.dimension for one in report.policies}) > 1
    table = named_table("policy", *(["dimension"] if several else []), "votes", "wins", "interval", "strength", "interval")
    for one in report.policies:
        row: list[str | Text] = [
            Text(one.policy),
            *([Text(one.dimension)] if several else []),
            str(one.votes),
            f"{one.rate.value:.1%}",
            _percent(one.rate),
        ]
        table.add_row(*row, f"{one.strength.value:+.2f}", two_cells(one.strength)[1])
    return table


def _win_rates(report: AgreementReport) -> Table:
    several = len({one.dimension for one in report.win_rates}) > 1
    joined = any(one.joined for one in report.win_rates)
    titles = ("policy", "against", *(["dimension"] if several else []), "votes", "wins", "interval")
    table = named_table(*titles, *(("with the judge", "interval", "votes saved") if joined else ()))
    for one in report.win_rates[:ROWS]:
        row: list[str | Text] = [Text(one.policy), Text(one.other), *([Text(one.dimension)] if several else []), str(one.votes)]
        row += [f"{one.rate.value:.1%}", _percent(one.rate)]
        if one.joined is not None and one.saved is not None:
            row += [f"{one.joined.value:.1%}", _percent(one.joined), f"{one.saved:.0f}"]
        table.add_row(*row)
    if len(report.win_rates) > ROWS:
        table.caption = f"the {ROWS} with most votes of {len(report.win_rates)}; --json has all"
    return table


def _about_policies(report: AgreementReport) -> Iterator[str]:
    whose = "of models" if report.judges and not any(one.pairs for one in report.judges) else "of people"
    yield (
        f"wins: share of the votes {whose} on its completions, whoever it met, a tie being half a win; strength: log-odds against a policy "
        "of mean strength (Bradley-Terry). Errors count a prompt once."
    )
    if named := sorted({one.judge for one in report.win_rates if one.joined is not None}):
        yield (
            f"with the judge: people's rate, made more exact by what {', '.join(named)} says about pairs that no person judged; "
            "votes saved: the votes of people that this was worth. It is right where people judged a random draw of the pairs, "
            "however bad the judge is."
        )


def _percent(estimate: Estimate) -> str:
    return "-" if math.isnan(estimate.low) else f"{estimate.low:.1%}-{estimate.high:.1%}"


def named_table(*titles: str) -> Table:
    """Return an empty table. Columns of names stand at the left, numbers at the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for title in titles:
        is_name = title in {"rater", "and", "dimension", "criterion", "judge (a model)", "policy", "against", ""}
        table.add_column(Text(title), justify="left" if is_name else "right", overflow="fold" if is_name else "ellipsis")
    return table


def two_cells(estimate: Estimate) -> tuple[str, str]:
    """Return an estimate and its interval, as two cells."""
    return f"{estimate.value:.2f}", "-" if math.isnan(estimate.low) else f"{estimate.low:.2f}-{estimate.high:.2f}"
