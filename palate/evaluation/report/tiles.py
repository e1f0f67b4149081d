"""The small figures of the first screen: each with its interval and the number of units it was measured on."""

from __future__ import annotations

from dataclasses import dataclass

from palate.evaluation.report.formatting import (
    confidence,
    errors,
    number,
    percent,
    percent_interval,
    seconds,
    signed,
    thousands,
)
from palate.evaluation.report.records import Eval
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.takeaways import beats_length_rule, best_trained, overall, reward_floor, ways
from palate.evaluation.report.trajectory import trajectory


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure, what it is, and the line that lets a reader judge it."""

    value: str
    label: str
    detail: str


def tiles(report: ReportData) -> tuple[Tile, ...]:
    """The tiles whose data are there, at most six, in the order of the page."""
    candidates = [*_gains(report), _fall(report), _reward(report), _tax(report), _refusal(report), _time(report)]
    return tuple(tile for tile in candidates if tile is not None)[:6]


def _gains(report: ReportData) -> list[Tile]:
    """The gain of each way that the page compares, else of the best trained variant; its win rate where there is no gold."""
    best, base = best_trained(report), overall(report, report.reference)
    reference = report.variant(report.reference).name
    if best is not None and base is not None:
        rows = [row for _, row in ways(report)] or [best]
        gaps = [(report.variant(row.variant).name, row.versus_reference) for row in rows if row.versus_reference is not None]
        return [
            Tile(
                signed(gap.value),
                f"gold, {name} over {reference}",
                confidence(gap, f"{signed(gap.low)} to {signed(gap.high)} ({errors(gap)})", "prompts", is_difference=True),
            )
            for name, gap in gaps
        ]
    wins = [row for row in (report.win_rates.rows if report.win_rates else ()) if row.opponent == report.reference]
    if not wins or beats_length_rule(report.reward_model) is False:
        return []
    top = max(wins, key=lambda row: row.estimate.value)
    label = f"of prompts: {report.variant(top.variant).name} preferred to {reference}"
    return [
        Tile(
            percent(top.estimate.value),
            label,
            f"95 %: {percent_interval(top.estimate)}, {thousands(top.estimate.n)} prompts, {thousands(top.ties)} ties",
        )
    ]


def _fall(report: ReportData) -> Tile | None:
    """What the run without the KL penalty lost after its peak."""
    if report.training is None or report.training.without_kl is None:
        return None
    loose = trajectory(report.run(report.training.without_kl))
    if loose is None:
        return None
    drop = loose.fall()
    detail = confidence(drop, f"{signed(drop.low)} to {signed(drop.high)}", "completions per point", is_difference=True)
    return Tile(signed(drop.value), f"gold after its peak, {report.training.off} off", detail)


def _reward(report: ReportData) -> Tile | None:
    """The first dimension's accuracy with its floor and its ceiling."""
    if report.reward_model is None or not report.reward_model.rows:
        return None
    row = report.reward_model.rows[0]
    floor = reward_floor(row)
    bounds = [f"floor {percent(floor[1])}"] if floor else []
    bounds += [f"ceiling {percent(row.ceiling)}"] if row.ceiling is not None else []
    detail = [f"95 %: {percent_interval(row.accuracy)}, {thousands(row.accuracy.n)} pairs", *bounds]
    return Tile(percent(row.accuracy.value), f"reward model agrees with raters ({row.dimension})", "; ".join(detail))


def _largest_move(report: ReportData, evals: list[Eval]) -> Tile | None:
    """The best variant's worst change among `evals`, in points."""
    best = best_trained(report)
    key = best.variant if best else None
    moves = [
        (item, r.versus_reference)
        for item in evals
        for r in item.results
        if r.versus_reference is not None and (key is None or r.variant == key)
    ]
    if not moves:
        return None
    item, gap = min(moves, key=lambda move: move[1].value if move[0].better == "higher" else -move[1].value)
    variant = report.variant(key).name if key else "worst variant"
    low, high = signed(100 * gap.low, 0), signed(100 * gap.high, 0)
    return Tile(
        f"{signed(100 * gap.value, 0)} pts",
        f"worst change of a skill ({item.name}, {variant})",
        confidence(gap, f"{low} to {high}", "questions", is_difference=True),
    )


def _tax(report: ReportData) -> Tile | None:
    """The alignment tax: the worst change of a capability."""
    return _largest_move(report, [item for item in report.evals if item.kind == "capability"])


def _refusal(report: ReportData) -> Tile | None:
    """The best variant's share in the first eval of refusals."""
    best = best_trained(report)
    for item in report.evals:
        if item.kind != "refusal" or best is None:
            continue
        for result in item.results:
            if result.variant == best.variant:
                detail = confidence(result.estimate, percent_interval(result.estimate), "prompts")
                return Tile(percent(result.estimate.value), f"{item.name} ({report.variant(best.variant).name})", detail)
    return None


def _time(report: ReportData) -> Tile | None:
    """The whole pipeline's seconds."""
    if not report.timings:
        return None
    total = sum(stage.seconds for stage in report.timings)
    longest = max(report.timings, key=lambda stage: stage.seconds)
    share = longest.seconds / total if total else 0.0
    return Tile(
        seconds(total), f"for all {number(len(report.timings), 0)} stages", f"longest: {longest.name}, {percent(share)} of the time"
    )
