"""The results as tables of Markdown, one per part."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> str:
    """Return the tables of all parts, with what the machine is and how each part ended."""
    words = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [f"Machine: {words}" + (" (a rehearsal: the numbers mean nothing)" if found["tiny"] else ""), ""]
    for part, own in found["parts"].items():
        lines += [f"## {part}: {own['how']}, {own['seconds']:.0f} s", "", *rows(own["results"]), ""]
    return "\n".join(lines)


def rows(results: list[dict[str, Any]]) -> list[str]:
    """Return the lines of one table; a column for each number that some result has."""
    if not results:
        return []
    names = list(dict.fromkeys(name for one in results for name in one))
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return lines + [f"| {' | '.join(cell(one.get(name)) for name in names)} |" for one in results]


def cell(value: Any) -> str:
    """Return a number with three digits, and words as they are."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:.0f}" if isinstance(value, float) else str(value)
