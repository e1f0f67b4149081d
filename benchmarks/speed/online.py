"""Palate's stage `online` at the work: `python -m benchmarks.speed.online WORK`. It prints one line of JSON last.

A round is 32 completions of up to 64 tokens: 8 prompts of 4 for grpo and rloo, 32 prompts and 4 passes for ppo.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.ours import OPTIMIZER, written
from benchmarks.speed.workload import NEW_TOKENS, StepEnds, Work, online_prompts
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop
from palate.training import checkpoints
from palate.training.optimizer import AdamW

SIZES: dict[str, dict[str, Any]] = {
    "ppo": {"preset": "n-plus", "prompts_per_iteration": 32, "epochs_per_batch": 4},
    "grpo": {"preset": "dr-grpo", "method": {"advantage": {"scale": "group"}, "reduction": "token_mean"}, "prompts_per_iteration": 8},
    "rloo": {"preset": "rloo", "prompts_per_iteration": 8},
    "ppo-shared": {"preset": "n-plus", "prompts_per_iteration": 32, "epochs_per_batch": 4, "method": {"value_trunk": "shared"}},
}
"""The methods that both sides have. grpo is TRL's default: token mean, without KL in the loss."""


def nearness(prompt: str, completion: str, **_: object) -> float:  # noqa: ARG001 (what a reward is given)
    """Return a reward that is cheap to compute: how near the completion is to 100 characters."""
    return -abs(len(completion) - 100) / 100


def main() -> None:
    """Train, and report as one line of JSON."""
    work = Work.from_command_line()
    ends = StepEnds()
    iterate = Loop.iterate

    def timed(self: Loop) -> dict[str, float]:
        metrics = iterate(self)
        ends.note()
        return metrics

    Loop.iterate = timed  # type: ignore[method-assign]
    checkpoints.CHECKPOINT_SECONDS = 1e9
    with tempfile.TemporaryDirectory() as folder:
        stage = made(work, Path(folder))
        stage.check()
        run = open_run(Path(folder) / "runs", RunPlan("online", "online"))
        with run.active():
            stage.run(run)
    ends.report([])


def made(work: Work, folder: Path) -> Online:
    """Return the stage on files in `folder`."""
    values: dict[str, Any] = {
        **SIZES[work.stage],
        "model": work.model,
        "iterations": work.rounds,
        "samples_per_prompt": 4,
        "minibatches": 1,
    }
    values["prompts"] = written(folder / "prompts.jsonl", [{"prompt": text} for text in online_prompts(work)])
    values |= {"sampling": {"max_tokens": NEW_TOKENS, "temperature": 1.0}, "dtype": work.dtype, "shaping": {"missing_eos": "keep"}}
    if work.adapters:
        values["adapters"] = {}
    if work.tokens:
        values["tokens_per_microbatch"] = work.tokens
    if work.stage.startswith("ppo"):
        reward = scalar_from(load_policy(work.model), ("overall",), seed=1)
        (reward.with_adapter(LoRA(), work.model, seed=2) if work.adapters else reward).save(folder / "reward")
        values |= {"reward": str(folder / "reward"), "samples_per_prompt": 1}
    else:
        values["rewards"] = {"near": {"kind": "function", "function": "benchmarks.speed.online:nearness"}}
    found = read_config(Online, Settings(json.loads(json.dumps(values)), {(): "benchmark"}))
    assert isinstance(found.optimizer, AdamW)
    object.__setattr__(found, "optimizer", OPTIMIZER)
    return found


if __name__ == "__main__":
    main()
