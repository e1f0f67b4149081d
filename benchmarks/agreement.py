"""Speed and quality of the statistics of raters: `python -m benchmarks.agreement [--data FOLDER]`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from palate.agreement import (
    AgreementReport,
    VoteTable,
    analyse,
    dawid_skene,
    hold_out,
    next_vote_shares,
    smoothed_shares,
    vote_log_loss,
)
from palate.testing.synthetic_votes import llmfao, made_up, mt_bench

REPEATS = 5
HELD_OUT_SEEDS = 5


def main() -> int:
    """Print seconds, and figures on real votes where `--data` has them; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--judgments", type=int, default=100_000, help="judgments to simulate")
    parser.add_argument("--data", type=Path, help="the folder with llmfao and mt_bench_human")
    options = parser.parse_args()
    table = made_up(options.judgments, np.random.default_rng(0))
    clock, cpu = seconds(lambda: analyse(table, np.random.default_rng(0)))
    print(f"{len(table.votes)} judgments of {len(table.votes.raters)} raters analysed in full: {clock:.2f} s (processor {cpu:.2f} s)")
    if options.data is not None:
        print("\n| | " + " | ".join(ROWS) + " |")
        print("|---" * (len(ROWS) + 1) + "|")
        for name, read in (("LLMFAO", llmfao), ("MT-bench", mt_bench)):
            print(f"| {name} | " + " | ".join(row(read(options.data))) + " |")
    return 0


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the least wall and processor seconds of five runs."""
    work()
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


ROWS = (
    "votes", "raters", "agreement", "without ties", "alpha", "Cohen", "Fleiss", "ceiling", "side (log-odds)", "guessing",
    "loss: raw shares", "smoothed", "raw posterior", "next vote",
)  # fmt: skip


def row(table: VoteTable) -> list[str]:
    """Return the figures of one data set, and the mean log-loss over seeds of one held-out vote per pair with three or more."""
    report: AgreementReport = analyse(table, np.random.default_rng(0))
    side = report.side.logit
    cells = [
        str(report.votes), str(report.raters), f"{report.agreement.value:.3f}", f"{report.agreement_without_ties.value:.3f}",
        f"{report.alpha.value:.3f} [{report.alpha.low:.3f}, {report.alpha.high:.3f}]", f"{report.cohen:.3f}", f"{report.fleiss:.3f}",
        "-" if report.ceiling is None else f"{report.ceiling.accuracy:.3f}",
        f"{side.value:.3f} +- {side.se:.3f}" if side.n else "not recorded", str(len(report.guessing)),
    ]  # fmt: skip
    losses: list[list[float]] = []
    for seed in range(HELD_OUT_SEEDS):
        rest, held_out = hold_out(table.votes, np.random.default_rng(seed))
        counts = rest.counts()
        shares = [smoothed_shares(counts, prior=0.0), smoothed_shares(counts), dawid_skene(rest).posterior, next_vote_shares(rest)]
        losses.append([vote_log_loss(rule, held_out) for rule in shares])
    return cells + [f"{statistics.mean(column):.3f}" for column in zip(*losses, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
