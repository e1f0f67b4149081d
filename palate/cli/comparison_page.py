"""Which policy wins, in a terminal: what `palate compare` prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from palate.agreement.estimates import Estimate
    from palate.evaluation.comparison_figures import VerdictSource


def show_comparison(directory: Path) -> None:
    """Print the headline, a table of win rates and one of strengths per source, and what a reader must know beside them."""
    from rich.text import Text

    from palate.evaluation.comparison_figures import read_comparison
    from palate.evaluation.report.comparison_text import headline, notes
    from palate.runs.console import Console

    console, comparison = Console(highlight=False), read_comparison(directory)
    console.print(Text(headline(comparison), style="bold"), soft_wrap=True)
    for source in comparison.sources:
        console.print(Text(f"\nby {source.name}"))
        console.print(_rates(source))
        if any(one.match.joined for one in source.rates):
            console.print(_joined(source))
        if source.strengths:
            console.print(_strengths(source))
        if source.by_group:
            console.print(_by_group(source, comparison.split_by))
    console.print()
    for line in notes(comparison):
        console.print(Text(f"- {line}"), soft_wrap=True)


def _rates(source: VerdictSource) -> Table:
    from rich.text import Text

    from palate.cli.policy_page import named_table

    several = len({one.match.dimension for one in source.rates}) > 1
    votes = any(one.match.votes != one.prompts for one in source.rates)
    kept = {"dimension": several, "prompts": True, "votes": votes}
    optional = [name for name, is_kept in kept.items() if is_kept]
    table = named_table("policy", "against", *optional, "ties", "wins", "interval", "equal length", "interval")
    for one in source.rates:
        match = one.match
        cells = [
            match.policy,
            match.other,
            *([match.dimension] if several else []),
            str(one.prompts),
            *([str(match.votes)] if votes else []),
        ]
        table.add_row(*map(Text, [*cells, f"{one.ties:.0%}", *_cells(match.rate), *_cells(one.controlled)]))
    return table


def _joined(source: VerdictSource) -> Table:
    from rich.text import Text

    from palate.cli.policy_page import named_table
    from palate.evaluation.report.formatting import number

    table = named_table("policy", "against", "dimension", "with the judge", "interval", "labels saved")
    for one in source.rates:
        if one.match.joined is not None:
            saved = "-" if one.match.saved is None else number(one.match.saved, 0)
            table.add_row(*map(Text, (one.match.policy, one.match.other, one.match.dimension, *_cells(one.match.joined), saved)))
    return table


def _strengths(source: VerdictSource) -> Table:
    from rich.text import Text

    from palate.cli.policy_page import named_table, two_cells

    table = named_table("policy", "dimension", "votes", "wins", "interval", "strength", "interval")
    for one in source.strengths:
        strength = f"{one.strength.value:+.2f}", two_cells(one.strength)[1]
        table.add_row(*map(Text, (one.policy, one.dimension, str(one.votes), *_cells(one.rate), *strength)))
    return table


def _by_group(source: VerdictSource, column: str) -> Table:
    from rich.text import Text

    from palate.cli.policy_page import named_table

    several = len({one.rate.match.dimension for one in source.by_group}) > 1
    table = named_table(column, "policy", "against", *(["dimension"] if several else []), "prompts", "wins", "interval")
    table.columns[0].justify = "left"
    for group, rate in ((one.group, one.rate) for one in source.by_group):
        dimension = [rate.match.dimension] if several else []
        cells = (group or f"no {column}", rate.match.policy, rate.match.other, *dimension, str(rate.prompts), *_cells(rate.match.rate))
        table.add_row(*map(Text, cells))
    return table


def _cells(estimate: Estimate | None) -> tuple[str, str]:
    """Return a share and its interval, as two cells."""
    if estimate is None:
        return "-", "-"
    return f"{estimate.value:.1%}", "-" if math.isnan(estimate.low) else f"{100 * estimate.low:.1f}-{100 * estimate.high:.1f}"
