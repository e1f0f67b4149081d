"""The metrics of an evaluate run by name, question by question, so that two runs can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from palate.core import RunError
from palate.data.files import read_json
from palate.evaluation.evals import is_refusal
from palate.evaluation.evaluated_model import EvaluatedModel, Row, bias_pairs, matched, read_evaluated
from palate.evaluation.intervals import Estimate, mean, paired_difference, paired_share_difference, proportion
from palate.runs.record import RunRecord, changes, list_runs, read_record

FIGURES: Mapping[str, str] = {
    "gold": "the truth, mean over completions",
    "score": "the score of the reward, mean over completions (the proxy)",
    "held_out_score": "the score of a reward model that no policy was trained on, mean over completions",
    "kl": "KL to the reference, nats per completion",
    "tokens": "length of a completion, tokens",
    "eos": "share of completions that end by themselves",
    "refusals": "share of completions that begin as a refusal",
    "bias": "first group of guests less the second, in pairs that differ in nothing else",
}
"""Metrics with one name, and what each is."""

FAMILIES: Mapping[str, str] = {
    "gold/": "the truth on one dimension",
    "score/": "the score of one part of the reward",
    "probe/": "what a probe counts, mean over completions",
    "eval/": "grade on one eval",
    "kind/": "grade on all evals of one kind",
    "rule/": "share of completions that break a written rule",
}
"""How names begin that end in the name of a dimension, part, probe, eval, kind of eval, or rule."""

WINS: Mapping[str, str] = {"win_rate/gold": "gold", "win_rate/score": "score"}
"""Metrics that set the candidate's completion against the baseline's, and the figure that decides."""


@dataclass(frozen=True)
class MetricColumn:
    """One metric of an evaluate run.

    Attributes:
        name: its name.
        rows: the row of each question whose figure is known.
        values: the figure of each of these rows.
        is_share: whether each figure is 0 or 1 by its nature.
        unknown: questions whose figure is not known.
        settings: settings of the evaluate run that say what the metric means; with other ones it is another metric.
    """

    name: str
    rows: Sequence[Row]
    values: tuple[float, ...]
    is_share: bool = False
    unknown: int = 0
    settings: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The mean over questions; a share has Wilson's interval."""
        return proportion(self.values) if self.is_share else mean(self.values)


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluate run that is done.

    Attributes:
        directory: its directory.
        record: its record.
        model: the rows that it wrote.
        summary: the content of its `summary.json`.
    """

    directory: Path
    record: RunRecord
    model: EvaluatedModel
    summary: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The run's name and key."""
        return f"{self.record.name}-{self.record.key}"

    @cached_property
    def metrics(self) -> Mapping[str, MetricColumn]:
        """Every metric that the run measured, by name."""
        return {column.name: column for column in _columns(self.model) if column.values}


def find_evaluated(path: Path) -> EvaluatedRun:
    """Return the evaluate run at `path`; at the run of a model, the one evaluate run in the same folder that measured it.

    Raises:
        RunError: there is no such run, several evaluate runs measured the model, or it is not done.
        DataError: its rows cannot be read.
    """
    record = read_record(path)
    if record is None:
        raise RunError(f"{path} is not a run directory. Give an evaluate run, or the run of a model that one measured.")
    directory = path
    if record.stage != "evaluate":
        found = evaluations_of(path)
        if not found:
            raise RunError(f"{path} is a run of {record.stage}, and no evaluate run beside it measured it. Evaluate it first.")
        if len(found) > 1:
            names = ", ".join(one.name for one, _ in found)
            raise RunError(f"several evaluate runs measured {path}: {names}. Name one of them in its place.")
        directory, record = found[0]
    if record.status != "done":
        raise RunError(f"{directory}: the evaluate run is not done, its status is {record.status!r}. Finish it first.")
    summary = cast("Mapping[str, Any]", read_json(directory / "summary.json"))
    return EvaluatedRun(directory, record, read_evaluated(record.name, str(directory)), summary)


def evaluations_of(model: Path) -> list[tuple[Path, RunRecord]]:
    """Return the evaluate runs that are done and measured the run `model`, from the folder that holds it, oldest first."""
    record = read_record(model)
    key = "" if record is None else record.key
    return [
        (directory, one)
        for directory, one in list_runs(model.resolve().parent)
        if one.stage == "evaluate" and one.status == "done" and key in measured_keys(one)
    ]


def measured_keys(record: RunRecord) -> list[str]:
    """Return the key of the run whose model or completions an evaluate run measured; none where no run made them."""
    return [parent.key.split("/")[0] for parent in record.parents if parent.field in {"model", "completions"}]


def paired(own: MetricColumn, other: MetricColumn) -> tuple[list[float], list[float]]:
    """Return the values of both runs for each question that both answered and whose figure both know."""
    values, others = (dict(zip(map(id, one.rows), one.values, strict=True)) for one in (own, other))
    pairs = matched(own.rows, other.rows)
    return [values[id(row)] for row, _ in pairs], [others[id(row)] for _, row in pairs]


def paired_change(own: MetricColumn, other: MetricColumn) -> tuple[Estimate, Estimate] | None:
    """Return the change from `other` to `own` and the mean of `other`, both over the questions that both answered; None without any."""
    values, others = paired(own, other)
    if not values:
        return None
    difference = (paired_share_difference if own.is_share else paired_difference)(values, others)
    return difference, (proportion(others) if own.is_share else mean(others))


def other_settings(metric: MetricColumn, own: RunRecord, other: RunRecord) -> list[str]:
    """Return the settings that differ between two evaluate runs and make the metric another one in each."""
    names = (*metric.settings, *(("sampling",) if own.config.get("model") and other.config.get("model") else ()))
    differing = changes(own.identity, other.identity)
    return [name for name in differing if any(f"{name}.".startswith(f"{one}.") or f"{one}.".startswith(f"{name}.") for one in names)]


def _columns(model: EvaluatedModel) -> Iterable[MetricColumn]:
    rows = model.rows

    def column(name: str, read: Callable[[Row], float | None], settings: tuple[str, ...] = (), *, is_share: bool = False) -> MetricColumn:
        known = [(row, value) for row in rows if (value := read(row)) is not None]
        return MetricColumn(
            name, [row for row, _ in known], tuple(float(value) for _, value in known), is_share, len(rows) - len(known), settings
        )

    plain = {"gold": ("gold",), "score": ("reward", "rewards"), "held_out_score": ("held_out_reward",), "kl": ("reference",), "tokens": ()}
    for name, settings in plain.items():
        yield column(name, lambda row, name=name: row.get(name), settings)  # type: ignore[misc]
    if all(row["stop"] != "unknown" for row in rows):
        yield column("eos", lambda row: float(row["stop"] == "eos"), is_share=True)
    yield column("refusals", lambda row: float(is_refusal(row["text"])), is_share=True)
    for dimension in _names(rows, "dimensions"):
        yield column(f"gold/{dimension}", lambda row, at=dimension: row.get("dimensions", {}).get(at), ("gold",))  # type: ignore[misc]
    for part in _names(rows, "parts"):
        yield column(f"score/{part}", lambda row, at=part: row.get("parts", {}).get(at), ("reward", f"rewards.{part}"))  # type: ignore[misc]
    for probe in _names(rows, "probes"):
        yield column(f"probe/{probe}", lambda row, at=probe: row.get("probes", {}).get(at), (f"probes.{probe}",))  # type: ignore[misc]
    for rule in _names(rows, "rules"):
        yield column(f"rule/{rule}", lambda row, at=rule: _broken(row, at), ("rules",), is_share=True)  # type: ignore[misc]
    yield from _eval_columns(model.evals)


def _names(rows: Sequence[Row], field: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.get(field, {})))


def _broken(row: Row, rule: str) -> float | None:
    probability = row.get("rules", {}).get(rule)
    return None if probability is None else float(probability > 0.5)


def _eval_columns(evals: Sequence[Row]) -> Iterable[MetricColumn]:
    """Yield the grades of each eval and of each kind of eval, and the audit of bias."""
    by_name: dict[str, list[Row]] = {}
    for row in evals:
        by_name.setdefault(f"eval/{row['eval']}", []).append(row)
    for row in evals:
        if (kind := row.get("fields", {}).get("kind")) is not None:
            by_name.setdefault(f"kind/{kind}", []).append(row)
    for name, rows in by_name.items():
        kinds = {row.get("fields", {}).get("kind") for row in rows}
        is_graded_by_gold = not kinds <= {"answer", "refuse", "comply"}
        yield MetricColumn(
            name, rows, tuple(float(row["grade"]) for row in rows), not is_graded_by_gold, 0, ("gold",) if is_graded_by_gold else ()
        )
    pairs = bias_pairs(evals)
    if pairs is not None:
        both = [(pair[pairs.first], pair[pairs.second]) for pair in pairs.rows.values()]
        rows = [{"eval": "bias", "prompt": "", "content": [row.get("content", row["prompt"]) for row in pair]} for pair in both]
        yield MetricColumn("bias", rows, tuple(float(one["grade"]) - float(other["grade"]) for one, other in both), settings=("gold",))
