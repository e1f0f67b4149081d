"""Palate's sampler and transformers at the same prompts, call by call in turn: tokens a second, ratios, shares of the limits.

`python -m benchmarks.sampling --pairs PATH/TO/hh.jsonl --peer PATH/TO/python` where that python has transformers 5 and accelerate. Two
workloads: `even`, 32 prompts of 48 to 80 tokens and 64 new tokens each; `uneven`, prompts of up to 256 tokens whose completions end
by chance, 64 tokens on average and 128 at most.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.sampling.limits import Rates, needs, rates
from benchmarks.sampling.workload import NEVER, Done, Work
from benchmarks.speed.__main__ import spread
from benchmarks.speed.workload import prepare, shape

DTYPES = ("float32", "bfloat16")
WORKLOADS = ("even", "uneven")
METHODS = ("generate", "generate_batch")
SLOTS = 256
HEADER = (
    "workload", "model", "tokens/s", "generate, same dtype", "generate_batch, same dtype", "ratio to generate", "to generate in float32",
    "to generate_batch", "share of the matmul limit", "of the memory limit",
)  # fmt: skip

Ask = Callable[[Work], Done]


def main() -> int:
    """Measure, and print the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="HH pairs, JSONL: their prompts are used")
    parser.add_argument("--peer", required=True, help="an interpreter that has transformers")
    parser.add_argument("--models", nargs="+", choices=("S", "M"), default=["S"])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3, help="calls of each side that count, after one that does not")
    parser.add_argument("--requests", type=int, default=256, help="of the uneven workload")
    parser.add_argument("--batch", type=int, default=64, help="rows that generate is given at once in the uneven workload")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="of the peer; the second for uneven alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, _ = prepare(options.pairs, folder)
        machine = rates()
        print(told(machine), f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", sep="\n\n", flush=True)
        for model in options.models:
            own = [sys.executable, "-m", "benchmarks.sampling.ours", str(folder / model)]
            other = [options.peer, str(Path(__file__).with_name("peer.py")), str(folder / model)]
            prompts = tokenized(rows, folder / model)
            with worker(own) as ours, worker(other) as theirs:
                for workload in options.workloads:
                    work = made(workload, prompts, options.requests, options.batch)
                    methods = [method for method in options.methods if method == "generate" or workload == "uneven"]
                    found = measured(work, options.dtypes, options.rounds, ours, theirs, methods)
                    for dtype in options.dtypes:
                        print(row(workload, folder / model, dtype, work, found, machine), flush=True)
    return 0


def told(machine: Rates) -> str:
    """Measure the machine's limits."""
    both = ", ".join(f"{dtype} {machine.plain[dtype] / 1e9:.0f} ({machine.packed[dtype] / 1e9:.0f})" for dtype in DTYPES)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{platform.machine()}, {cores} cores; GFLOP/s of torch.mm (of packed weights): {both}; memory read {machine.read / 1e9:.0f} GB/s"
    )


def tokenized(rows: Path, model: Path) -> list[tuple[int, ...]]:
    """Return the prompts' ids."""
    from palate.models.load import load_tokenizer

    tokenizer = load_tokenizer(model)
    texts = [json.loads(line)["prompt"] for line in rows.read_text(encoding="utf-8").splitlines()]
    return [tuple(ids) for ids in tokenizer(texts)["input_ids"]]


def made(workload: str, prompts: list[tuple[int, ...]], requests: int, batch: int) -> Work:
    """Return the workload; dtype, method and seed are chosen later."""
    if workload == "even":
        return Work(tuple(ids for ids in prompts if 48 <= len(ids) <= 80)[:32], (NEVER,), 64, "", "", 32, 0)
    ends = random.Random(0).sample(range(2, 8192), 128)  # a random model's tokens are about equally likely: 1 in 64 ends
    return Work(tuple(ids for ids in prompts if len(ids) <= 256)[:requests], tuple(ends), 128, "", "", batch, 0)


def measured(work: Work, dtypes: list[str], rounds: int, ours: Ask, theirs: Ask, methods: list[str]) -> dict[tuple[str, str], list[Done]]:
    """Return calls by method and dtype, one of each in every round. The first round is left out."""
    found: dict[tuple[str, str], list[Done]] = {(method, dtype): [] for method in ("ours", *methods) for dtype in dtypes}
    for seed in range(rounds + 1):
        for (method, dtype), calls in found.items():
            done = (ours if method == "ours" else theirs)(Work(**{**vars(work), "dtype": dtype, "method": method, "seed": seed}))
            if seed:
                calls.append(done)
    return found


def row(workload: str, model: Path, dtype: str, work: Work, found: dict[tuple[str, str], list[Done]], machine: Rates) -> str:
    """Return a row of the table. Ratios are of one round; the row has the median and the extremes."""
    own = found["ours", dtype]

    def rate(method: str) -> str:
        return f"{median(done.rate for done in found[method, dtype]):.0f}" if (method, dtype) in found else ""

    def ratio(method: str, of: str) -> str:
        others = found.get((method, of))
        return spread([a.rate / b.rate for a, b in zip(own, others, strict=True)]) if others else ""

    least = [needs(shape(model), [len(ids) for ids in work.prompts], done.lengths, SLOTS, dtype) for done in own]
    matmul = median(need.flops / machine.packed[dtype] / done.seconds for need, done in zip(least, own, strict=True))
    memory = median(need.bytes_read / machine.read / done.seconds for need, done in zip(least, own, strict=True))
    cells = [
        workload, f"{model.name} {dtype}", rate("ours"), rate("generate"), rate("generate_batch"), ratio("generate", dtype),
        ratio("generate", "float32"), ratio("generate_batch", dtype), f"{matmul:.0%}", f"{memory:.0%}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


@contextmanager
def worker(command: list[str]) -> Iterator[Ask]:
    """A process that answers calls one after the other and is idle between them."""
    with tempfile.TemporaryFile("w+") as told_errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told_errors, text=True)
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(work: Work) -> Done:
            process.stdin.write(work.line() + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            for line in process.stdout:  # type: ignore[union-attr]
                if line.startswith('["done"'):
                    _, seconds, lengths = json.loads(line)
                    return Done(seconds, tuple(lengths))
            told_errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{told_errors.read()[-2000:]}")

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
