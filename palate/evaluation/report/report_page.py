"""The page of the report: records become the rows of a template, and the template one string of HTML. Every string is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from palate.core import DataError
from palate.evaluation.intervals import Estimate
from palate.evaluation.measured_curves import MeasuredCurve
from palate.evaluation.peak_report import FittedCurve, verdict
from palate.evaluation.report import comparison_text, dot_charts, line_charts, takeaways
from palate.evaluation.report import formatting as wording
from palate.evaluation.report.constitution_section import costs_takeaway, revision_dimensions, revisions_takeaway
from palate.evaluation.report.control_section import controls_takeaway
from palate.evaluation.report.dot_charts import FULL, HALF
from palate.evaluation.report.fault_records import FAULTS
from palate.evaluation.report.fault_section import faults_takeaway
from palate.evaluation.report.headline import headline
from palate.evaluation.report.lever_section import (
    accuracy_effect_chart,
    accuracy_effect_takeaway,
    effect_colours,
    lever_charts,
    lever_takeaway,
)
from palate.evaluation.report.model_colours import model_colours, run_colours
from palate.evaluation.report.page_template import rendered_page
from palate.evaluation.report.records import Eval, ExampleAnswer, Highlight
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.rule_section import rules_takeaway
from palate.evaluation.report.source_section import has_source_chart, source_chart, sources_takeaway
from palate.evaluation.report.svg import Chart, described
from palate.evaluation.report.sweep_section import sweep_chart, sweep_takeaway
from palate.evaluation.report.tax_section import tax_takeaway
from palate.evaluation.report.tiles import tiles
from palate.evaluation.report.training_chart import training_chart, training_height
from palate.evaluation.report.training_records import Training, TrainingRun
from palate.evaluation.report.trajectory import has_gold

MARKS = {"good": "good", "bad": "bad", "exploit": "trick"}
"""Classes of the page by the kind of a highlight."""


def render_page(report: ReportData) -> str:
    """The page as one string; the same report gives the same bytes."""
    return rendered_page("page.html", {"report": report, **_view(report)})


def _view(report: ReportData) -> Mapping[str, object]:
    """Return everything the template needs beside the report."""
    capability = tuple(item for item in report.evals if item.kind == "capability")
    refusal = tuple(item for item in report.evals if item.kind == "refusal")
    sources_lead = report.training is None and has_source_chart(report)
    beside = HALF if report.training is not None or sources_lead else FULL
    calibration = line_charts.calibration_chart(report)
    drawings = {
        "gold": dot_charts.gold_chart(report, beside, training_height(report)),
        "wins": dot_charts.win_chart(report, beside),
        "training": training_chart(report),
        "accuracy": line_charts.accuracy_chart(report, HALF if calibration else FULL),
        "sources": source_chart(report, HALF if sources_lead else FULL),
        "calibration": calibration,
        "capability": dot_charts.eval_chart(report, capability, "capability"),
        "refusal": dot_charts.eval_chart(report, refusal, "refusal"),
        "lengths": dot_charts.length_chart(report),
        "exploits": dot_charts.exploit_chart(report),
        "audit": dot_charts.audit_chart(report),
        "best_of_n": line_charts.best_of_n_chart(report),
        "sweep": sweep_chart(report),
        "accuracy_effect": accuracy_effect_chart(report),
    }
    return {
        "chart": {name: drawing(chart) for name, chart in drawings.items()},
        "say": _sentences(report, capability, refusal),
        "tiles": tiles(report),
        "levers": [
            (lever, wording.sentence(lever_takeaway(lever)), drawing(made))
            for lever, made in zip(report.levers.levers, lever_charts(report), strict=True)
        ],
        "lever_colours": effect_colours(report),
        "capability": capability,
        "refusal": refusal,
        "name": {variant.key: variant.name for variant in report.variants},
        "colour": model_colours(report.variants),
        "sources_lead": sources_lead,
        "has_prices": any(source.cost for source in report.sources),
        "runs": []
        if report.training is None
        else list(zip(report.training.runs, run_colours(report.training.runs, report.variants), strict=True)),
        "tax_runs": list(dict.fromkeys(name for row in report.tax for name in row.changes)),
        "gold_rows": _gold_rows(report),
        "revision_dimensions": revision_dimensions(report),
        "has_preferences": any(row.preferred is not None for row in report.revisions.principles) if report.revisions else False,
        "examples": _examples(report),
        "marks": [kind for kind in MARKS if any(m.kind == kind for e in report.examples for a in e.answers for m in a.highlights)],
        "fits": _fits(report.training),
        "has_training_gold": has_gold(report.training),
        "total_seconds": sum(stage.seconds for stage in report.timings),
        "seen": _seen,
        "fault_names": FAULTS,
        "comparison_notes": [] if report.comparison is None else list(comparison_text.notes(report.comparison)),
        "longest": max((stage.seconds for stage in report.timings), default=0.0),
    }


def _sentences(report: ReportData, capability: tuple[Eval, ...], refusal: tuple[Eval, ...]) -> Mapping[str, str]:
    """The takeaway of every section, empty where there is nothing to say."""
    texts = {
        "headline": headline(report),
        "gold": takeaways.gold_takeaway(report),
        "dimensions": takeaways.dimension_takeaway(report),
        "training": takeaways.training_takeaway(report),
        "reward": takeaways.reward_takeaway(report),
        "sources": sources_takeaway(report),
        "calibration": takeaways.calibration_takeaway(report),
        "revisions": revisions_takeaway(report),
        "costs": costs_takeaway(report),
        "comparison": "" if report.comparison is None else comparison_text.headline(report.comparison),
        "capability": takeaways.eval_takeaway(report, capability),
        "refusal": takeaways.eval_takeaway(report, refusal),
        "tax": tax_takeaway(report),
        "lengths": takeaways.length_takeaway(report),
        "exploits": takeaways.exploit_takeaway(report),
        "audit": takeaways.audit_takeaway(report),
        "rules": rules_takeaway(report),
        "best_of_n": takeaways.best_of_n_takeaway(report),
        "sweep": sweep_takeaway(report),
        "accuracy_effect": accuracy_effect_takeaway(report),
        "controls": controls_takeaway(report),
        "faults": faults_takeaway(report),
    }
    return {name: wording.sentence(text) for name, text in texts.items()}


def drawing(chart: Chart | None) -> Markup:
    """Return the chart's markup, its text alternative escaped; empty without a chart."""
    return Markup(described(chart)) if chart is not None else Markup("")


def _seen(evals: tuple[Eval, ...]) -> set[str]:
    """Keys of the variants with a result in any of `evals`."""
    return {result.variant for item in evals for result in item.results}


def _gold_rows(report: ReportData) -> list[tuple[str, list[tuple[Estimate | None, Estimate | None]]]]:
    """For each variant with gold, (estimate, difference) by dimension in the report's order."""
    if report.gold is None:
        return []
    scores = {(row.variant, row.dimension): row for row in report.gold.scores}
    rows: list[tuple[str, list[tuple[Estimate | None, Estimate | None]]]] = []
    for variant in report.variants:
        cells = [scores.get((variant.key, dimension)) for dimension in report.gold.dimensions]
        if any(cells):
            rows.append((variant.key, [(c.estimate, c.versus_reference) if c else (None, None) for c in cells]))
    return rows


def _fits(training: Training | None) -> list[tuple[FittedCurve, str]]:
    """For every run whose gold can be fitted, the fit of Gao's form and where it stops rising, in a sentence."""
    fits = [FittedCurve.of(curve, 0) for run in (training.runs if training else ()) if (curve := _gold_curve(run)) is not None]
    return [(one, verdict(one)) for one in fits if one.fit is not None]


def _gold_curve(run: TrainingRun) -> MeasuredCurve | None:
    points = [(str(p.step), p.kl, p.gold, p.gold_se or 0.0) for p in run.points if p.gold is not None]
    if not points:
        return None
    labels, kl, gold, se = zip(*points, strict=True)
    covariance = np.diag(np.square(se)) if all(se) else None
    return MeasuredCurve(run.name, "gold", "rl", "iteration", labels, np.array(kl), np.array(gold), covariance, None)


def _examples(report: ReportData) -> list[tuple[str, str, str, list[tuple[ExampleAnswer, Markup]]]]:
    """(prompt, kind, note, answers with their marked text) of every example."""
    return [(e.prompt, e.kind, e.note, [(a, marked(a.text, a.highlights)) for a in e.answers]) for e in report.examples]


def marked(text: str, highlights: Sequence[Highlight]) -> Markup:
    """Return `text` escaped, with each highlight in a `<mark>`. Parts that overlap or lie outside the text are refused."""
    out, at = Markup(""), 0
    for part in sorted(highlights, key=lambda h: h.start):
        if not at <= part.start < part.end <= len(text):
            where = f"[{part.start}, {part.end}) in a text of {len(text)} characters: {text[:60]!r}"
            raise DataError(f"A highlight is empty, overlaps another one or lies outside its text: {where}. Mark each character once.")
        note = part.note or MARKS[part.kind]
        out += escape(text[at : part.start]) + Markup('<mark class="{}" title="{}">{}<span class="vh"> ({})</span></mark>').format(
            MARKS[part.kind], note, text[part.start : part.end], note
        )
        at = part.end
    return out + escape(text[at:])
