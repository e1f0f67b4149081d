"""Whether a candidate keeps the limits of a gate: each limit passes, fails, or is unknown with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from palate.agreement.estimates import json_values
from palate.core import ConfigError
from palate.data.judge_names import UNCALIBRATED
from palate.evaluation.evaluated_model import is_known, matched, unmatched_note, wins_of
from palate.evaluation.gate_file import Gate, GateLimit, refuse_unknown
from palate.evaluation.intervals import Estimate, mean, win_rate
from palate.evaluation.run_metrics import WINS, EvaluatedRun, MetricColumn, other_settings, paired, paired_change
from palate.evaluation.training_prompts import prompts_note
from palate.runs.record import ancestry, parent_path, run_of

ROUNDING = 1e-9
"""How far a number may lie beyond a limit: sums of decimal numbers are off by less."""

NOTHING = 1e-6
"""A baseline's mean below this is 0 but for rounding, such as the KL of a model to itself."""

LimitStatus = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True)
class LimitResult:
    """What became of one limit.

    Attributes:
        limit: the limit.
        status: passed, failed or unknown.
        reason: why it is unknown; "" otherwise.
        number: the number that was held against the limit.
        measured: what the limit is on: the value, the change or the relative change, with its interval.
        candidate: the candidate's value over all its questions.
        baseline: the baseline's value over the questions that both answered.
        change: the paired change.
        relative: the change divided by the size of the baseline's mean; None where that is not known.
        fails: whether the gate fails by it.
    """

    limit: GateLimit
    status: LimitStatus
    reason: str = ""
    number: float | None = None
    measured: Estimate | None = None
    candidate: Estimate | None = None
    baseline: Estimate | None = None
    change: Estimate | None = None
    relative: Estimate | None = None
    fails: bool = False


@dataclass(frozen=True)
class GateReport:
    """The verdict of a gate.

    Attributes:
        gate: its file.
        candidate: the run that was judged.
        baseline: the run that it was compared with, if any.
        results: one per limit, in the order of the file.
        notes: what a reader must know about the comparison, a sentence each.
    """

    gate: Gate
    candidate: EvaluatedRun
    baseline: EvaluatedRun | None
    results: tuple[LimitResult, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate may go on."""
        return not any(result.fails for result in self.results)

    @property
    def verdict(self) -> str:
        """One sentence: passed or failed, and by how many limits."""
        counts = {status: sum(result.status == status for result in self.results) for status in ("passed", "failed", "unknown")}
        parts = [f"{count} {status}" for status, count in counts.items() if count]
        return f"{self.candidate.name} {'passes' if self.passed else 'fails'} the gate {self.gate.name}: {', '.join(parts)}"

    def plain(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        plain: dict[str, Any] = json_values(
            {
                "gate": self.gate.name,
                "passed": self.passed,
                "candidate": _named(self.candidate),
                "baseline": None if self.baseline is None else _named(self.baseline),
                "limits": [{**asdict(result), "limit": {**asdict(result.limit), "words": result.limit.words}} for result in self.results],
                "notes": list(self.notes),
            }
        )
        return plain


def _named(run: EvaluatedRun) -> dict[str, Any]:
    return {"run": run.name, "key": run.record.key, "prompts": len(run.model.rows)}


def judge_gate(gate: Gate, candidate: EvaluatedRun, baseline: EvaluatedRun | None) -> GateReport:
    """Hold the candidate against every limit.

    Raises:
        ConfigError: a limit needs a baseline and there is none, or names a metric that is a slip.
    """
    refuse_unknown(gate, [*candidate.metrics, *(() if baseline is None else baseline.metrics)])
    needing = [limit for limit in gate.limits if limit.needs_baseline]
    if needing and baseline is None:
        raise ConfigError(f"`{needing[0].words}` compares two runs. Name the other one with --baseline")
    results = tuple(
        replace(result, fails=result.status == "failed" or (result.status == "unknown" and gate.fails_without(result.limit)))
        for result in (_judged(limit, candidate, baseline) for limit in gate.limits)
    )
    return GateReport(gate, candidate, baseline, results, tuple(_notes(gate, candidate, baseline)))


def _judged(limit: GateLimit, candidate: EvaluatedRun, baseline: EvaluatedRun | None) -> LimitResult:
    found = _wins(limit, candidate, baseline) if limit.metric in WINS else _measured(limit, candidate, baseline)
    if found.measured is None:
        return found
    number = {"estimate": found.measured.value, "low": found.measured.low, "high": found.measured.high}[limit.by]
    if math.isnan(number):
        n = found.measured.n
        why = "a single value says nothing about others" if n == 1 else f"all {n} values are equal"
        return replace(found, reason=f"its interval is not known: {why}")
    keeps = number >= limit.bound - ROUNDING if limit.at_least is not None else number <= limit.bound + ROUNDING
    return replace(found, status="passed" if keeps else "failed", number=number)


def _measured(limit: GateLimit, candidate: EvaluatedRun, baseline: EvaluatedRun | None) -> LimitResult:
    """Return the result with what is measured; without it where that is unknown."""
    unknown = LimitResult(limit, "unknown")
    own = candidate.metrics.get(limit.metric)
    if own is None:
        return replace(unknown, reason=f"{candidate.name} did not measure it")
    unknown = replace(unknown, candidate=own.estimate)
    other = None if baseline is None else baseline.metrics.get(limit.metric)
    if limit.of == "value":
        found = replace(unknown, measured=own.estimate)
        if baseline is None or other is None or _differing(own, candidate, baseline) or (pair := paired_change(own, other)) is None:
            return found
        relative = relative_change(own, other)
        return replace(found, change=pair[0], baseline=pair[1], relative=None if isinstance(relative, str) else relative)
    assert baseline is not None
    if other is None:
        return replace(unknown, reason=f"{baseline.name} did not measure it")
    if names := _differing(own, candidate, baseline):
        return replace(unknown, reason=f"the runs measured it in different ways: they differ in {', '.join(names)}")
    change = paired_change(own, other)
    if change is None:
        return replace(unknown, reason="the runs share no question of it")
    relative = relative_change(own, other)
    both = replace(unknown, change=change[0], baseline=change[1], relative=None if isinstance(relative, str) else relative)
    if limit.of == "change":
        return replace(both, measured=change[0])
    return replace(both, reason=relative) if isinstance(relative, str) else replace(both, measured=relative)


def _differing(own: MetricColumn, candidate: EvaluatedRun, baseline: EvaluatedRun) -> list[str]:
    return other_settings(own, candidate.record, baseline.record)


def _wins(limit: GateLimit, candidate: EvaluatedRun, baseline: EvaluatedRun | None) -> LimitResult:
    """How often the candidate's completion is better than the baseline's, by gold or by score; a tie is half a win."""
    unknown = LimitResult(limit, "unknown")
    assert baseline is not None
    figure = WINS[limit.metric]
    for run in (candidate, baseline):
        if figure not in run.metrics:
            return replace(unknown, reason=f"{run.name} did not measure {figure}")
    if names := _differing(candidate.metrics[figure], candidate, baseline):
        return replace(unknown, reason=f"the runs measured {figure} in different ways: they differ in {', '.join(names)}")
    pairs = [
        (row, other)
        for row, other in matched(candidate.model.rows, baseline.model.rows)
        if is_known(row, figure) and is_known(other, figure)
    ]
    wins = wins_of(pairs, figure)
    if not wins:
        return replace(unknown, reason=f"the runs share no prompt whose {figure} both know")
    rate = win_rate(wins.count(1.0), wins.count(0.0), wins.count(0.5))
    return replace(unknown, measured=rate, candidate=rate)


def relative_change(own: MetricColumn, other: MetricColumn) -> Estimate | str:
    """Return (mean of own - mean of other) / |mean of other| over the questions of both; a reason where that is not known.

    The interval is that of the ratio of two paired means by the delta method. For shares it is the interval of the change, divided by
    the baseline's share as if that were known.
    """
    found = paired_change(own, other)
    assert found is not None
    change, base = found
    if abs(base.value) < NOTHING:
        return "the baseline's mean is 0, so there is nothing to divide by"
    size = abs(base.value)
    if own.is_share:
        return Estimate(change.value / size, change.se / size, change.low / size, change.high / size, change.n)
    if base.low <= 0 <= base.high:
        return "the baseline's mean cannot be told from 0, so a change relative to it means nothing"
    values, others = (np.array(column) for column in paired(own, other))
    ratio = float(values.mean() / others.mean())
    error = mean(values - ratio * others)
    value = change.value / size
    return replace(error, value=value, se=error.se / size, low=value + error.low / size, high=value + error.high / size)


def _notes(gate: Gate, candidate: EvaluatedRun, baseline: EvaluatedRun | None) -> Iterator[str]:
    runs = [candidate, *([] if baseline is None else [baseline])]
    if baseline is not None and (note := unmatched_note([candidate.model], baseline.model)):
        yield f"{note} Changes are over those; values of the candidate are over all its prompts."
    if note := prompts_note(
        [str(run.directory) for run in runs], [str(row["content"]) for run in runs for row in run.model.rows if "content" in row]
    ):
        yield note
    for limit in gate.limits:
        column = candidate.metrics.get(limit.metric)
        if column is not None and column.unknown:
            total = column.unknown + len(column.values)
            yield f"{limit.metric} is not known of {column.unknown} of {total} completions, which are left out."
    if any(limit.metric.split("/")[0] in {"score", "win_rate"} for limit in gate.limits):
        if parts := candidate.summary.get(UNCALIBRATED):
            yield f"The score has uncalibrated judges: {', '.join(parts)}. Nobody has measured them on people's judgments."
        if trained_against(candidate):
            yield "The candidate was trained against the reward that scores it here, so its score is not evidence of quality."


def trained_against(run: EvaluatedRun) -> bool:
    """Whether the evaluated model learned, or was chosen, by a reward that scores it in this run."""
    scorers = {parent.key.split("/")[0] for parent in run.record.parents if parent.field == "reward" or parent.field.startswith("rewards.")}
    homes = [run_of(parent_path(run.directory, parent)) for parent in run.record.parents if parent.field in {"model", "completions"}]
    return any(
        parent.key.split("/")[0] in scorers
        for home in homes
        if home is not None
        for _, record in ancestry(home).values()
        if record.stage in {"online", "rerank", "pair"}
        for parent in record.parents
    )
