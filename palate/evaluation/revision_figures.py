"""What critiques and revisions changed: by round, and by the principle that was drawn. It reads the rows of `revisions.jsonl`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.agreement.estimates import known
from palate.core import Conversation, DataError
from palate.data.conversations import prompt_of
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows
from palate.evaluation.intervals import Estimate, clustered_mean, mean, paired_difference, proportion
from palate.evaluation.report.constitution_records import PrincipleRow, RevisionRounds
from palate.judges.revision_rounds import OUTCOMES, RevisionRound

Row = Mapping[str, Any]
Scores = Mapping[str, float]
Change = tuple[str, RevisionRound, Scores, Scores]
"""A draft's id, one of its rounds, and the gold before and after it by dimension, with the mean as `gold`; empty where none is known."""


def revision_rounds(directory: str, labels: str | None = None) -> RevisionRounds:
    """Return what the revise run in `directory` did, for the report.

    Args:
        directory: the revise run.
        labels: a collect run that compared its originals and revisions, if there is one.
    """
    rows: list[Row] = [row for _, row in read_rows(Path(directory) / "revisions.jsonl")]
    gold = _gold(rows)
    preferred = {} if labels is None else preference_by_principle(rows, labels)
    gains = {name: paired_difference(values[-1], values[0]) for name, values in gold.items()}
    rounds = tuple({name: mean(values[number]) for name, values in gold.items()} for number in range(len(next(iter(gold.values()), []))))
    principles = tuple(replace(row, preferred=preferred.get(row.principle)) for row in principle_rows(rows))
    return RevisionRounds(str(rows[0]["constitution"]), len(rows), principles, rounds, gains)


def preference_by_principle(rows: Sequence[Row], labels: str) -> dict[str, Estimate]:
    """Return the mean label for a revision against its original, by the principle of the round that wrote the revision.

    The labels are those of a collect run. Pairs of two revisions are left out.

    Raises:
        DataError: no label compares a revision with its original.
    """
    principle_of: dict[tuple[Conversation, str, str], str] = {}
    for row in rows:
        prompt = prompt_of(row["prompt"])
        for each in map(RevisionRound.of, row["rounds"]):
            if each.outcome == "revised":
                principle_of.setdefault((prompt, str(row["completion"]), each.text), each.principle)
    shares: dict[str, list[float]] = {}
    paths = (Path(labels) / "preferences.jsonl", Path(labels) / "held_out.jsonl")
    for pair in (pair for path in paths if path.is_file() and path.stat().st_size for pair in read_preferences(path).rows):
        sides = ((pair.chosen.text, pair.rejected.text, pair.probability), (pair.rejected.text, pair.chosen.text, 1 - pair.probability))
        for revision, original, share in sides:
            principle = principle_of.get((pair.prompt.conversation, original, revision))
            if principle is not None:
                shares.setdefault(principle, []).append(share)
    if not shares:
        raise DataError(f"{labels}: no label compares a revision with its original. Give the collect run the samples of this revise run")
    return {principle: mean(of_principle) for principle, of_principle in shares.items()}


def principle_rows(rows: Sequence[Row]) -> tuple[PrincipleRow, ...]:
    """Return what each principle did, those of one dimension together. Errors of gold count a draft once, however often it was changed."""
    changes: dict[tuple[str, str], list[Change]] = {}
    for row in rows:
        for change in _changes(row):
            changes.setdefault((change[1].dimension, change[1].principle), []).append(change)
    return tuple(_principle_row(dimension, name, changes[dimension, name]) for dimension, name in sorted(changes))


def _changes(row: Row) -> Iterator[Change]:
    scores = [_with_mean(each) for each in row.get("gold", ())]
    for number, each in enumerate(row["rounds"]):
        before, after = (scores[number], scores[number + 1]) if scores else ({}, {})
        yield str(row["id"]), RevisionRound.of(each), before, after


def _principle_row(dimension: str, principle: str, changes: Sequence[Change]) -> PrincipleRow:
    gains: dict[str, dict[str, list[float]]] = {}
    for draft, done, before, after in changes:
        for name in after if done.outcome == "revised" else ():
            gains.setdefault(name, {}).setdefault(draft, []).append(after[name] - before[name])
    outcomes = _counted(done.outcome for _, done, _, _ in changes)
    return PrincipleRow(
        principle,
        dimension,
        len(changes),
        proportion([done.outcome == "revised" for _, done, _, _ in changes]),
        {outcome: count for outcome, count in outcomes.items() if outcome != "revised"},
        {name: clustered_mean(list(of_draft.values())) for name, of_draft in gains.items()},
    )


def _gold(rows: Sequence[Row]) -> dict[str, list[list[float]]]:
    """Gold by dimension, then by round (0 is the original), then by draft; empty where no gold is known."""
    scored = [[_with_mean(each) for each in row.get("gold", ())] for row in rows]
    names = scored[0][0] if scored and scored[0] else {}
    return {name: [[scores[number][name] for scores in scored] for number in range(len(scored[0]))] for name in names}


def _with_mean(scores: Scores) -> Scores:
    return {"gold": sum(scores.values()) / len(scores), **scores}


def revision_summary(rows: Sequence[Row]) -> dict[str, object]:
    """Return the figures of a revise run for its summary."""
    rounds = [RevisionRound.of(each) for row in rows for each in row["rounds"]]
    gold = _gold(rows)
    return {
        "drafts": len(rows),
        "changed": sum(row["rounds"][-1]["text"] != row["completion"] for row in rows) / len(rows),
        "outcomes": _counted(each.outcome for each in rounds),
        "tokens_read": sum(each.tokens_read for each in rounds),
        "tokens_written": sum(each.tokens_written for each in rounds),
        "principles": {each.principle: _summary_of(each) for each in principle_rows(rows)},
        "gold": {name: [_estimate_row(mean(of_round)) for of_round in values] for name, values in gold.items()},
    }


def _summary_of(row: PrincipleRow) -> dict[str, object]:
    return {
        "dimension": row.dimension,
        "drawn": row.drawn,
        "kept": row.kept,
        "changed": _estimate_row(row.changed),
        "gold": {name: _estimate_row(estimate) for name, estimate in row.gold.items()},
    }


def _estimate_row(estimate: Estimate) -> dict[str, float | None]:
    return {"mean": estimate.value, "se": known(estimate.se), "n": estimate.n}


def _counted(outcomes: Iterable[str]) -> dict[str, int]:
    """How often each outcome occurs, in the order of `OUTCOMES`."""
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}
