"""Palate's own stages at the work: `python -m benchmarks.speed.ours WORK`. It prints one line of JSON last."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.workload import WARMUP, StepEnds, Work
from palate.models.adapters import LoRA
from palate.objectives.supervised import CrossEntropy
from palate.pipeline.table import Stage
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.direct import Direct
from palate.stages.reward import Reward
from palate.stages.sft import SFT
from palate.training import checkpoints
from palate.training.fit import Epochs
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from palate.training.reference import FixedReference

OPTIMIZER = AdamW(lr=1e-4, warmup=0.0, decay="constant", betas=(0.9, 0.999))
"""The peer's default optimizer."""


def main() -> None:
    """Train, and report as one line of JSON."""
    work = Work.from_command_line()
    ends, losses, ahead = StepEnds(), [], 0.0
    step, values = Learner.step, FixedReference.values

    def timed(self: Learner, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = step(self, *args, **kwargs)
        ends.note()
        losses.append(metrics["loss/mean"])
        return metrics

    def timed_reference(*args: Any, **kwargs: Any) -> Any:
        nonlocal ahead
        begun = time.perf_counter()
        found = values(*args, **kwargs)
        ahead += time.perf_counter() - begun
        return found

    Learner.step, FixedReference.values = timed, timed_reference  # type: ignore[method-assign]
    Epochs.indices = in_order  # type: ignore[method-assign, assignment]
    checkpoints.CHECKPOINT_SECONDS = 1e9
    with tempfile.TemporaryDirectory() as folder:
        stage = made(work, Path(folder))
        stage.check()
        run = open_run(Path(folder) / "runs", RunPlan(work.stage, work.stage))
        with run.active():
            stage.run(run)
    if work.stage == "dpo":  # the reference's share of every step
        every = ahead / len(ends.at)
        ends.at = [at + every * k for k, at in enumerate(ends.at)]
    ends.report(losses)


def in_order(epochs: Epochs, step: int) -> list[int]:
    """Return the rows in the file's order, as the peer reads them."""
    return list(range(step * epochs.per_step, min((step + 1) * epochs.per_step, epochs.examples)))


def made(work: Work, folder: Path) -> Stage:
    """Return the stage on files in `folder`."""
    more: dict[str, Any] = {} if work.dtype == "float32" else {"dtype": work.dtype}
    if work.adapters:
        more["adapters"] = LoRA()
    if work.tokens:
        more["tokens_per_microbatch"] = work.tokens
    rows = work.pairs
    if work.stage == "sft":
        data = written(folder / "texts.jsonl", [{"text": row["prompt"] + row["chosen"]} for row in rows])
        return SFT(work.model, data, demonstrations_per_step=work.batch, objective=CrossEntropy(), optimizer=OPTIMIZER, **more)
    data = written(folder / "pairs.jsonl", rows)
    if work.stage == "reward":
        held = written(folder / "held.jsonl", rows[:WARMUP])
        return Reward(work.model, data, held_out=held, prompts_per_step=work.batch, optimizer=OPTIMIZER, **more)
    return Direct(work.model, data, prompts_per_step=work.batch, optimizer=OPTIMIZER, **more)


def written(path: Path, rows: Sequence[Mapping[str, str]]) -> str:
    """Write these rows to a JSONL file and return its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main()
