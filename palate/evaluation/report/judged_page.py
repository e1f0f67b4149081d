"""The last page of `palate judge`: one person beside the truth and the crowd, and what their answers moved. Every string is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from palate.evaluation.own_agreement import OwnJudgment, OwnJudgments
from palate.evaluation.report.formatting import percent, percent_interval, signed
from palate.evaluation.report.page_template import rendered_page
from palate.evaluation.report.tiles import Tile

MOVED_PERCENTAGE_POINTS = 1.0
"""A smaller change of the probability does not count as a move."""


def render_judged(judged: OwnJudgments, facts: Sequence[tuple[str, str]]) -> str:
    """Return the page as one string; the same judgments give the same bytes.

    Args:
        judged: the judgments.
        facts: label-value pairs for the foot.
    """
    rows = [_row(one) for one in judged.rescored] + [_row(one) for one in judged.pairs if one.before is None or one.after is None]
    say = {"headline": headline(judged), "subtitle": subtitle(judged), "moved": moved_sentence(judged)}
    return rendered_page("judged.html", {"say": say, "tiles": tiles(judged), "rows": rows, "facts": facts})


def headline(judged: OwnJudgments) -> str:
    """Say in one sentence how often the person agrees with the truth and with the crowd."""
    named = (("the truth", judged.with_truth), ("the crowd", judged.with_crowd))
    parts = [f"with {whom} on {round(one.value * one.n)} of {one.n} pairs" for whom, one in named if one is not None]
    return f"You agree {', and '.join(parts)}" if parts else f"You judged {len(judged.pairs) + judged.ties} pairs"


def subtitle(judged: OwnJudgments) -> str:
    """Say what was judged, and what is left out."""
    ties = f" You called {judged.ties} of them level. They are left out here." if judged.ties else ""
    return f"You judged {len(judged.pairs) + judged.ties} pairs on the dimension {judged.dimension}.{ties}"


def moved_sentence(judged: OwnJudgments) -> str:
    """Say how many of the reward model's estimates moved, which way, and how far the furthest went."""
    rescored = judged.rescored
    if not rescored:
        return "The reward model did not read these pairs."
    moved = [one for one in rescored if abs(100 * one.change) >= MOVED_PERCENTAGE_POINTS]
    if not moved:
        return "Your answers moved no estimate of the reward model by a percentage point. It has seen many more judgments than yours."
    closer = sum(one.change > 0 for one in moved)
    turned = sum(one.before is not None and one.after is not None and (one.before < 0.5) != (one.after < 0.5) for one in moved)
    return (
        f"The reward model learned from your answers. Its estimate moved by a percentage point or more on {len(moved)} of "
        f"{len(rescored)} pairs: {closer} towards your answer, {len(moved) - closer} away from it. "
        f"On {turned} of them it changed sides."
    )


def tiles(judged: OwnJudgments) -> list[Tile]:
    """Return the figures at the top of the page."""
    found = [
        Tile(percent(one.value), f"of pairs as {whom}", f"95 %: {percent_interval(one)}, {one.n} pairs")
        for whom, one in (("the truth has them", judged.with_truth), ("most of the crowd say", judged.with_crowd))
        if one is not None
    ]
    if rescored := judged.rescored:
        before, after = ([one.before if k == 0 else one.after for one in rescored] for k in (0, 1))
        mean = [sum(value for value in values if value is not None) / len(rescored) for values in (before, after)]
        detail = f"{percent(mean[0])} before; a coin flip has 50 %"
        found.append(Tile(percent(mean[1]), "the reward model's mean estimate that your answer is right", detail))
        first = rescored[0]
        found.append(Tile(f"{signed(100 * first.change, 0)} points", "the largest change of an estimate", _moved(first)))
    return found


def _row(one: OwnJudgment) -> dict[str, object]:
    return {
        "judged": one,
        "verdicts": [text for text in (_verdict("The truth", one.truth), _crowd(one)) if text],
        "moved": _moved(one),
        "change": f"{signed(100 * one.change, 0)} points" if one.before is not None and one.after is not None else "",
    }


def _moved(one: OwnJudgment) -> str:
    return "" if one.before is None or one.after is None else f"{percent(one.before)} before, {percent(one.after)} now"


def _verdict(whom: str, agrees: bool | None) -> str:  # noqa: FBT001 (a value, not a switch)
    return "" if agrees is None else f"{whom} {'agrees' if agrees else 'prefers the other'}"


def _crowd(one: OwnJudgment) -> str:
    return "" if one.crowd is None else f"{percent(one.crowd)} of the crowd's votes are for your answer"
