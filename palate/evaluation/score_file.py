"""Scores of the completions in a file, row by row: what `palate score` writes. A scoring that was interrupted goes on where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import torch

from palate.core import Completion, ConfigError, DataError, Interrupted, Prompt
from palate.data.files import read_json, write_json
from palate.data.formats import CompletionGroup, sample_row
from palate.data.jsonl import Row, RowWriter
from palate.rewards.combination import Combination, GroupScores
from palate.runs.progress import progress


class GroupScorer(Protocol):
    """What scores groups of completions: reward models, or a classifier of rules."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the dimensions, in the order of the columns of scores."""
        ...

    def score(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> GroupScores:
        """Score all completions, groups in order."""
        ...


AT_ONCE = 64
"""Rows that are scored together, and written before the next ones are."""


@dataclass
class ScoreTally:
    """What was scored so far: numbers of rows and completions, and why completions have no score."""

    rows: int = 0
    completions: int = 0
    unscored: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """The counts as a sentence."""
        without = "".join(f"; without a score: {count} x {reason}" for reason, count in self.unscored.most_common())
        return f"{self.completions} completions of {self.rows} rows{without}"


def scored_rows(
    models: GroupScorer, combination: Combination, groups: Sequence[CompletionGroup], tally: ScoreTally, at_once: int = AT_ONCE
) -> Iterator[Row]:
    """Yield a row per group, in order: the prompt, and its completions with their `score` and their `scores` by dimension.

    An ensemble adds `spread`, the standard deviation among its members' scores. A completion without a score has null in all of them, and
    the reason under `unscored`.
    """
    with progress(len(groups), "score") as advance:
        for start in range(0, len(groups), at_once):
            part = groups[start : start + at_once]
            scores = models.score([group.prompt for group in part], [group.completions for group in part])
            yield from _rows(models.heads, combination, part, scores, tally)
            advance(len(part))


def _rows(
    heads: Sequence[str], combination: Combination, part: Sequence[CompletionGroup], scores: GroupScores, tally: ScoreTally
) -> Iterator[Row]:
    columns = [heads.index(name) for name in combination.dimensions]
    table = scores.scores[:, columns]
    combined, by_dimension = combination(table).tolist(), table.tolist()
    spread = None
    if len(scores.members) > 1:
        spread = torch.stack([combination(member[:, columns]) for member in scores.members]).std(0, correction=0).tolist()
    ends = list(accumulate(len(group.completions) for group in part))
    for group, end in zip(part, ends, strict=True):
        numbers = range(end - len(group.completions), end)
        row = sample_row(group.prompt, group.completions)
        entries: Any = row["completions"]
        for k, (entry, number) in enumerate(zip(entries, numbers, strict=True)):
            reason = scores.reasons.get(number)
            entry["score"] = None if reason else combined[number]
            entry["scores"] = (
                dict.fromkeys(combination.dimensions) if reason else dict(zip(combination.dimensions, by_dimension[number], strict=True))
            )
            if spread is not None:
                entry["spread"] = None if reason else spread[number]
            if reason:
                entry["unscored"] = reason
                tally.unscored[reason.partition(":")[0]] += 1
            if group.sides:
                entry["side"] = group.sides[k]
        tally.rows += 1
        tally.completions += len(group.completions)
        yield row


def write_scores(
    models: GroupScorer,
    combination: Combination,
    groups: Sequence[CompletionGroup],
    out: Path,
    identity: Mapping[str, object],
) -> ScoreTally:
    """Write the scored rows to `out`. Rows wait in `OUT.part` until all are there, and the same command goes on with them.

    Args:
        models: what scores.
        combination: how scores become one.
        groups: what is scored.
        out: the file.
        identity: what decides the scores, as JSON values; rows of another identity are not continued.

    Raises:
        ConfigError: `OUT.part` holds rows of another scoring.
        Interrupted: the user pressed Ctrl-C. The rows so far are kept.
    """
    part, note, tally = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.part.json"), ScoreTally()
    if part.is_file() and (not note.is_file() or read_json(note) != identity):
        raise ConfigError(f"{part} holds rows of another scoring, with other models, settings or data. Delete it, or give another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(note, identity)
    with RowWriter(part) as writer:
        done = writer.rows_done
        if done > len(groups):
            raise DataError(f"{part} holds {done} rows, and there are {len(groups)} to score. Delete it.")
        try:
            for row in scored_rows(models, combination, groups[done:], tally):
                writer.append(row)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"stopped after {writer.rows_done} of {len(groups)} rows. The same command continues from there.") from stop
    part.replace(out)
    note.unlink()
    return tally
