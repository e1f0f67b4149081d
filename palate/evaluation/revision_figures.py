"""What critiques and revisions changed: by round, and by the principle that was drawn. It reads the rows of `revisions.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate.agreement.estimates import known
from palate.evaluation.intervals import Estimate, clustered_mean, mean, proportion
from palate.judges.reviser import OUTCOMES, RevisionRound

Row = Mapping[str, Any]
Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PrincipleFigures:
    """What one principle did in the rounds in which it was drawn.

    Attributes:
        principle: its id.
        dimension: its dimension.
        drawn: rounds in which it was drawn.
        outcomes: rounds by outcome.
        changed: share of the rounds that changed the text.
        gold: in these rounds, the gold after minus before, by dimension; empty where no gold is known or no text was changed. The error
            counts each draft once, however often its text was changed.
    """

    principle: str
    dimension: str
    drawn: int
    outcomes: Mapping[str, int]
    changed: Estimate
    gold: Mapping[str, Estimate]


def principle_figures(rows: Sequence[Row]) -> tuple[PrincipleFigures, ...]:
    """Return the figures of each principle that was drawn, those of one dimension together."""
    rounds: dict[tuple[str, str], list[tuple[str, RevisionRound, Scores, Scores]]] = {}
    for row in rows:
        for done, before, after in _rounds(row):
            rounds.setdefault((done.dimension, done.principle), []).append((str(row["id"]), done, before, after))
    return tuple(_figures(dimension, principle, rounds[dimension, principle]) for dimension, principle in sorted(rounds))


def _rounds(row: Row) -> Iterator[tuple[RevisionRound, Scores, Scores]]:
    """Yield each round of a draft with the gold before and after it, which is empty where it is not known."""
    scores = [{**each, "gold": sum(each.values()) / len(each)} for each in row.get("gold", ())]
    for number, each in enumerate(row["rounds"]):
        yield RevisionRound.of(each), *((scores[number], scores[number + 1]) if scores else ({}, {}))


def _figures(dimension: str, principle: str, rounds: Sequence[tuple[str, RevisionRound, Scores, Scores]]) -> PrincipleFigures:
    gains: dict[str, dict[str, list[float]]] = {}
    for draft, done, before, after in rounds:
        if done.outcome == "revised":
            for name in after:
                gains.setdefault(name, {}).setdefault(draft, []).append(after[name] - before[name])
    return PrincipleFigures(
        principle,
        dimension,
        len(rounds),
        _counted(done.outcome for _, done, _, _ in rounds),
        proportion([done.outcome == "revised" for _, done, _, _ in rounds]),
        {name: clustered_mean(list(of_draft.values())) for name, of_draft in gains.items()},
    )


def gold_by_round(rows: Sequence[Row]) -> list[dict[str, Estimate]]:
    """Return the mean gold by dimension of the originals and of the texts after each round; [] where no gold is known."""
    if not rows or "gold" not in rows[0]:
        return []
    return [
        {name: mean([float(row["gold"][number][name]) for row in rows]) for name in rows[0]["gold"][0]}
        for number in range(len(rows[0]["gold"]))
    ]


def revision_summary(rows: Sequence[Row]) -> dict[str, object]:
    """Return the figures of a revise run for its summary."""
    rounds = [RevisionRound.of(each) for row in rows for each in row["rounds"]]
    return {
        "drafts": len(rows),
        "changed": sum(row["rounds"][-1]["text"] != row["completion"] for row in rows) / len(rows),
        "outcomes": _counted(each.outcome for each in rounds),
        "tokens_read": sum(each.tokens_read for each in rounds),
        "tokens_written": sum(each.tokens_written for each in rounds),
        "principles": {each.principle: _figures_row(each) for each in principle_figures(rows)},
        "gold": [{name: _estimate_row(estimate) for name, estimate in scores.items()} for scores in gold_by_round(rows)],
    }


def _figures_row(figures: PrincipleFigures) -> dict[str, object]:
    return {
        "dimension": figures.dimension,
        "drawn": figures.drawn,
        "outcomes": figures.outcomes,
        "changed": _estimate_row(figures.changed),
        "gold": {name: _estimate_row(estimate) for name, estimate in figures.gold.items()},
    }


def _estimate_row(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "se": known(estimate.se), "n": estimate.n}


def _counted(outcomes: Iterable[str]) -> dict[str, int]:
    """How often each outcome occurs, in the order of `OUTCOMES`."""
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}
