"""Where people inside the loop stop a run, beside other rules, in the kitchen: `python -m benchmarks.people --seeds 0`.

A reward model on few judgments of biased raters is over-optimised by PPO without a price of KL. Simulated people without those biases
judge pairs of the policy's and the start's answers in a rating server's database while it trains. The run itself is not stopped: it shows
the gold at every iteration, and the table says which iteration each rule would have kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from benchmarks.kitchen import SeedRun
from benchmarks.short_kitchen import TEXTS, short_kitchen
from palate.agreement.estimates import Estimate, Floats
from palate.agreement.judged_sample import gain_curve
from palate.data.jsonl import read_rows
from palate.kitchen import judge
from palate.ratings import Answer, Project, Ratings, open_ratings

PROJECT, DATABASE = "taste", "people.db"
WIDTH = 3
"""Iterations in the running mean of gold, which has an error of its own."""


def pipeline(options: argparse.Namespace, database: Path) -> dict[str, Any]:
    """Return the kitchen's stages: two reward models on the judgments of two pools of raters, and one run of PPO."""
    stages = short_kitchen(1000, options.texts)
    people = {"raters": 12, "reliability": 0.8, "sharpness": 6, "length_bias": 0.25, "phrase_bias": 0.3}
    pool = {**stages["judged"]["from"]["pool"], **people}
    asked = {"from": {**stages["judged"]["from"], "pool": pool}, "raters_per_comparison": 1, "pairs_per_prompt": 2, "held_out": 0.2}
    noisy = {**stages["judged"], **asked}
    others = {**noisy, "from": {**noisy["from"], "pool": {**pool, "raters": 13}}}
    reward = {**stages["reward"], "limit": options.pairs}
    judged = {"preferences": "$noisy/preferences.jsonl", "held_out": "$noisy/held_out.jsonl"}
    inside = {"url": str(database), "project": PROJECT, "every": options.every, "pairs": options.ask, "patience": None, "wait": True}
    online = {
        **stages["without-kl"],
        "iterations": options.iterations,
        "reward_requirements": {"min_accuracy": 0.0},
        "held_out": {"reward": "$second", "people": {**inside, "poll_seconds": 0.2}},
    }
    return {
        "name": "people",
        "seed": 0,
        "stages": {
            **{name: stages[name] for name in ("world", "base", "sft", "samples")},
            "noisy": noisy,
            "others": others,
            "reward": {**reward, **judged},
            "second": {**reward, "preferences": "$others/preferences.jsonl", "held_out": "$others/held_out.jsonl"},
            "ppo": online,
        },
    }


def verdict(conversation: str, first: str, second: str, sharpness: float = 14.0) -> bool:
    """Return whether a simulated person prefers the first answer: by its gold, with people's noise, always the same for the same pair."""
    gain = sum(judge(conversation, first).values()) / 3 - sum(judge(conversation, second).values()) / 3
    number = int(hashlib.sha256(f"{conversation}|{first}|{second}".encode()).hexdigest()[:12], 16) / 16**12
    return number < 1 / (1 + math.exp(-sharpness * gain))


def judge_all(ratings: Ratings, name: str) -> None:
    """Let one person judge whatever the project has."""
    (project,) = ratings.projects()
    account = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
    ratings.join(project.id, account.id, time.time())
    while (held := ratings.claim(project.id, account.id, time.time(), Random(1))) is not None:
        item = ratings.item(held.item)
        own, start = (candidate.text for candidate in item.candidates)
        better = 0 if verdict(item.conversation[-1].text, own, start) else 1
        place = held.order.index(better)
        ratings.submit(held.id, account.id, Answer(((place,), (1 - place,)), seconds=1.0), f"key {held.id}", time.time())


@contextmanager
def people_at_work(database: Path) -> Iterator[None]:
    """Simulated people, who judge what comes until the end of the block."""
    ratings, over = open_ratings(str(database), create=True), threading.Event()
    if not ratings.projects():
        ratings.add_project(Project(PROJECT), time.time())

    def work() -> None:
        while not over.wait(0.2):
            judge_all(ratings, "simulated")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ratings.close()


def running_mean(values: Floats) -> Floats:
    """Return the mean of each value with its neighbours."""
    half = WIDTH // 2
    return np.array([values[max(k - half, 0) : k + half + 1].mean() for k in range(values.size)])


def people_stop(checks: Sequence[Mapping[str, Any]], patience: int, lag: int) -> tuple[int, int]:
    """Return the iteration that people's rule keeps, and that at which it stops, where verdicts come `lag` checks late.

    Each check uses the rates as they were known at that moment.
    """
    for k, check in enumerate(checks):
        rates = check["rates"][: len(check["rates"]) - lag]
        curve = gain_curve([row["iteration"] for row in rates], [Estimate(*(row[name] for name in ESTIMATE)) for row in rates])
        if curve is not None and (curve.is_over(patience) or (k == len(checks) - 1 and curve.best < len(rates) - 1)):
            return int(rates[curve.best]["iteration"]), int(check["iteration"])
    return -1, int(checks[-1]["iteration"])


ESTIMATE = ("value", "se", "low", "high", "n")


def table(run: SeedRun, budgets: Sequence[float], patience: int) -> str:
    """Return a Markdown table: a row per rule with the iteration that it keeps, the gold there, and the labels of people."""
    rows: list[Any] = [row for _, row in read_rows(run.stages["ppo"] / "metrics.jsonl")]
    checks: list[Any] = [row for _, row in read_rows(run.stages["ppo"] / "people" / "checks.jsonl")]
    gold, held_out, reward = (
        running_mean(np.array([row[f"online/{name}/mean"] for row in rows])) for name in ("gold", "held_out_score", "score")
    )
    kl, error = np.array([row["online/kl/mean"] for row in rows]), float(np.median([row["online/gold/se"] for row in rows]))
    kept: dict[str, tuple[int, int]] = {"gold's peak": (int(np.argmax(gold)), 0), "reward": (int(np.argmax(reward)), 0)}
    kept |= {f"KL budget of {nats:g} nats": (int(np.flatnonzero(kl <= nats).max()), 0) for nats in budgets}
    kept["held-out model"] = int(np.argmax(held_out)), 0
    for lag in (0, 1):
        best, last = people_stop(checks, patience, lag)
        labels = next(int(check["metrics"]["people/answered/count"]) for check in checks if check["iteration"] == last)
        kept[f"people, verdicts {'at once' if not lag else 'one check late'}"] = (len(rows) - 1 if best < 0 else best), labels
    lines = [
        f"gold of the first iteration {gold[0]:.3f}; standard error of one iteration's gold {error:.3f}, of means {error / WIDTH**0.5:.3f}",
        "",
        "| rule | keeps iteration | sqrt(KL) there | gold there | gold lost | labels |",
        "|---" * 6 + "|",
    ]
    lines += [
        f"| {name} | {at} of {len(rows)} | {max(kl[at], 0) ** 0.5:.2f} | {gold[at]:.3f} | {gold.max() - gold[at]:.3f} | {labels or ''} |"
        for name, (at, labels) in kept.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.people", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-people"))
    parser.add_argument("--texts", type=int, default=TEXTS, help="documents of the base corpus")
    parser.add_argument("--pairs", type=int, default=600, help="judgments that train each reward model")
    parser.add_argument("--iterations", type=int, default=28)
    parser.add_argument("--every", type=int, default=2, help="iterations between two checks")
    parser.add_argument("--ask", type=int, default=32, help="pairs that each check sends")
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--budgets", type=float, nargs="+", default=[4.0, 8.0], help="KL budgets to compare with, nats")
    options = parser.parse_args()
    for seed in options.seeds:
        root = options.runs / f"seed{seed}"
        root.mkdir(parents=True, exist_ok=True)
        database = (root / DATABASE).resolve()
        file = root / "people.yaml"
        file.write_text(yaml.safe_dump(pipeline(options, database), sort_keys=False), encoding="utf-8")
        with people_at_work(database):
            run = SeedRun.of(seed, root, file)
        print(f"## Seed {seed}\n\n{table(run, options.budgets, options.patience)}\n")
        print(json.dumps(run.summary("ppo")["people"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
