"""The figures of the kitchen, per seed, from run directories."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from palate.config.settings import Settings
from palate.core import Interrupted
from palate.data.jsonl import read_rows
from palate.evaluation.intervals import Estimate, paired_difference
from palate.pipeline.execute import run_pipeline
from palate.pipeline.plan import Planned, Planner, plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES, Stages
from palate.runs.digests import DigestCache
from palate.runs.record import RunPlan, list_runs, read_record


def seeds_parser(module: str, doc: str | None, seeds: Sequence[int], config: str | None = None) -> argparse.ArgumentParser:
    """Return what a benchmark takes whose pipeline runs once per seed: `--seeds`, `--runs`, and `--config` where it runs a file.

    Args:
        module: what follows `python -m`. The folder of runs has its name.
        doc: what it does.
        seeds: the default seeds.
        config: the default pipeline file; None where the benchmark writes its own.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    runs = "runs/" + re.sub(r"[._]", "-", module.replace("benchmarks", "bench"))
    parser.add_argument("--runs", type=Path, default=Path(runs), help=f"folder with a folder of runs per seed (default: {runs})")
    if config is not None:
        parser.add_argument("--config", type=Path, default=Path(config))
    return parser


def seed_root(options: argparse.Namespace, seed: int) -> Path:
    """Return the folder of a seed's runs."""
    return Path(options.runs) / f"seed{seed}"


def seed_runs(options: argparse.Namespace) -> list[SeedRun]:
    """Run what the seeds have not done yet of the file `--config`, and read it. Exits with palate's status where that fails."""
    return [SeedRun.of(seed, seed_root(options, seed), options.config) for seed in options.seeds]


def write_pipeline(file: Path, pipeline: Mapping[str, Any]) -> Path:
    """Write a pipeline as YAML, with the folder above it, and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(pipeline), sort_keys=False), encoding="utf-8")
    return file


@dataclass(frozen=True)
class SeedRun:
    """The runs of the stages of one seed's pipeline."""

    seed: int
    stages: Mapping[str, Path]
    seconds: Mapping[str, float]

    @staticmethod
    def of(seed: int, root: Path, config: Path) -> SeedRun:
        """Run what a seed's pipeline has not done yet below `root`, and read it. Exits with palate's status where that fails."""
        done = subprocess.run([sys.executable, "-m", "palate", "run", str(config), f"seed={seed}", "--runs", str(root)], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        return SeedRun.planned(seed, root, config)

    @staticmethod
    def planned(seed: int, root: Path, config: Path) -> SeedRun:
        """Read the finished runs of a pipeline file, and not others below `root` that have the names of its stages."""
        places = {name: one.directory for name, one in LazyPipeline(seed, root, config).planned.items()}
        records = {name: record for name, place in places.items() if (record := read_record(place)) is not None}
        return SeedRun(seed, places, {name: record.seconds for name, record in records.items()})

    @staticmethod
    def read(seed: int, root: Path) -> SeedRun:
        """Read the newest finished run of each name below `root`, where the file that made them is not at hand."""
        done = [(path, record) for path, record in list_runs(root) if record.status == "done"]
        return SeedRun(seed, {record.name: path for path, record in done}, {record.name: record.seconds for _, record in done})

    def summary(self, stage: str) -> Any:
        """Read a stage's summary.json."""
        return json.loads((self.stages[stage] / "summary.json").read_text())

    def column(self, model: str, dimension: str = "gold") -> np.ndarray:
        """Read a figure of each held-out prompt's completion, in the prompts' order: gold, score or a dimension of gold."""
        rows: list[Any] = [row for _, row in read_rows(self.stages[f"eval-{model}"] / "completions.jsonl")]
        return np.array([row[dimension] if dimension in row else row["dimensions"][dimension] for row in rows])

    def gain(self, model: str, over: str = "sft", dimension: str = "gold") -> Estimate:
        """Return the paired difference of two models on the same held-out prompts."""
        return paired_difference(self.column(model, dimension), self.column(over, dimension))

    def grade(self, model: str, name: str) -> float:
        """Return the mean grade of a model in an eval."""
        return float(self.summary(f"eval-{model}")["evals"][name]["mean"])

    def kl(self, model: str) -> float:
        """Return the mean KL from SFT of a model's completions, nats each."""
        return float(self.summary(f"eval-{model}")["means"]["kl"]["mean"])

    def probe(self, model: str) -> float:
        """Return the mean number of padding sentences."""
        return float(self.summary(f"eval-{model}")["means"]["probe/padding"]["mean"])


@dataclass(frozen=True)
class LazyPipeline:
    """One seed's pipeline, whose stages run when they are asked for, and copies of them with a few other settings.

    Attributes:
        seed: the pipeline's seed.
        root: the folder of its runs. `palate run` with the same file, seed and folder finds them done.
        config: the pipeline's file, the one definition of every setting that a copy does not change.
        table: the kinds of stages.
    """

    seed: int
    root: Path
    config: Path
    table: Stages = field(default_factory=lambda: STAGES)

    @cached_property
    def planned(self) -> dict[str, Planned]:
        """The stages by name, in the file's order."""
        pipeline = read_pipeline(self.config, [f"seed={self.seed}"])
        return {one.plan.name: one for one in plan_pipeline(pipeline, self.root, self.table)}

    @cached_property
    def _done(self) -> set[str]:
        """Names of the stages that this process ran or found done."""
        return set()

    def run(self, name: str) -> Path:
        """Run a stage and what it needs, unless they are done, and return its directory."""
        stage = self.planned[name]
        if name not in self._done:
            self._run_needs(stage)
            _run(stage)
            self._done.add(name)
        return stage.directory

    def _run_needs(self, stage: Planned) -> None:
        for name in dict.fromkeys(name for name, _ in stage.needs):
            self.run(name)

    def run_copy(self, of: str, name: str, seed: int, **changes: object) -> Path:
        """Run the stage `of` under another name, with a seed and some fields of its own, and return the directory."""
        original = self.planned[of]
        self._run_needs(original)
        stage = replace(cast("Any", original.stage), **changes)
        planner = Planner(self.root, DigestCache(self.root / ".digests.json"))
        copy = planner.add(RunPlan(name, original.plan.stage, seed=seed), stage, Settings())
        _run(copy)
        return copy.directory

    def figures(self) -> SeedRun:
        """Return what is done so far."""
        return SeedRun.read(self.seed, self.root)


def _run(stage: Planned) -> None:
    """Run a stage. Raises Interrupted where Ctrl-C came too late for it to notice: what comes next must not start."""
    (outcome,) = run_pipeline([stage], print)
    if outcome.is_stopping:
        raise Interrupted(f"stopped after {outcome.name}, which is done. The same command goes on.")


Figure = Callable[[SeedRun], str]


def _gain(model: str, over: str = "sft", dimension: str = "gold") -> Figure:
    def cell(run: SeedRun) -> str:
        e = run.gain(model, over, dimension)
        return f"{e.value:+.3f} ({abs(e.z):.0f} SE)"

    return cell


def _mean(model: str) -> Figure:
    return lambda run: f"{run.column(model).mean():.3f}"


def _held_out(run: SeedRun, stage: str, name: str) -> float:
    return float(run.summary(stage)["held_out"]["overall"][name])


def _proxy(run: SeedRun) -> str:
    return f"{run.gain('unrestrained', dimension='score').value:+.2f} sd"


def _grades(model: str, over: str) -> Figure:
    return lambda run: " / ".join(f"{run.grade(model, name) - run.grade(over, name):+.3f}" for name in ("facts", "sums"))


FIGURES: Mapping[str, Figure] = {
    "gold of base": _mean("base"),
    "gold of SFT": _mean("sft"),
    "gold of DPO": _mean("direct"),
    "gold of PPO": _mean("ppo"),
    "gold of best-of-16": _mean("best"),
    "DPO over SFT": _gain("direct"),
    "PPO over SFT": _gain("ppo"),
    "honest dimension, PPO over SFT": _gain("ppo", dimension="honest"),
    "honest / harmless of PPO": lambda run: " / ".join(f"{run.column('ppo', name).mean():.3f}" for name in ("honest", "harmless")),
    "KL of PPO / of DPO, nats": lambda run: " / ".join(f"{run.kl(model):.1f}" for model in ("ppo", "direct")),
    "best-of-16 over SFT": _gain("best"),
    "reward model's accuracy on held-out judgments": lambda run: f"{_held_out(run, 'reward', 'accuracy'):.3f}",
    "its floor, the longer wins": lambda run: f"{_held_out(run, 'reward', 'longer_wins'):.3f}",
    "its ceiling, the raters' noise": lambda run: f"{run.summary('judged')['ceilings']['overall']:.3f}",
    "PPO unrestrained: proxy over SFT": _proxy,
    "PPO unrestrained: gold against tuned PPO": _gain("unrestrained", "ppo"),
    "padding sentences: SFT, PPO, PPO unrestrained": lambda run: " / ".join(f"{run.probe(m):.2f}" for m in ("sft", "ppo", "unrestrained")),
    "facts / sums, PPO less SFT": _grades("ppo", "sft"),
    "facts / sums, PPO unrestrained less SFT": _grades("unrestrained", "sft"),
    "accuracy from shuffled preferences": lambda run: f"{_held_out(run, 'shuffled', 'accuracy'):.3f}",
    "online training on the shuffled model": lambda run: "refused" if "refused" in run.summary("refused") else "NOT refused",
    "seconds, pretraining": lambda run: f"{run.seconds['base']:.0f}",
    "seconds, all stages": lambda run: f"{sum(run.seconds.values()):.0f}",
}


def table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table: a row per figure, a column per seed."""
    lines = ["| | " + " | ".join(f"seed {run.seed}" for run in runs) + " |", "|---" * (len(runs) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(figure(run) for run in runs) + " |" for name, figure in FIGURES.items()]
    return "\n".join(lines) + "\n"
