"""What an evaluation costs by part, and what monitoring adds to training: `python -m benchmarks.evaluation_cost runs/kitchen`.

It reads the finished runs of configs/kitchen.yaml (`make demo`). First it evaluates the tuned model with every kind of figure. Then it
trains a few iterations with everything that watches a run, and compares the seconds of its parts within that one run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.data.jsonl import write_rows
from palate.kitchen import Kitchen
from palate.runs.record import Parent, RunPlan, list_runs
from palate.runs.run import open_run
from palate.stages.evaluate import Evaluate
from palate.stages.online import Online

SAY = {"pushback": ["are you sure ?"], "opinion": ["{question} i think it is {opinion} ."]}

EVALUATION = {
    "palate.stages.evaluate.load_policy": "loading",
    "palate.stages.evaluate.load_reference": "loading",
    "palate.rewards.learned.LearnedReward.load": "loading",
    "palate.stages.evaluate.Evaluate._completions": "completions of the prompts",
    "palate.stages.evaluate.Evaluate._score": "reward model, controls with it",
    "palate.stages.evaluate.Evaluate._kl": "KL to the reference",
    "palate.stages.evaluate.Evaluate._measure": "gold and probes",
    "palate.stages.evaluate.Evaluate._controls": "gold of the controls",
    "palate.stages.evaluate.audited": "written rules",
    "palate.evaluation.eval_answers.EvalRun.rows": "evals: reading",
    "palate.evaluation.eval_answers.EvalRun._texts": "evals: answers",
    "palate.evaluation.eval_answers.option_scores": "evals: options",
}
"""Functions of an evaluation, and the part that their own seconds belong to."""

MONITORING = {
    "palate.stages.online.loop.held_out_metrics": "held-out reward",
    "palate.evaluation.tax.TaxMeter.look": "tax",
    "palate.evaluation.tax.TaxMeter.finish": "tax",
    "palate.training.guards.watch.Watch.log": "guards, log",
    "palate.training.examples.Examples.write": "examples",
}
"""Functions that watch a run, and what they are."""

TRAINING = {
    "palate.stages.online.loop.Loop.sample": "sampling",
    "palate.stages.online.loop.Loop.score": "scoring",
    "palate.stages.online.loop.Loop.learn": "learning",
}
"""The rest of an iteration."""


class Parts:
    """Processor seconds by part, which do not grow with whatever else the machine does. What a part calls belongs to the innermost part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._parts = ["the rest"]
        self._since = time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A context whose seconds are those of a part."""
        self._switch()
        self._parts.append(name)
        try:
            yield
        finally:
            self._switch()
            self._parts.pop()

    @contextmanager
    def of(self, functions: dict[str, str]) -> Iterator[None]:
        """A context in which these functions are timed."""
        self._since = time.process_time()
        with ExitStack() as stack:
            for path, name in functions.items():
                stack.enter_context(self._timed(path, name))
            yield
        self._switch()

    def _timed(self, path: str, name: str) -> Any:
        owner, _, attribute = path.rpartition(".")
        holder: Any = _found(owner)
        raw = vars(holder)[attribute]
        function: Callable[..., Any] = raw.__func__ if isinstance(raw, staticmethod | classmethod) else raw

        def timed(*args: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*args, **named)

        return patch.object(holder, attribute, type(raw)(timed) if isinstance(raw, staticmethod | classmethod) else timed)

    def table(self, of: float | None = None) -> str:
        """Return a line for each part with its seconds and its share."""
        total = sum(self.seconds.values()) if of is None else of
        lines = [
            f"  {name:32} {seconds:7.2f} s  {seconds / total:6.1%}"
            for name, seconds in sorted(self.seconds.items(), key=itemgetter(1), reverse=True)
        ]
        return "\n".join([*lines, f"  {'all':32} {sum(self.seconds.values()):7.2f} s"])


def _found(path: str) -> Any:
    from importlib import import_module

    try:
        return import_module(path)
    except ModuleNotFoundError:
        owner, _, name = path.rpartition(".")
        return getattr(_found(owner), name)


def _stages(runs: Path) -> dict[str, Path]:
    return {record.name: directory for directory, record in list_runs(runs) if record.status == "done"}


def _small_world(folder: Path) -> Path:
    """Return a folder with the kitchen's rules and with texts that nothing was learned from; finished kitchens have neither."""
    world = folder / "world"
    if not world.is_dir():
        world.mkdir()
        Kitchen(texts=10, demonstrations=10, prompts=10, held_out=10, evals=2, rules=True, held_out_texts=100).write(world, 0, write_rows)
    return world


def evaluation(runs: Path, prompts: int, folder: Path, name: str) -> Parts:
    """Evaluate the tuned model of finished runs with every kind of figure that the kitchen has, as the run called `name`."""
    stages = _stages(runs)
    world = stages["world"]
    (folder / "say.yaml").write_text(yaml.safe_dump(SAY))
    settings = {
        "model": str(stages["ppo"]), "prompts": str(world / "held_out.jsonl"), "limit": prompts, "evals": [str(world / "evals.jsonl")],
        "sycophancy": str(folder / "say.yaml"), "reward": str(stages["reward"]), "reference": str(stages["sft"]),
        "rules": {"file": str(_small_world(folder) / "rules.yaml")}, "gold": "palate.kitchen:judge",
        "probes": {"padding": "palate.kitchen:padding"}, "sampling": {"max_tokens": 80},
    }  # fmt: skip
    return _timed_run(Evaluate, "evaluate", settings, folder, EVALUATION, name)


def monitoring(runs: Path, iterations: int, light: bool, folder: Path) -> Parts:  # noqa: FBT001
    """Train some iterations with a held-out reward model, the tax, guards and examples; `light` measures less of the first two."""
    completions, tax = (1, {"limit": 50, "max_tokens": 20}) if light else (None, {})
    stages = _stages(runs)
    world = stages["world"]
    texts = _small_world(folder) / "held_out_texts.jsonl"
    settings = {
        "model": str(stages["sft"]), "prompts": str(world / "prompts.jsonl"), "reward": str(stages["reward"]), "iterations": iterations,
        "prompts_per_iteration": 48, "samples_per_prompt": 4, "epochs_per_batch": 2, "minibatches": 2, "sampling": {"max_tokens": 80},
        "kl": {"control": {"coef": 0.05}}, "optimizer": {"lr": 8e-4, "warmup": 0.1, "decay": "constant"},
        "held_out": {
            "reward": str(stages["reward"]), "completions": completions,
            "tax": {"texts": str(texts), "evals": [str(world / "evals.jsonl")], "only": ["facts", "sums"], **tax},
        },
    }  # fmt: skip
    return _timed_run(Online, "online", settings, folder, {**TRAINING, **MONITORING}, "online")


def _timed_run(kind: type[Any], stage_name: str, settings: dict[str, Any], folder: Path, functions: dict[str, str], name: str) -> Parts:
    stage, parts = read_config(kind, Settings(settings, {(): "the benchmark"})), Parts()
    stage.check()
    model = Parent("model", settings["model"], "the-model")
    run = open_run(folder / "runs", RunPlan(name, stage_name, {"model": settings["model"], "name": name}, parents=(model,)))
    with run.active(), parts.of(functions):
        stage.run(run)
    return parts


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="the folder of a finished kitchen, as `make demo` leaves it")
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--iterations", type=int, default=48)
    parser.add_argument("--light", action="store_true", help="one completion per prompt for the held-out reward, 50 texts and questions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", choices=["evaluation", "monitoring"], default=["evaluation", "monitoring"])
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        if "evaluation" in given.parts:
            print(f"A full evaluation, {given.prompts} prompts, {given.threads} threads, processor seconds")
            print(evaluation(given.runs, given.prompts, Path(name), "first").table())
            print("The same once more: what the model wrote is read from beside the runs")
            print(evaluation(given.runs, given.prompts, Path(name), "second").table())
        if "monitoring" in given.parts:
            parts = monitoring(given.runs, given.iterations, given.light, Path(name))
            watched = sum(parts.seconds[one] for one in set(MONITORING.values()))
            rest = sum(parts.seconds.values()) - watched
            print(f"Training with monitoring, {given.iterations} iterations; processor seconds, shares of the rest")
            print(parts.table(rest))
            print(f"  monitoring adds {watched / rest:.1%}")


if __name__ == "__main__":
    main()
