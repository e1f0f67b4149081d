"""A model card in the form of Hugging Face, written from a run: every sentence states a figure that the runs hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from palate.agreement.estimates import known
from palate.data.jsonl import read_rows
from palate.data.judge_names import UNCALIBRATED
from palate.evaluation.gate import trained_against
from palate.evaluation.intervals import Estimate, share
from palate.evaluation.model_trace import REWARDS, ModelTrace, TracedJudgments
from palate.evaluation.report.formatting import counted, interval, listed, number, percent, signed, thousands
from palate.evaluation.run_metrics import EvaluatedRun, MetricColumn, other_settings, paired_change
from palate.evaluation.training_prompts import prompts_note
from palate.runs.record import read_record
from palate.runs.run import WARNINGS

MOST_RATERS = 20
"""Raters in a table; the others are counted."""

FEW = 30
"""With fewer questions than this, the card says that there are few."""

ASKED: Mapping[str, str] = {
    "gold": "the truth (`gold`)",
    "score": "the score of a reward (`score`)",
    "kl": "the distance from a reference (`kl`)",
    "kind/answer": "skills (evals of the kind `answer`)",
    "kind/refuse": "refusals of what must be refused (evals of the kind `refuse`)",
    "kind/comply": "over-refusal (evals of the kind `comply`)",
    "bias": "bias between groups (the eval `bias`)",
    "rule": "breaches of written rules (`rules`)",
}
"""What a reader of a card looks for, by metric."""

SOURCES: Mapping[str, str] = {
    "people": "people",
    "simulated": "simulated raters, who are not people",
    "judge": "a model that judges",
    "likelihood": "the likelihood of a model",
    "hybrid": "a model that judges, and people",
    "hybrid_simulated": "a model that judges, and simulated raters, who are not people",
    "rules": "raters of written rules",
    "file": "raters whom the file names",
}


WITHOUT_PEOPLE = frozenset({"simulated", "judge", "likelihood", "hybrid_simulated"})
"""Sources of judgments without people."""


@dataclass(frozen=True)
class ModelCard:
    """What a card is made of.

    Attributes:
        name: the model's name.
        trace: what it was made from.
        evaluations: evaluate runs that measured it.
        baseline: an evaluate run to compare with, if any.
        license: the license that its maker gives it; "" leaves it out.
        is_adapter: whether the directory holds an adapter alone.
    """

    name: str
    trace: ModelTrace
    evaluations: Sequence[EvaluatedRun]
    baseline: EvaluatedRun | None = None
    license: str = ""
    is_adapter: bool = False

    def text(self) -> str:
        """Return the file `README.md`: metadata as YAML, then the sections."""
        metadata = yaml.safe_dump(self.metadata(), sort_keys=False, allow_unicode=True, width=1000)
        sections = (self._origin(), self._data(), self._raters(), self._rewards(), self._results(), self._limits())
        body = "\n\n".join("\n".join(section) for section in map(list, sections) if section)
        return f"---\n{metadata}---\n\n# {self.name}\n\n{body}\n"

    def metadata(self) -> dict[str, Any]:
        """Return the metadata: library, task, base model, tags and `model-index`."""
        trace = self.trace
        is_reward = trace.run.stage in REWARDS
        task = "text-classification" if is_reward else "text-generation"
        stages = list(dict.fromkeys(run.stage for run in trace.runs if run.stage not in {"world", "sample", "collect"}))
        base = next((one.name.removeprefix("hub:") for one in trace.inputs if one.key.startswith("hub:") and one.field == "model"), None)
        results = [result for run in self.evaluations for result in _index_results(run, task)] or (
            [_reward_result(self, task)] if is_reward and self.trace.rewards[-1].held_out else []
        )
        return {
            **({"license": self.license} if self.license else {}),
            "library_name": "peft" if self.is_adapter else "transformers",
            "pipeline_tag": task,
            **({"base_model": base} if base else {}),
            "tags": ["palate", *stages],
            **({"model-index": [{"name": self.name, "results": results}]} if results else {}),
        }

    def _origin(self) -> Iterator[str]:
        trace, last = self.trace, self.trace.run
        led = counted(len(trace.runs), "run")
        yield f"The stage `{last.stage}` made this model in the run `{last.name}`, with seed {last.seed}. {led} led to it."
        yield ""
        yield "## Lineage"
        yield ""
        yield "| run | stage | seed | made from | code |"
        yield "|---|---|---|---|---|"
        for run in trace.runs:
            made_from = ", ".join(f"{field}: `{key}`" for field, key in run.parents.items()) or "nothing"
            yield f"| `{run.name}` | {run.stage} | {run.seed} | {made_from} | {(run.commit or 'not known')[:12]} |"

    def _data(self) -> Iterator[str]:
        yield "## Data"
        yield ""
        if not self.trace.inputs:
            yield "No file from outside went into this model: its runs wrote everything that they learned from."
        for one in self.trace.inputs:
            rows = "" if one.rows is None else f", {thousands(one.rows)} rows"
            yield f"- `{one.name}` (`{one.field}` of `{one.run}`): content `{one.key}`{rows}, {_presence(one.presence)}."
        for run in self.trace.runs:
            record = read_record(run.directory)
            for reasons in ({} if record is None else record.dropped).values():
                for reason, count in reasons.items():
                    yield f"- `{run.name}` left out {thousands(count)} rows: {reason}."

    def _raters(self) -> Iterator[str]:
        if not self.trace.judgments:
            return
        yield "## Raters"
        for one in self.trace.judgments:
            yield ""
            yield from _rater_lines(one)

    def _rewards(self) -> Iterator[str]:
        if not self.trace.rewards:
            return
        yield "## Reward models"
        yield ""
        for one in self.trace.rewards:
            if one.accuracy is None or not one.held_out:
                yield f"- `{one.name}`: its accuracy on held-out judgments is not known."
            else:
                accuracy = share(one.accuracy * one.held_out, one.held_out)
                yield (
                    f"- `{one.name}` agrees with {percent(accuracy.value, 1)} of {thousands(one.held_out)} held-out judgments "
                    f"(95 %: {percent(accuracy.low, 1)} to {percent(accuracy.high, 1)})."
                )

    def _results(self) -> Iterator[str]:
        yield "## Evaluation"
        for run in self.evaluations:
            yield ""
            yield f"`{run.name}` measured one completion of each of {len(run.model.rows)} prompts. Intervals are 95 %, over prompts."
            if note := prompts_note([str(run.directory)], [str(row["content"]) for row in run.model.rows if "content" in row]):
                yield note
            yield ""
            changed = f" | change from `{self.baseline.name}` | interval" if self.baseline is not None else ""
            yield f"| metric | value | interval | n{changed} |"
            yield "|---|---|---|---" + ("|---|---|" if self.baseline is not None else "|")
            for column in run.metrics.values():
                one = column.estimate
                row = f"| {column.name} | {number(one.value, 3)} | {interval(one, 3)} | {one.n} |"
                yield row + (_change_cells(run, self.baseline, column) if self.baseline is not None else "")
        if not self.evaluations and self.trace.run.stage not in REWARDS:
            yield ""
            yield "No evaluate run measured this model."

    def _limits(self) -> Iterator[str]:
        yield "## Limits"
        yield ""
        yield f"- The model was trained once, with seed {self.trace.run.seed}. The intervals say nothing about other seeds."
        measured = {name for run in self.evaluations for name in run.metrics}
        missing = [text for name, text in ASKED.items() if not any(one == name or one.startswith(f"{name}/") for one in measured)]
        if missing:
            yield f"- Not measured: {listed(missing)}."
        for run in self.evaluations:
            yield from _evaluation_limits(run)
        for source in self.trace.judgments:
            if source.source in WITHOUT_PEOPLE:
                count, origin = thousands(source.judgments), SOURCES[source.source]
                yield f"- No person judged in `{source.name}`: its {count} judgments come from {origin}."
            if source.is_calibrated is False:
                yield f"- Nobody measured the judge of `{source.name}` on people's judgments."
            if (unknown := source.guidelines.get("", 0)) and source.source in {"people", "file", "hybrid"}:
                yield f"- The version of the guidelines is not known for {thousands(unknown)} judgments of `{source.name}`."
        for one in self.trace.inputs:
            if one.presence in {"changed", "missing"}:
                yield f"- `{one.name}`, from which `{one.run}` was made, is {one.presence} now."
        for made in self.trace.runs:
            path = made.directory / WARNINGS
            guards = Counter(str(row["guard"]) for _, row in read_rows(path)) if path.is_file() else Counter[str]()
            if guards:
                yield f"- Guards warned in `{made.name}`: {listed([f'{name} ({count} times)' for name, count in guards.items()])}."


def _evaluation_limits(run: EvaluatedRun) -> Iterator[str]:
    """Yield what limits the figures of one evaluate run."""
    if small := [f"{name} ({column.estimate.n})" for name, column in run.metrics.items() if column.estimate.n < FEW]:
        yield f"- `{run.name}` rests on fewer than {FEW} questions for {listed(small)}."
    if (gold := run.record.config.get("gold")) and "gold" in run.metrics:
        yield f"- `gold` is what the function `{gold}` says."
    if trained_against(run):
        yield f"- The model was trained against the reward that scores it in `{run.name}`: that score is not evidence of quality."
    if parts := run.summary.get(UNCALIBRATED):
        yield f"- Nobody measured the judges of {listed(list(parts))} on people's judgments."


def _presence(presence: str) -> str:
    words = {"unchanged": "still there unchanged", "changed": "changed since", "missing": "no longer there"}
    return words.get(presence, "named, not copied")


def _rater_lines(one: TracedJudgments) -> Iterator[str]:
    """Yield what is known about one source of judgments, and a table of its raters."""
    yield (
        f"`{one.name}` holds {thousands(one.judgments)} judgments of {len(one.raters)} raters. They come from "
        f"{SOURCES.get(one.source, one.source)}."
    )
    if one.agreement is not None and one.doubly_judged:
        same = share(one.agreement * one.doubly_judged, one.doubly_judged)
        yield (
            f"Two raters of a question agree on {percent(same.value, 1)} of {thousands(one.doubly_judged)} questions "
            f"(95 %: {percent(same.low, 1)} to {percent(same.high, 1)})."
        )
    else:
        yield "How far two raters agree is not known."
    if versions := [f"{version} ({thousands(count)})" for version, count in one.guidelines.items() if version]:
        yield f"Judgments by version of the guidelines: {listed(versions)}."
    yield f"Judgments by dimension: {listed([f'{name} ({thousands(count)})' for name, count in one.dimensions.items()])}."
    yield ""
    yield "| rater | judgments |"
    yield "|---|---|"
    for name, count in list(one.raters.items())[:MOST_RATERS]:
        yield f"| `{name}` | {thousands(count)} |"
    if len(one.raters) > MOST_RATERS:
        rest = sum(list(one.raters.values())[MOST_RATERS:])
        yield f"| {len(one.raters) - MOST_RATERS} more | {thousands(rest)} |"


def _change_cells(run: EvaluatedRun, baseline: EvaluatedRun, column: MetricColumn) -> str:
    other = baseline.metrics.get(column.name)
    if other is None or other_settings(column, run.record, baseline.record) or (found := paired_change(column, other)) is None:
        return " not known | not known |"
    return f" {signed(found[0].value, 3)} | {interval(found[0], 3)} |"


def _index_results(run: EvaluatedRun, task: str) -> Iterator[dict[str, Any]]:
    """Yield the results of `model-index`: one for the prompts and one for the evals, each with its metrics."""
    keys = {parent.field: (Path(parent.path).name, parent.key) for parent in run.record.parents}
    groups: dict[str, list[MetricColumn]] = {"prompts": [], "evals": []}
    for column in run.metrics.values():
        is_eval = column.name == "bias" or column.name.startswith(("eval/", "kind/"))
        groups["evals" if is_eval else "prompts"].append(column)
    for field, columns in groups.items():
        if columns:
            name, key = keys.get(field, (field, "not known"))
            yield {
                "task": {"type": task},
                "dataset": {"name": name, "type": key},
                "metrics": [_index_metric(column.name, column.estimate) for column in columns],
            }


def _index_metric(name: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "type": name,
        "name": name,
        "value": estimate.value,
        "args": {"n": estimate.n, "low": known(estimate.low), "high": known(estimate.high)},
    }


def _reward_result(card: ModelCard, task: str) -> dict[str, Any]:
    """The accuracy of a reward model on its held-out judgments."""
    reward = card.trace.rewards[-1]
    accuracy = share((reward.accuracy or 0.0) * reward.held_out, reward.held_out)
    inputs = card.trace.run.parents
    keys = [key for field, key in inputs.items() if field.split(".")[0] == ("held_out" if "held_out" in inputs else "preferences")]
    dataset = {"name": "held-out judgments", "type": " + ".join(keys)}
    return {"task": {"type": task}, "dataset": dataset, "metrics": [_index_metric("accuracy", accuracy)]}
