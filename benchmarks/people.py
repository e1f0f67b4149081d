"""Where rules stop an over-optimised run, beside the true peak of gold, in the kitchen: `python -m benchmarks.people --seeds 0`.

PPO without a price of KL over-optimises a reward model of biased raters. Simulated people without those biases judge pairs of the policy's
and the start's answers in a rating server's database while it trains. The run itself is not stopped. Its weights at each check are measured
on held-out prompts afterwards, and the tables say which of them each rule would have kept. With `--starts` the seeds share finished
kitchens, so that only what follows the reward model is trained.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.kept_weights import differences, seed_table, stops_of, summary_table, write_stops
from benchmarks.kitchen import SeedRun, seed_root, seeds_parser, write_pipeline
from benchmarks.short_kitchen import TEXTS, short_kitchen
from benchmarks.true_gold import TrueGold, copy_weights, gold_of
from palate import cli
from palate.ratings import Answer, Project, Ratings, open_ratings

PROJECT, DATABASE = "taste", "people.db"
PEOPLE = "people inside the loop, verdicts at once"


STARTS = ("world", "base", "sft", "samples", "judged", "reward")
"""The stages of a kitchen that come before a seed's own."""


def start_pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Return the stages that several seeds can share: the world, the start of the policies, and the reward model that they will exploit."""
    stages = short_kitchen(texts=options.texts)
    return {"name": "start", "seed": 0, "stages": {name: stages[name] for name in STARTS}}


def pipeline(options: argparse.Namespace, start: SeedRun, database: Path) -> dict[str, Any]:
    """Return a seed's own stages: a held-out reward model on a few judgments of other raters, and one run of PPO."""
    stages = short_kitchen()
    at = {name: str(path.resolve()) for name, path in start.stages.items()}
    pool = {**stages["judged"]["from"]["pool"], "raters": 13, "reliability": 0.8, "sharpness": 6}
    asked = {"raters_per_comparison": 1, "pairs_per_prompt": 2, "held_out": 0.2, "limit": options.comparisons}
    others = {**stages["judged"], **asked, "samples": at["samples"], "from": {**stages["judged"]["from"], "pool": pool}}
    judged = {"preferences": "$others/preferences.jsonl", "held_out": "$others/held_out.jsonl", "reference_samples": at["samples"]}
    second = {**stages["reward"], **judged, "model": at["sft"], "score": "with_likelihood", "epochs": 2}
    inside = {"url": str(database), "project": PROJECT, "every": options.every, "pairs": options.ask, "patience": 1000, "wait": True}
    online = {
        **stages["unrestrained"],
        "model": at["sft"],
        "reward": at["reward"],
        "prompts": f"{at['world']}/prompts.jsonl",
        "iterations": options.iterations,
        "prompts_per_iteration": options.episodes,
        "samples_per_prompt": 1,
        "epochs_per_batch": 1,
        "minibatches": 8,
        "reward_requirements": {"min_accuracy": 0.0},
        "held_out": {"reward": "$second", "people": {**inside, "poll_seconds": 0.2}},
    }
    return {"name": "people", "seed": 0, "stages": {"others": others, "second": second, "ppo": online}}


def run_in(root: Path, file: str, seed: int, stages: Mapping[str, Any]) -> SeedRun:
    """Run what is not done yet of a pipeline below `root`, in this process, and read it. Exits with palate's status where that fails."""
    config = write_pipeline(root / file, stages)
    status = cli.main(["run", str(config), f"seed={seed}", "--runs", str(root)])
    if status:
        raise SystemExit(status)
    return SeedRun.planned(seed, root, config)


def start_of(seed: int, options: argparse.Namespace) -> SeedRun:
    """Return the world, the start and its samples: a seed's own ones, or those of the finished kitchens in turn."""
    if options.starts:
        return SeedRun.read(seed, options.starts[seed % len(options.starts)])
    return run_in(options.runs / f"start{seed}", "start.yaml", seed, start_pipeline(options))


def verdict(conversation: str, first: str, second: str, sharpness: float = 14.0) -> bool:
    """Return whether a simulated person prefers the first answer: by its gold, with people's noise, always the same for the same pair."""
    gain = gold_of(conversation, first) - gold_of(conversation, second)
    number = int(hashlib.sha256(f"{conversation}|{first}|{second}".encode()).hexdigest()[:12], 16) / 16**12
    return number < 1 / (1 + math.exp(-sharpness * gain))


def judge_all(ratings: Ratings, name: str, root: Path) -> None:
    """Let one person judge whatever the project has, after the weights below `root` that wrote it are copied."""
    (project,) = ratings.projects()
    account = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
    ratings.join(project.id, account.id, time.time())
    while (held := ratings.claim(project.id, account.id, time.time(), Random(1))) is not None:
        copy_weights(root)
        item = ratings.item(held.item)
        own, start = (candidate.text for candidate in item.candidates)
        better = 0 if verdict(item.conversation[-1].text, own, start) else 1
        place = held.order.index(better)
        ratings.submit(held.id, account.id, Answer(((place,), (1 - place,)), seconds=1.0), f"key {held.id}", time.time())


@contextmanager
def people_at_work(database: Path) -> Iterator[None]:
    """Simulated people, who judge what comes until the end of the block. The run waits for them, so its weights can be copied before."""
    ratings, over = open_ratings(str(database), create=True), threading.Event()
    if not ratings.projects():
        ratings.add_project(Project(PROJECT), time.time())

    def work() -> None:
        while not over.wait(0.2):
            judge_all(ratings, "simulated", database.parent)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ratings.close()


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.people", __doc__, [0])
    parser.add_argument("--starts", type=Path, nargs="+", help="folders of finished kitchens whose world and SFT the seeds share in turn")
    parser.add_argument("--texts", type=int, default=TEXTS, help="documents of the base corpus")
    parser.add_argument("--comparisons", type=int, default=400, help="judgments for the held-out model, of which a fifth test it")
    parser.add_argument("--episodes", type=int, default=96, help="completions of an iteration, each of another prompt")
    parser.add_argument("--iterations", type=int, default=14)
    parser.add_argument("--every", type=int, default=1, help="iterations between two checks")
    parser.add_argument("--ask", type=int, default=32, help="pairs that each check sends")
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--budgets", type=float, nargs="+", default=[2.0, 4.0, 8.0], help="KL budgets to compare with, nats")
    parser.add_argument("--truth", type=int, default=150, help="held-out prompts that measure the true gold")
    options = parser.parse_args()
    found = []
    for seed in options.seeds:
        start = start_of(seed, options)
        root = seed_root(options, seed)
        root.mkdir(parents=True, exist_ok=True)
        database = (root / DATABASE).resolve()
        with people_at_work(database):
            run = run_in(root, "people.yaml", seed, pipeline(options, start, database))
        online, held_out = run.stages["ppo"], start.stages["world"] / "held_out.jsonl"
        true = TrueGold.of(root, online, start.stages["sft"] / "model", held_out, options.truth, seed)
        found.append(stops_of(seed, online, true, options.budgets, options.patience))
        write_stops(root / "stops.json", found[-1])
        print(f"## Seed {seed}\n\n{seed_table(found[-1])}\n", flush=True)
    print(summary_table(found), differences(found, PEOPLE), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
