"""A toy of stage `online`: few iterations on tiny models, in one go or interrupted and resumed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palate.config.live_objects import remember
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import Interrupted
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop
from palate.training import checkpoints
from tests.unit.stages.online import rewarding

ITERATIONS = 4
SLOW: Mapping[str, Any] = {"lr": 0.002, "warmup": 0.0, "decay": "constant"}


def called_here(name: str) -> dict[str, Any]:
    """A function of `rewarding`, called in this process: one named by its import path would start another process for every run."""
    return {"kind": "function", "function": remember(name, getattr(rewarding, name), name)}


PPO: Mapping[str, Any] = {"method": {}}
"""The method of a stage that names none. It has a value model; the toy's own method has none, which halves the models of a run."""
LETTERS: Mapping[str, Any] = called_here("letters")
NOTHING: Mapping[str, Any] = called_here("nothing")


def configured(data: Path, **changed: Any) -> Online:
    """A stage of short iterations."""
    values = {
        "model": str(data / "base"), "prompts": str(data / "prompts.jsonl"), "rewards": {"letters": LETTERS}, "iterations": ITERATIONS,
        "prompts_per_iteration": 8, "samples_per_prompt": 4, "epochs_per_batch": 1, "minibatches": 1, "sampling": {"max_tokens": 6},
        "shaping": {"missing_eos": "keep"}, "kl": {"control": {"coef": 0.01}},
        "optimizer": {"lr": 0.01, "warmup": 0.0, "decay": "constant"},
    }  # fmt: skip
    method = {} if {"method", "preset"} & changed.keys() else {"method": {"advantage": "leave_one_out"}}
    return read_config(Online, Settings({**values, **method, **changed}, {(): "here"}))


def trained(stage: Online, folder: Path) -> tuple[Run, list[dict[str, float]]]:
    """The run, and its metrics without the prefix."""
    stage.check()
    run = open_run(folder, RunPlan("online", "online", seed=1))
    with run.active():
        stage.run(run)
    return run, [{name.removeprefix("online/"): value for name, value in row.items()} for row in run.logged()]


def killed_and_resumed(stage: Online, folder: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[dict[str, float]]]:
    """As `trained`, interrupted right after iteration `at` was logged, and started again."""
    log = Run.log

    def deadly(run: Run, step: int, metrics: Mapping[str, float]) -> None:
        log(run, step, metrics)
        if step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(Run, "log", deadly)
        with pytest.raises(Interrupted):
            trained(stage, folder)
    resumed, rows = trained(stage, folder)
    assert resumed.is_resumed
    return resumed, rows


def gain(rows: list[dict[str, float]]) -> float:
    """The score of the last two iterations, as a multiple of that of the first."""
    return (rows[-1]["score/mean"] + rows[-2]["score/mean"]) / 2 / rows[0]["score/mean"]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return stored(run.directory / "model")


def stored(model: Path) -> dict[str, torch.Tensor]:
    """The weights as they lie in the file."""
    return load_file(model / "model.safetensors")


def alike(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def started(stage: Online, folder: Path) -> Loop:
    """The loop of a run that has not started."""
    stage.check()
    return Loop(stage, open_run(folder, RunPlan("online", "online", seed=1)))


def summary(run: Run) -> dict[str, Any]:
    """The summary of the run."""
    figures: dict[str, Any] = json.loads((run.directory / "summary.json").read_text())
    return figures
