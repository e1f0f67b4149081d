"""Tasks of lm-evaluation-harness, asked of a model that is in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from annotated_types import Ge

from palate.agreement.estimates import json_values
from palate.config.types import Count, Input
from palate.core import ConfigError, DataError, derive_seed
from palate.data.jsonl import write_rows
from palate.evaluation.evals import figure
from palate.evaluation.intervals import mean
from palate.models.causal import CausalPolicy
from palate.runs.run import Run

FILE = "lm_eval.jsonl"
"""What the model answered: a row for each question of each task."""


@dataclass(frozen=True)
class HarnessTasks:
    """Ask tasks of lm-evaluation-harness (`pip install 'palate[lm-eval]'`), with the model as it is in memory.

    Attributes:
        tasks: names of tasks or groups of tasks.
        folder: a folder of task files, which may run Python code that stands beside them; none takes the tasks that lm-eval brings along.
        shots: examples before each question; none takes the number of the task.
        limit: questions of each task, from its beginning, at most; none takes all.
        chat: ask through the chat template of the tokenizer.
        download: load data sets from a hub where a task names one; otherwise nothing is asked of the network.
    """

    tasks: tuple[str, ...]
    folder: Input | None = None
    shots: Annotated[int, Ge(0)] | None = None
    limit: Count | None = None
    chat: bool = False
    download: bool = False

    def check(self) -> None:
        """Raise ConfigError where lm-eval is not installed, or no task is named."""
        if not self.tasks:
            raise ConfigError("lm_eval names no task. Name tasks in lm_eval.tasks, or leave lm_eval out")
        if find_spec("lm_eval") is None:
            raise ConfigError("lm_eval needs lm-evaluation-harness, which is not installed. Run: pip install 'palate[lm-eval]'")

    def measured(self, run: Run, policy: CausalPolicy, tokens_per_microbatch: int) -> dict[str, dict[str, Any]]:
        """Ask the tasks, write `lm_eval.jsonl`, and return the figures of each task and group by the harness's names.

        Raises:
            ConfigError: a task needs what the model does not have.
            DataError: a task is unknown, or its data cannot be read.
        """
        with _network(is_allowed=self.download):
            from lm_eval import evaluate
            from lm_eval.defaults import DEFAULT_OTHER_SEED

            from palate.evaluation.harness_model import HarnessModel

            loaded = self._loaded()
            for task in loaded["tasks"].values():
                if self.shots is not None or task.get_config("num_fewshot") is None:
                    task.set_config(key="num_fewshot", value=self.shots or 0)
                task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)  # the examples that `lm_eval` itself draws
            model = HarnessModel(policy, tokens_per_microbatch, derive_seed(run.seed, "lm_eval"))
            # No bootstrap of the harness: it starts processes, and the intervals below are Palate's own.
            found = evaluate(model, loaded, limit=self.limit, bootstrap_iters=0, apply_chat_template=self.chat)
        samples: Mapping[str, Sequence[Mapping[str, Any]]] = found["samples"]
        write_rows(run.directory / FILE, (_row(task, sample) for task, rows in samples.items() for sample in rows))
        return {task: _figures(values, samples.get(task, ())) for task, values in found["results"].items()}

    def _loaded(self) -> Any:
        """Return the tasks as the harness loads them."""
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=self.folder, include_defaults=self.folder is None)
        where = "lm-eval" if self.folder is None else self.folder
        if unknown := [name for name in self.tasks if name not in manager.all_tasks]:
            names = ", ".join(manager.all_tasks[:20]) or "none"
            raise DataError(f"lm_eval: {where} has no task {unknown[0]!r}. It has: {names}. A task's name is what `task:` says in its file")
        try:
            return manager.load(list(self.tasks))
        except (OSError, ValueError, ImportError) as error:
            remedy = "" if self.download else ". Where its data are on a hub, set lm_eval.download to true"
            raise DataError(f"lm_eval: the data of {', '.join(self.tasks)} cannot be read: {error}{remedy}") from error


@contextmanager
def _network(*, is_allowed: bool) -> Iterator[None]:
    """A context in which Hugging Face's packages ask the network only where that is allowed."""
    import datasets
    import huggingface_hub

    settings: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [module.HF_HUB_OFFLINE for module in settings]
    for module, was in zip(settings, before, strict=True):
        module.HF_HUB_OFFLINE = was or not is_allowed
    try:
        yield
    finally:
        for module, was in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = was


def _row(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a question's row says: what was asked, what the model answered, and each metric."""
    metrics = {name: _plain(sample[name]) for name in sample["metrics"]}
    asked = [_plain(arguments) for arguments in sample["arguments"]]
    answers, target = _plain(sample["filtered_resps"]), _plain(sample["target"])
    return {
        "task": task, "question": sample["doc_id"], "filter": sample["filter"], "asked": asked, "answers": answers, "target": target,
        "metrics": metrics,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON does not have becomes a text, and numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value  # numpy's booleans and integers are none of these
    try:
        return json_values(float(value))
    except (TypeError, ValueError):
        return str(value)


def _figures(values: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metrics of a task, with an interval where the metric is the mean of its questions' values."""
    found = {}
    for key, value in values.items():
        name, _, filtered = key.partition(",")
        if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        column = [sample.get(name) for sample in samples if sample["filter"] == filtered]
        label = name if filtered == "none" else f"{name},{filtered}"
        found[label] = {"mean": json_values(float(value)), "se": None, "low": None, "high": None, "n": len(column) or None}
        numbers = [float(one) for one in column if isinstance(one, int | float) and math.isfinite(one)]
        if numbers and len(numbers) == len(column):
            estimate = mean(numbers)
            if math.isclose(estimate.value, value, rel_tol=1e-9, abs_tol=1e-12):
                found[label] = figure(estimate)
    return found
