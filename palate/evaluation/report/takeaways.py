"""The sentences of the report. Each is computed from the data; no number or verdict is written in advance.

A change is called a gain or a loss only when its 95 % interval excludes zero. Otherwise the sentence says that it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from palate.evaluation.intervals import Estimate
from palate.evaluation.report.formatting import errors, gain, listed, number, percent, sentence, signed, thousands
from palate.evaluation.report.records import Contest, DimensionScore, Eval, RewardAccuracy, RewardModelCard
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.source_records import LabelSource
from palate.evaluation.report.training_records import TrainingRun
from palate.evaluation.report.trajectory import has_gold, reward_trend, score_change, trajectory

UNTRAINED = ("base", "sft", "ablation")
"""Roles of models that are not the result of a way to learn from preferences. All others are."""


def overall(report: ReportData, variant: str) -> DimensionScore | None:
    """The variant's row on the overall dimension."""
    rows = report.gold.scores if report.gold else ()
    return next((row for row in rows if row.variant == variant and report.gold and row.dimension == report.gold.overall), None)


def best_trained(report: ReportData, among: Collection[str] | None = None) -> DimensionScore | None:
    """The overall row of the best variant that learned from preferences, or None. `among` limits the variants."""
    rows = [overall(report, key) for key in trained(report) if among is None or key in among]
    compared = [row for row in rows if row is not None and row.versus_reference is not None]
    return max(compared, key=lambda row: row.estimate.value) if compared else None


def trained(report: ReportData) -> list[str]:
    """Return the variants that learned from preferences, without the reference."""
    return [v.key for v in report.variants if v.role not in UNTRAINED and v.key != report.reference]


def ways(report: ReportData) -> list[tuple[LabelSource, DimensionScore]]:
    """Return the ways to label that the page compares, each with the overall row of its model, the best first. [] if they are not two."""
    rows = [(source, overall(report, source.variant)) for source in report.sources if source.variant]
    measured = [(source, row) for source, row in rows if row is not None and row.versus_reference is not None]
    return sorted(measured, key=lambda way: -way[1].estimate.value) if len(measured) > 1 else []


def not_apart(best: str, others: Sequence[str], contests: Sequence[Contest]) -> list[str]:
    """Return those of the `others` that were compared with the `best` variant and are not measurably apart from it."""
    level = {frozenset((c.first, c.second)) for c in contests if not c.difference.excludes_zero}
    return [key for key in others if frozenset((best, key)) in level]


def beats_length_rule(card: RewardModelCard | None) -> bool | None:
    """Whether the reward model is measurably better than the better length rule; None where that was not measured."""
    floor = reward_floor(card.rows[0]) if card is not None and card.rows else None
    return None if card is None or floor is None else card.rows[0].accuracy.low > max(floor[1], 0.5)


def verb(difference: Estimate, up: str, down: str, flat: str) -> str:
    """Return `up` or `down` where the interval excludes zero, else `flat`."""
    return flat if not difference.excludes_zero else up if difference.value > 0 else down


def gold_takeaway(report: ReportData) -> str:
    """Each other variant's difference to the reference on the overall dimension."""
    reference = report.variant(report.reference).name
    clauses = []
    for variant in report.variants:
        row = overall(report, variant.key)
        if row is not None and row.versus_reference is not None:
            word = verb(row.versus_reference, "gains", "loses", "does not measurably move")
            clauses.append(f"{variant.name} {word} ({gain(row.versus_reference)})")
    return f"Against {reference}: {', '.join(clauses)}." if clauses else ""


def dimension_takeaway(report: ReportData) -> str:
    """Where the best trained variant gained most and least, by dimension."""
    best = best_trained(report)
    if best is None or report.gold is None:
        return ""
    rows = [
        r for r in report.gold.scores if r.variant == best.variant and r.dimension != report.gold.overall and r.versus_reference is not None
    ]
    if len(rows) < 2:
        return ""
    ranked = sorted(rows, key=lambda r: r.versus_reference.value if r.versus_reference else 0.0)
    low, high = ranked[0], ranked[-1]
    if high.versus_reference is None or low.versus_reference is None:
        return ""
    name = report.variant(best.variant).name
    moved = verb(low.versus_reference, "least", "and it lost", "with no measurable change")
    tail = f"{moved} on {low.dimension} ({gain(low.versus_reference)})"
    return f"{name} moved most on {high.dimension} ({gain(high.versus_reference)}), {tail}."


def training_takeaway(report: ReportData) -> str:
    """What each run reached, and what the run without the KL penalty lost after its peak."""
    if report.training is None:
        return ""
    if not has_gold(report.training):
        return " ".join(reward_sentence(run) for run in report.training.runs)
    without_kl = report.training.without_kl
    paths = [path for run in report.training.runs if run.name != without_kl and (path := trajectory(run)) is not None]
    loose = trajectory(report.run(without_kl)) if without_kl else None
    parts = []
    for path in paths:
        change = path.change(path.start, path.end)
        word = verb(change, "rises", "falls", "does not measurably move:")
        ends = f"{number(path.start.gold or 0)} to {number(path.end.gold or 0)}"
        start = f"{path.run.name}:" if len(paths) > 1 else f"With KL coefficient {path.run.kl_coef:g}"
        parts.append(f"{start} gold {word} from {ends} ({errors(change)}).")
    if loose is not None:
        drop = loose.fall()
        text = f"Without the {report.training.off} it peaks at {number(loose.peak.gold or 0)}"
        if loose.peak is not loose.end:
            fall = verb(drop, "rises to", "falls to", "ends, with no measurable fall, at")
            text += f" and {fall} {number(loose.end.gold or 0)} ({errors(drop)})"
        later = score_change(loose.run, loose.peak, loose.end)
        word = verb(later, "still gains", "loses", "does not measurably move:")
        parts.append(f"{text}. After the peak the score {word} {signed(later.value)}.")
    return " ".join(parts)


def reward_sentence(run: TrainingRun) -> str:
    """How the reward of a run changed from its first to its last quarter."""
    change = reward_trend(run)
    word = verb(change, "rises", "falls", "does not measurably change")
    return f"{run.name}: the reward {word} from the first to the last quarter of training ({signed(change.value)}, {errors(change)})."


def reward_floor(row: RewardAccuracy) -> tuple[str, float] | None:
    """The better of the two length rules, by name, or None when neither was measured."""
    rules = [(name, value) for name, value in (("longer wins", row.longer_wins), ("shorter wins", row.shorter_wins)) if value is not None]
    return max(rules, key=lambda rule: rule[1]) if rules else None


def reward_takeaway(report: ReportData) -> str:
    """Accuracy against the length rule and the noise ceiling, dimension by dimension."""
    card = report.reward_model
    if card is None:
        return ""
    clauses = []
    for row in card.rows:
        floor = reward_floor(row)
        text = f"{row.dimension} {percent(row.accuracy.value)}"
        if floor is not None:
            word = "above" if row.accuracy.low > floor[1] else "below" if row.accuracy.high < floor[1] else "not measurably above"
            text += f", {word} \u201c{floor[0]}\u201d ({percent(floor[1])})"
        if row.ceiling is not None:
            text += f", ceiling {percent(row.ceiling)}"
        clauses.append(text)
    return f"On held-out pairs the reward model agrees with the raters: {'; '.join(clauses)}." if clauses else ""


def calibration_takeaway(report: ReportData) -> str:
    """How far stated and observed probabilities are apart on average, and in which direction when sure."""
    card = report.reward_model
    if card is None or not card.calibration:
        return ""
    parts = []
    if card.ece is not None:
        parts.append(f"stated and observed shares differ by {number(100 * card.ece, 1)} points on average")
    sure = [b for b in card.calibration if b.predicted >= 0.8]
    total = sum(b.observed.n for b in sure)
    if total:
        stated = sum(b.predicted * b.observed.n for b in sure) / total
        true = sum(b.observed.value * b.observed.n for b in sure) / total
        parts.append(f"when it says {percent(stated)}, it is right {percent(true)} of the time ({thousands(total)} pairs)")
    return sentence("; ".join(parts)) + "." if parts else ""


def eval_takeaway(report: ReportData, evals: tuple[Eval, ...]) -> str:
    """How the best trained variant with results changed in each eval, and the largest change for the worse of any variant."""
    reference = report.variant(report.reference)
    results = [(item, r, r.versus_reference) for item in evals for r in item.results if r.versus_reference is not None]
    if not results:
        return ""
    best = best_trained(report, {result.variant for _, result, _ in results})
    parts = [
        f"{item.name} {percent(result.estimate.value)} ({signed(100 * gap.value, 0)} points, {errors(gap)})"
        for item, result, gap in results
        if best is not None and result.variant == best.variant and gap.excludes_zero
    ]
    text = f"{report.variant(best.variant).name} against {reference.name}: {'; '.join(parts)}." if best and parts else ""
    if best and not parts:
        text = f"{report.variant(best.variant).name} does not differ measurably from {reference.name} in {listed([e.name for e in evals])}."
    later = [variant.key for variant in report.variants if variant.role not in ("base", "sft")]
    losses = [
        (item, r, gap)
        for item, r, gap in results
        if r.variant in later and gap.excludes_zero and (gap.value < 0) == (item.better == "higher")
    ]
    if losses:
        item, result, gap = max(losses, key=lambda loss: abs(loss[2].value))
        points = f"{signed(100 * gap.value, 0)} points, {errors(gap)}"
        text += f" Largest change for the worse: {report.variant(result.variant).name}, {item.name} ({points})."
    return text.strip() or f"No trained model differs measurably from {reference.name} for the worse in {listed([e.name for e in evals])}."


def length_takeaway(report: ReportData) -> str:
    """Mean length of the reference and of the variants that are measurably longer or shorter."""
    rows = {row.variant: row for row in report.lengths}
    base = rows.get(report.reference)
    if base is None:
        return ""
    apart = []
    for key, row in rows.items():
        if key == report.reference:
            continue
        if row.mean.low > base.mean.high or row.mean.high < base.mean.low:
            ratio = row.mean.value / base.mean.value if base.mean.value else float("nan")
            apart.append(f"{report.variant(key).name} {number(row.mean.value, 0)} ({number(ratio, 2)} times)")
    name = report.variant(report.reference).name
    cut = [f"{report.variant(key).name} ({percent(1 - row.eos_share.value)})" for key, row in rows.items() if row.eos_share.high < 0.5]
    warning = f" Most completions are cut at the limit of tokens and do not end: {listed(cut)}." if cut else ""
    start = f"{name} writes {number(base.mean.value, 0)} tokens on average"
    text = f"{start}; clearly different: {', '.join(apart)}." if apart else f"{start}; no other model is clearly longer or shorter."
    return text + warning


def best_of_n_takeaway(report: ReportData) -> str:
    """How far the best of n samples goes, in proxy and in gold, and where gold peaks."""
    if report.best_of_n is None or len(report.best_of_n.points) < 2:
        return ""
    points = report.best_of_n.points
    first, last = points[0], points[-1]
    text = f"From best-of-{first.n} to best-of-{last.n} the proxy moves {signed(last.proxy - first.proxy)}"
    if first.gold is None or last.gold is None:
        return text + "."
    peak = max((p for p in points if p.gold is not None), key=lambda p: p.gold or 0.0)
    where = "still rising at the largest n" if peak is last else f"with its peak at n = {peak.n}"
    return f"{text} and gold {signed(last.gold - first.gold)}, {where}; KL at most {number(last.kl_bound)} nats."


def audit_takeaway(report: ReportData) -> str:
    """Which audited differences exclude zero, with the number of them that chance alone would give."""
    if not report.audit:
        return ""
    apart = [row for row in report.audit if row.difference.excludes_zero]
    expected = number(0.05 * len(report.audit), 1)
    if not apart:
        return f"None of {len(report.audit)} audited differences excludes zero."
    names = [f"{report.variant(r.variant).name}: {r.first} against {r.second} ({gain(r.difference, 3)})" for r in apart]
    return f"{len(apart)} of {len(report.audit)} audited differences exclude zero (chance alone: about {expected}): {'; '.join(names)}."


def exploit_takeaway(report: ReportData) -> str:
    """The exploit whose share grew most over the reference."""
    base = {row.exploit: row.share for row in report.exploits if row.variant == report.reference}
    grown = [row for row in report.exploits if row.exploit in base and row.share.low > base[row.exploit].high]
    if not grown:
        return "No planted exploit is clearly more frequent than in the reference." if base else ""
    top = max(grown, key=lambda row: row.share.value - base[row.exploit].value)
    before, after = percent(base[top.exploit].value), percent(top.share.value)
    name, other = report.variant(top.variant).name, report.variant(report.reference).name
    return f"{name} uses \u201c{top.exploit}\u201d in {after} of answers, against {before} for {other}."
