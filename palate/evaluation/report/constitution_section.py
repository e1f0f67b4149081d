"""The sentences of the report's sections on a constitution: what its principles did, and what each model cost."""

from __future__ import annotations

from palate.evaluation.report.formatting import gain, listed, people_labels, percent, thousands
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.takeaways import overall, verb


def revision_dimensions(report: ReportData) -> tuple[str, ...]:
    """Return the columns of gold in the tables about revisions."""
    return tuple(report.revisions.gains) if report.revisions else ()


def revisions_takeaway(report: ReportData) -> str:
    """What the last round gained over the originals, and which principle changed the most texts."""
    revisions = report.revisions
    if revisions is None:
        return ""
    moved = [
        f"{verb(estimate, 'raise', 'lower', 'do not measurably move')} {name} ({gain(estimate)})"
        for name, estimate in revisions.gains.items()
        if name != "gold"
    ]
    busiest = max(revisions.principles, key=lambda row: row.changed.value)
    text = f"the revisions {listed(moved)}. " if moved else ""
    name, share = busiest.principle, percent(busiest.changed.value)
    return f"{text}The principle \u201c{name}\u201d changed the text most often, in {share} of its rounds."


def costs_takeaway(report: ReportData) -> str:
    """Labels of people and tokens of each model that gains gold over the reference."""
    clauses = []
    for row in report.costs:
        score = overall(report, row.variant)
        if score is None or score.versus_reference is None or not score.versus_reference.low > 0:
            continue
        labels = people_labels(row.human_labels)
        tokens = f"{thousands(row.tokens_read + row.tokens_written)} tokens of models"
        clauses.append(f"{report.variant(row.variant).name} gains gold ({gain(score.versus_reference)}) with {labels} and {tokens}")
    return f"{listed(clauses)}." if clauses else ""
