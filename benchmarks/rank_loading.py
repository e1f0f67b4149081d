"""Memory of each rank while a model is loaded, learned from and written: `python -m benchmarks.rank_loading --ranks 2 4 --shard all none`.

The model has random weights, in bfloat16 on the disk. Ranks compute on the CPU, with gloo between them. A rank's memory is its share of
what it has in memory (proportional set size), read every few milliseconds. Pages of files count apart, because the system can drop them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.plan_memory import model_config

MEGA = 1e6
STEPS = 2
"""Optimizer steps; moments and gradients are in memory together from the second on."""
PHASES = ("read", "load", "learn", "write")
SIZES = {
    "small": (256, 4, 4, 2, 768, 4_000, True),
    "303M": (1024, 24, 16, 4, 2816, 32_000, True),
}
"""Width, layers, heads, key heads, inner width, vocabulary, tied embeddings."""


class Peak(NamedTuple):
    """The most that a rank had in memory in a phase, in bytes: its own memory, and pages of files."""

    own: float
    files: float


def memory_now() -> Peak:
    """Return what this process has in memory, where memory that several processes have is divided among them."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    sizes = {name: 1024.0 * int(count) for name, count in re.findall(r"^Pss_(\w+):\s+(\d+)", text, re.MULTILINE)}
    return Peak(sizes["Anon"] + sizes["Shmem"], sizes["File"])


@contextmanager
def watched(peaks: dict[str, Peak], phase: str) -> Iterator[None]:
    """A context whose peak is noted under the name of a phase."""
    over = threading.Event()
    peaks[phase] = memory_now()

    def watch() -> None:
        while not over.wait(0.02):
            peaks[phase] = Peak(*map(max, peaks[phase], memory_now()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        peaks[phase] = Peak(*map(max, peaks[phase], memory_now()))


def make(size: str, folder: Path) -> None:
    """Write a model and its data."""
    import torch
    from transformers import AutoModelForCausalLM

    from palate.models.load import as_policy, built
    from palate.testing import word_tokenizer

    config = model_config(SIZES[size])
    module = built(AutoModelForCausalLM.from_config, config, 0).to(torch.bfloat16)
    as_policy(module, word_tokenizer()).save(folder / "model")
    row = {"prompt": "the cook has", "completion": "rice and beans but no salt"}
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(8)))


def stage_at(folder: Path, dtype: str) -> Any:
    """Return the stage that is planned and measured: one step on short texts, so that models alone take memory."""
    from palate.config.read import read_config
    from palate.config.settings import Settings
    from palate.stages.sft import SFT

    settings = {"model": str(folder / "model"), "data": str(folder / "data.jsonl"), "dtype": dtype, "max_tokens": 16, "limit": 8}
    return read_config(SFT, Settings({**settings, "demonstrations_per_step": 8, "tokens_per_microbatch": 16}, {(): "benchmark"}))


def rank(folder: Path, shard: str, dtype: str) -> None:
    """Do what stage `sft` does with its model, and write this rank's peaks."""
    import torch

    from palate.core.process import Shard, computing_on, place
    from palate.distributed.group import joined_group
    from palate.distributed.windows import windows
    from palate.models.load import load_policy
    from palate.models.precision import DTYPES
    from palate.models.shared_layers import sharing_out
    from palate.objectives.reduce import Sums
    from palate.testing import random_trees
    from palate.text.pack import PackedBatch, pack
    from palate.training.learner import Learner
    from palate.training.optimizer import AdamW

    torch.set_num_threads(1)
    peaks: dict[str, Peak] = {}
    with joined_group() as group, computing_on("cpu", Shard.read(shard)):
        group.gather(None)
        with watched(peaks, "read"):
            with sharing_out(windows(), learns=True):
                policy = load_policy(folder / "model")
            group.gather(None)
        with watched(peaks, "load"):
            learner = Learner({"policy": policy.module}, AdamW(), STEPS, dtype=DTYPES[dtype])
            group.gather(None)

        def loss(batch: PackedBatch) -> Sums:
            logps = policy.logps(batch).logps
            return Sums(-logps.sum(), torch.tensor(float(len(logps))), {})

        with watched(peaks, "learn"):
            for step in range(STEPS):
                learner.step([pack(random_trees([(3, (4,))], 20, seed=step)) for _ in range(group.world)], loss)
        with watched(peaks, "write"):
            learner.release()
            if group.is_writer:
                policy.save(folder / f"written-{shard}-{group.world}-{dtype}")
            group.gather(None)
    (folder / f"rank-{place().rank}.json").write_text(json.dumps(peaks))


def predicted(folder: Path, ranks: int, shard: str, dtype: str) -> Mapping[str, float]:
    """Return the bytes of each phase by the estimate of `palate plan`."""
    from palate.core.process import Shard
    from palate.pipeline.estimates.memory_parts import CHECK, MemoryScript
    from palate.pipeline.estimates.model_origins import origin_at
    from palate.pipeline.estimates.role_memory import Machine, load
    from palate.pipeline.estimates.stage_memory import memory_of

    origins = {"model": origin_at(str(folder / "model"))}
    machine = Machine(ranks=ranks, shard=Shard.read(shard))
    needed = memory_of(stage_at(folder, dtype), origins, machine)
    script = MemoryScript()
    script.hold("process", "baseline", machine.process)
    load(script, machine, "policy", origins["model"], learns=True)
    read = script.result()
    assert needed is not None
    sizes: dict[str, float] = {phase: sum(part.size for part in parts if part.role != CHECK) for phase, parts in needed.phases.items()}
    return {**sizes, "read": read.total("load")}


def part(*words: str, **more: str) -> subprocess.Popen[str]:
    """Start a part of this file in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rank_loading", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1], env={**os.environ, **more})


def finished(process: subprocess.Popen[str]) -> str:
    """Return what a part wrote."""
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"a part failed: {process.args!r}")
    return out


def measured(folder: Path, ranks: int, shard: str, dtype: str) -> list[dict[str, Peak]]:
    """Return the peaks of each rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = ["--part", "rank", "--folder", str(folder), "--shard", shard, "--dtype", dtype]
    for process in [part(*words, **more, RANK=str(k), LOCAL_RANK=str(k)) for k in range(ranks)]:
        finished(process)
    found = [json.loads((folder / f"rank-{k}.json").read_text()) for k in range(ranks)]
    return [{phase: Peak(*peak) for phase, peak in peaks.items()} for peaks in found]


def row(peaks: Sequence[Mapping[str, Peak]], planned: Mapping[str, float], phase: str) -> str:
    """Return the cells of a phase: the rank with most, all together, files of all together, predicted, and the ratio to the first."""
    most = max(one[phase].own for one in peaks)
    total, files = sum(one[phase].own for one in peaks), sum(one[phase].files for one in peaks)
    sizes = " | ".join(f"{size / MEGA:.0f}" for size in (most, total, files, planned[phase]))
    return f"{sizes} | {planned[phase] / most:.2f}"


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rank_loading", description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--shard", nargs="+", default=["all"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--size", default="303M", choices=list(SIZES))
    for name in ("part", "folder"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "make":
        make(options.size, Path(options.folder))
    elif options.part == "rank":
        rank(Path(options.folder), options.shard[0], options.dtype)
    if options.part:
        return 0
    print("| ranks | shard | phase | largest rank MB | all ranks MB | pages of files MB | predicted MB | predicted / largest |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finished(part("--part", "make", "--folder", name, "--size", options.size))
        for ranks in options.ranks:
            for shard in options.shard:
                peaks, planned = measured(folder, ranks, shard, options.dtype), predicted(folder, ranks, shard, options.dtype)
                for phase in PHASES:
                    print(f"| {ranks} | {shard} | {phase} | {row(peaks, planned, phase)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
