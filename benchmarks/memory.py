"""Peak memory and time per step of `palate sft` on files of several sizes: `python -m benchmarks.memory --rows 2000 200000`.

Each size runs in its own process, on a small model, for the same number of steps. Tokenizing takes further time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

PER_STEP = 8


class Size(NamedTuple):
    """Memory and time of one size."""

    rows: int
    peak_mb: float
    step_ms: float
    seconds: float


def measure(rows: int, steps: int, python: str = sys.executable) -> Size:
    """Fine-tune for some steps on a file of `rows` rows, in its own process of `python`."""
    words = [python, "-m", "benchmarks.memory", "--one", str(rows), "--steps", str(steps)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    return Size(*json.loads(done.stdout.splitlines()[-1]))


def _one(rows: int, steps: int) -> Size:
    import torch

    from palate.models.load import Architecture, new_policy
    from palate.runs.record import RunPlan
    from palate.runs.run import open_run
    from palate.stages.sft import SFT
    from palate.testing import word_tokenizer

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "the cook has rice and beans but no salt so what can we make for two guests today please"
        with (folder / "data.jsonl").open("w") as file:
            for k in range(rows):
                file.write(json.dumps({"prompt": f"{text} {k}", "completion": f" {text} {k} {text}"}) + "\n")
        size = Architecture(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=32)
        new_policy(word_tokenizer(), size, 0).save(folder / "model")
        run = open_run(folder / "runs", RunPlan("sft", "sft", seed=0))
        times: list[float] = []
        log = run.log

        def timed(step: int, metrics: Mapping[str, float]) -> None:
            times.append(time.perf_counter())
            log(step, metrics)

        run.log = timed  # type: ignore[method-assign]
        stage = SFT(str(folder / "model"), str(folder / "data.jsonl"), epochs=steps * PER_STEP / rows, demonstrations_per_step=PER_STEP)
        began = time.perf_counter()
        with run.active():
            stage.run(run)
        took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Size(rows, peak, 1000 * statistics.median(b - a for a, b in pairwise(times)), took)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 200_000])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(options.one, options.steps)))
        return
    print("| rows | peak MB | ms per step | seconds, with tokenizing |\n|---|---|---|---|")
    for rows in options.rows:
        size = measure(rows, options.steps)
        print(f"| {size.rows} | {size.peak_mb:.0f} | {size.step_ms:.1f} | {size.seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
