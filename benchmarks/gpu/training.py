"""Optimizer steps of sft, reward and dpo: Palate's stages, a plain padded loop of transformers, and TRL where it can be imported."""

from __future__ import annotations

import gc
import importlib.util
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.limits import matmul_rate
from benchmarks.gpu.plain import plain_steps
from benchmarks.gpu.results import result
from benchmarks.gpu.work import DTYPE, SHAPES, EnoughError, device, pairs, peak_gb, reset_peak, scratch, waited, work
from benchmarks.speed.__main__ import ran
from benchmarks.speed.limits import needed_flops
from benchmarks.speed.ours import in_order, made
from benchmarks.speed.workload import WARMUP, Work
from palate.core.process import computing_on
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.training.fit import Epochs
from palate.training.learner import Learner

STAGES = ("sft", "reward", "dpo-precomputed")


def main() -> None:
    """Measure each stage at each shape: Palate first, because its numbers matter most if time runs out."""
    peak_rate = matmul_rate(getattr(torch, DTYPE))
    done: dict[tuple[str, str], float] = {}
    for shape in SHAPES:
        for stage in STAGES:
            done[stage, shape] = measured(f"{stage} {shape}", work(stage, shape), peak_rate)
    for (stage, shape), own in done.items():
        compared(f"{stage} {shape} plain transformers", own, lambda stage=stage, shape=shape: plain_steps(work(stage, shape)))
    if importlib.util.find_spec("trl") is None:
        result("TRL cannot be imported here")
        return
    peer = [sys.executable, str(Path(__file__).parents[1] / "speed" / "peer.py")]
    for (stage, shape), own in done.items():
        compared(f"{stage} {shape} TRL", own, lambda stage=stage, shape=shape: ran(peer, work(stage, shape), {})["seconds"])


def measured(name: str, one: Work, peak_rate: float) -> float:
    """Run Palate's stage until its last measured step; print its rates, and return the seconds of a step."""
    seconds, losses = steps_of(one)
    tokens = statistics.mean(tokens_per_step(one))
    step = statistics.median(seconds)
    share = needed_flops(one, pairs()[1]) / step / peak_rate
    result(name, tokens_per_s=tokens / step, step_ms=1000 * step, share_of_matmul=share, peak_gb=peak_gb(), last_loss=losses[-1])
    return step


def steps_of(one: Work) -> tuple[list[float], list[float]]:
    """Return the seconds of each measured optimizer step of Palate's stage, and the losses of all steps."""
    ends: list[float] = []
    losses: list[float] = []
    step, indices = Learner.step, Epochs.indices

    def timed(self: Learner, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = step(self, *args, **kwargs)
        waited()
        ends.append(time.perf_counter())
        losses.append(metrics["loss/mean"])
        if len(ends) == WARMUP + one.steps:
            raise EnoughError
        return metrics

    free()
    folder = scratch(one.stage)
    Learner.step, Epochs.indices = timed, in_order  # type: ignore[method-assign, assignment]
    try:
        stage = made(one, folder)  # of dpo it measures the reference before the first step, whose time does not count
        stage.check()
        with computing_on(str(device())):
            run = open_run(folder / "runs", RunPlan(one.stage, one.stage))
            with run.active():
                stage.run(run)
    except EnoughError:
        pass
    finally:
        Learner.step, Epochs.indices = step, indices  # type: ignore[method-assign]
    return [after - before for before, after in zip(ends[WARMUP - 1 :], ends[WARMUP:], strict=False)], losses


def tokens_per_step(one: Work) -> Sequence[int]:
    """Return the tokens of each measured step that are not padding, a prompt once for both sides."""
    _, counts = pairs()
    names = ("prompt", "chosen") if one.stage == "sft" else ("prompt", "chosen", "rejected")
    each = [sum(sides) for sides in zip(*(counts[name] for name in names), strict=True)]
    return [sum(each[k * one.batch : (k + 1) * one.batch]) for k in range(WARMUP, WARMUP + one.steps)]


def compared(name: str, own: float, act: Any) -> None:
    """Print how long another way takes for the same rows, beside Palate's; where it fails, its message."""
    free()
    try:
        step = statistics.median(act())
    except Exception as error:  # noqa: BLE001  # whatever another library raises here, the other results count
        result(name, failed=f"{type(error).__name__}: {str(error)[:200]}")
        return
    result(
        name, step_ms=1000 * step, palate_is_faster_by=step / own, peak_gb=None if name.endswith("TRL") else peak_gb()
    )  # TRL has a process of its own


def free() -> None:
    """Give back what the last measurement held."""
    gc.collect()
    reset_peak()


if __name__ == "__main__":
    main()
