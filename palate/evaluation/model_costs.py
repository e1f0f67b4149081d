"""What each model of a report cost in labels and in tokens, from the runs that led to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.evaluation.report.constitution_records import ModelCost
from palate.runs.record import RunRecord, ancestry, parent_path, read_record, run_of

Figures = tuple[int, int, int, int]
"""Labels of people, labels of models, tokens read and tokens written."""


def model_cost(variant: str, evaluation: str) -> ModelCost:
    """Return what the model cost that an evaluate run measured. Each run that led to it counts once."""
    runs: dict[str, tuple[Path, RunRecord]] = {}
    for home in measured_runs(Path(evaluation)):
        runs |= ancestry(home)
    costs = [COSTS[record.stage](path, record) for path, record in runs.values() if record.stage in COSTS]
    return ModelCost(variant, *(sum(column) for column in zip((0, 0, 0, 0), *costs, strict=True)))


def measured_runs(evaluation: Path) -> Iterator[Path]:
    """Yield the run of the model, or of the completions, that an evaluate run measured: not that of a reward model that scored them."""
    record = read_record(evaluation)
    for parent in () if record is None else record.parents:
        home = run_of(parent_path(evaluation, parent))
        if parent.field in {"model", "completions"} and home is not None:
            yield home


def _of_collect(path: Path, record: RunRecord) -> Figures:
    """Labels of people or of judges; where both answered, the summary's `mix` says who gave how many."""
    summary = _summary(path)
    kind = cast("Any", record.config["from"])["kind"]
    if "mix" in summary:
        people, judge = (summary["mix"]["sources"][name] for name in ("people", "judge"))
        return int(people["labels"]), int(judge["labels"]), int(judge["tokens"]) - int(judge["tokens_out"]), int(judge["tokens_out"])
    if kind in {"people", "simulated"}:
        return int(summary["judgments"]), 0, 0, 0
    judges = summary.get("judges", {})
    return 0, int(summary["judgments"]), int(judges.get("tokens_in", 0)), int(judges.get("tokens_out", 0))


def _of_revise(path: Path, record: RunRecord) -> Figures:
    del record
    summary = _summary(path)
    return 0, 0, int(summary["tokens_read"]), int(summary["tokens_written"])


def _of_samples(path: Path, record: RunRecord) -> Figures:
    """All that was sampled. For rerank that is n times what it kept, by its mean length, or nothing where `samples` were given."""
    rows: list[Mapping[str, Any]] = [row for _, row in read_rows(path / "samples.jsonl")]
    kept = sum(int(each.get("tokens", 0)) for row in rows for each in row["completions"])
    n: Any = record.config.get("n", 1) if record.config.get("samples") is None else 0
    return 0, 0, 0, kept * int(n)


def _of_online(path: Path, record: RunRecord) -> Figures:
    config: Any = record.config
    episodes = int(config["prompts_per_iteration"]) * int(config["samples_per_prompt"])
    lengths = [float(str(row["online/length/mean"])) for _, row in read_rows(path / "metrics.jsonl") if "online/length/mean" in row]
    return 0, 0, 0, round(episodes * sum(lengths))


def _summary(path: Path) -> Any:
    return read_json(path / "summary.json")


COSTS: Mapping[str, Callable[[Path, RunRecord], Figures]] = {
    "collect": _of_collect,
    "revise": _of_revise,
    "sample": _of_samples,
    "rerank": _of_samples,
    "online": _of_online,
}
"""How each kind of stage that asks people or models is counted."""
