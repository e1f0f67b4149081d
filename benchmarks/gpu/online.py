"""An iteration of GRPO and of PPO, split by phase: sampling, scoring, credit, learning."""

from __future__ import annotations

import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.results import is_tiny, result
from benchmarks.gpu.work import DTYPE, SHAPES, TOKENS, EnoughError, device, model, pairs, peak_gb, reset_peak, scratch, waited
from benchmarks.speed.online import SIZES
from benchmarks.speed.ours import written
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core.process import computing_on
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop

PHASES = ("sample", "score", "credit", "learn")
PROMPTS, NEW_TOKENS = (4, 8) if is_tiny() else (32, 128)
ITERATIONS = 2 if is_tiny() else 3
"""The first does not count: kernels are compiled in it."""


def main() -> None:
    """Measure each method at the smaller shape, where the time is not all spent on writing models."""
    shape = next(iter(SHAPES))
    for method in ("grpo", "ppo"):
        gc.collect()
        reset_peak()
        phases = phases_of(method, shape)
        whole = sum(phases.values())
        tokens = PROMPTS * samples(method) * NEW_TOKENS
        named = {f"{name}_s": taken for name, taken in phases.items()}
        result(f"{method} {shape}", iteration_s=whole, **named, new_tokens_per_s=tokens / whole, peak_gb=peak_gb())


def samples(method: str) -> int:
    """Return the completions per prompt."""
    return 2 if is_tiny() else 8 if method == "grpo" else 4


def phases_of(method: str, shape: str) -> dict[str, float]:
    """Return the median seconds of each phase of an iteration, and of the rest of it."""
    taken: dict[str, list[float]] = defaultdict(list)
    before = {name: getattr(Loop, name) for name in (*PHASES, "iterate")}

    def timed(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            waited()
            began = time.perf_counter()
            value = act(*args, **kwargs)
            waited()
            taken[name].append(time.perf_counter() - began)
            if name == "iterate" and len(taken[name]) == ITERATIONS:
                raise EnoughError
            return value

        return wrapped

    folder = scratch(method)
    for name, act in before.items():
        setattr(Loop, name, timed(name, act))
    try:
        with computing_on(str(device())):
            stage = made(method, shape, folder)
            run = open_run(folder / "runs", RunPlan("online", "online"))
            with run.active():
                stage.run(run)
    except EnoughError:
        pass
    finally:
        for name, act in before.items():
            setattr(Loop, name, act)
    phases = {name: median(taken[name][1:]) for name in PHASES}
    return {**phases, "rest": max(0.0, median(taken["iterate"][1:]) - sum(phases.values()))}


def made(method: str, shape: str, folder: Path) -> Online:
    """Return the stage on files in `folder`; one optimizer step an epoch, as in `benchmarks.speed`."""
    path = model(shape)
    prompts = [json.loads(line)["prompt"] for line in pairs()[0].read_text(encoding="utf-8").splitlines()]
    values: dict[str, Any] = {
        **SIZES[method],
        "model": str(path),
        "prompts": written(folder / "prompts.jsonl", [{"prompt": text} for text in dict.fromkeys(prompts)]),
        "iterations": ITERATIONS + 1,
        "prompts_per_iteration": PROMPTS,
        "samples_per_prompt": samples(method),
        "minibatches": 1,
        "sampling": {"max_tokens": NEW_TOKENS, "temperature": 1.0},
        "dtype": DTYPE,
        "tokens_per_microbatch": TOKENS,
        "shaping": {"missing_eos": "keep"},
    }
    if method == "ppo":
        scalar_from(load_policy(path), ("overall",), seed=1).save(folder / "reward")
        values["reward"] = str(folder / "reward")
    else:
        values["rewards"] = {"near": {"kind": "function", "function": "benchmarks.speed.online:nearness"}}
    return read_config(Online, Settings(json.loads(json.dumps(values)), {(): "benchmark"}))


if __name__ == "__main__":
    main()
