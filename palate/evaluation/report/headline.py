"""The first sentences of the report: what was gained over the reference, and what the run without the KL penalty did."""

from __future__ import annotations

from collections.abc import Sequence

from palate.evaluation.report.formatting import listed, number, people_labels, percent, sentence, signed, thousands
from palate.evaluation.report.lever_section import levers_headline
from palate.evaluation.report.records import DimensionScore, WinRate
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.source_records import LabelSource
from palate.evaluation.report.takeaways import beats_length_rule, best_trained, not_apart, overall, trained, ways
from palate.evaluation.report.training_records import TrainingRun
from palate.evaluation.report.trajectory import score_trend, trajectory


def headline(report: ReportData) -> str:
    """The page's first sentence or two, or its title where nothing was compared."""
    first = levers_headline(report) or _ways_sentence(report) or _gain_sentence(report)
    parts = [text for text in (first, _without_kl_sentence(report)) if text]
    return sentence(" ".join(parts)) if parts else report.title


def _gain_sentence(report: ReportData) -> str:
    row, base = best_trained(report), overall(report, report.reference)
    reference = report.variant(report.reference).name
    if row is None or base is None or row.versus_reference is None or report.gold is None:
        return _win_sentence(report)
    if not row.versus_reference.excludes_zero:
        name, change = report.variant(row.variant).name, signed(row.versus_reference.value)
        return f"{name} does not measurably change gold over {reference} ({change})."
    best = [row.variant, *not_apart(row.variant, [key for key in trained(report) if overall(report, key)], report.gold.contests)]
    rows = [one for one in (overall(report, key) for key in best) if one is not None]
    moved = [one for one in rows if one.versus_reference is not None and one.versus_reference.excludes_zero]
    is_one = len(moved) == 1
    word = ("raises" if is_one else "raise") if row.versus_reference.value > 0 else ("lowers" if is_one else "lower")
    names = listed([report.variant(one.variant).name for one in moved])
    figures = listed([number(one.estimate.value) for one in moved])
    apart = "" if is_one else " They are not measurably apart."
    return f"{names} {word} gold from {number(base.estimate.value)} to {figures}.{apart}"


def _ways_sentence(report: ReportData) -> str:
    """What each way to label gained and how many labels of people it took, where the page compares several; "" elsewhere."""
    base, found = overall(report, report.reference), ways(report)
    if base is None or not found:
        return ""
    gaps = [(source, row, row.versus_reference) for source, row in found if row.versus_reference is not None]
    raised = [(source, row) for source, row, gap in gaps if gap.low > 0]
    lowered = [(source, row) for source, row, gap in gaps if gap.high < 0]
    flat = [report.variant(row.variant).name for _, row, gap in gaps if not gap.excludes_zero]
    parts = [_moved(report, base, verb, group) for verb, group in (("raises", raised), ("lowers", lowered)) if group]
    if flat:
        verb = "does" if len(flat) == 1 else "do"
        parts.append(f"{listed(flat)} {verb} not measurably change {'it' if parts else 'gold'}.")
    return " ".join([*parts, *_order(report, [row.variant for _, row in raised])])


def _moved(report: ReportData, base: DimensionScore, verb: str, group: Sequence[tuple[LabelSource, DimensionScore]]) -> str:
    """Return "A raises gold from 0.55 to 0.71 with 9,000 labels of people and B to 0.67 with none."."""
    (source, row), *others = group
    start = f"{report.variant(row.variant).name} {verb} gold from {number(base.estimate.value)} to {number(row.estimate.value)}"
    clauses = [f"{start} with {people_labels(source.people_labels)}"]
    for source, row in others:
        labels = thousands(source.people_labels) if source.people_labels else "none"
        clauses.append(f"{report.variant(row.variant).name} to {number(row.estimate.value)} with {labels}")
    return f"{listed(clauses)}."


def _order(report: ReportData, keys: Sequence[str]) -> list[str]:
    """Return a sentence on how far the first of some models is apart from each other one; [] where that was not measured."""
    if len(keys) < 2 or report.gold is None:
        return []
    best, *others = keys
    gaps = {frozenset((c.first, c.second)): c.difference.value if c.first == best else -c.difference.value for c in report.gold.contests}
    level = not_apart(best, others, report.gold.contests)
    behind = [key for key in others if key not in level and gaps.get(frozenset((best, key)), 0.0) > 0]
    names = {key: report.variant(key).name for key in keys}
    more = f"{names[best]} gains measurably more than {listed([names[key] for key in behind])}" if behind else ""
    if len(level) == 1 == len(others):
        return ["They are not measurably apart."]
    tail = f"is not measurably apart from {listed([names[key] for key in level])}" if level else ""
    if more and tail:
        return [f"{more}, and {tail}."]
    return [f"{more}."] if more else [f"{names[best]} {tail}."] if tail else []


def _win_sentence(report: ReportData) -> str:
    wins = report.win_rates
    rows = [row for row in (wins.rows if wins else ()) if row.opponent == report.reference]
    if wins is None or not rows:
        return ""
    if beats_length_rule(report.reward_model) is False:
        return (
            "The reward model is not measurably better than a rule that looks at the length alone, "
            "so its scores do not show which model is better."
        )
    best = max(rows, key=lambda row: row.estimate.value)
    other = report.variant(best.opponent).name
    if best.estimate.low <= 0.5 <= best.estimate.high:
        name = report.variant(best.variant).name
        return f"No model is measurably preferred to {other}; {name} comes closest at {percent(best.estimate.value)}."
    if best.estimate.value < 0.5:
        return f"Every model loses to {other}; {report.variant(best.variant).name} wins {percent(best.estimate.value)} of comparisons."
    leading = [best, *_tied(best, rows, report)]
    names = listed([report.variant(row.variant).name for row in leading])
    shares = listed([percent(row.estimate.value) for row in leading])
    by = "" if wins.held_out else ", by the reward model that training used"
    apart = " They are not measurably apart." if len(leading) > 1 else ""
    return f"{names} {'is' if len(leading) == 1 else 'are'} preferred to {other} on {shares} of prompts{by}.{apart}"


def _tied(best: WinRate, rows: Sequence[WinRate], report: ReportData) -> list[WinRate]:
    """Return the other models that beat the reference too and are not measurably apart from the best."""
    contests = report.win_rates.contests if report.win_rates else ()
    keys = not_apart(best.variant, [row.variant for row in rows if row.estimate.low > 0.5], contests)
    return [row for row in rows if row.variant in keys]


def _without_kl_sentence(report: ReportData) -> str:
    if report.training is None or report.training.without_kl is None:
        return ""
    run: TrainingRun = report.run(report.training.without_kl)
    loose = trajectory(run)
    if loose is None:
        return ""
    start = f"With the {report.training.off} off, the {report.training.proxy_name}"
    if not score_trend(run).low > 0:
        return f"{start} does not measurably rise in this run."
    end, falls = number(loose.end.gold or 0), loose.fall().high < 0
    fall = f"{start} climbs on while gold falls from {number(loose.peak.gold or 0)} to {end}."
    tuned = trajectory(report.run(report.training.tuned))
    if tuned is None:
        return fall if falls else f"{start} climbs on, and gold shows no measurable fall from its peak."
    gap, other = loose.change(tuned.end, loose.end), f"the {number(tuned.end.gold or 0)} with {report.training.what_is_off}"
    if gap.high < 0:
        return fall if falls else f"{start} climbs on, and gold ends at {end}, below {other}."
    beside = f"{'above' if gap.low > 0 else 'not measurably apart from'} {other}"
    if falls:
        return f"{fall} That is {beside}."
    return f"{start} climbs on, and gold ends at {end}, with no measurable fall from its peak. That is {beside}."
