"""Real votes from data beside the repository, and votes of simulated raters whose habits are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from palate.agreement import Votes, VoteTable
from palate.agreement.estimates import Floats, Ints


def shared_data(name: str) -> Path:
    """Return the path of `name` in the folder `shared/data` beside the repository; skip the test where it does not exist."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"outside data {name!r} does not exist")
    return path


def llmfao(data: Path) -> VoteTable:
    """Read crowd votes on 2,139 pairs with sides, lengths and policies. A pair's first completion was always shown first.

    Source: LLMFAO, CC BY 4.0.
    """
    with (data / "llmfao" / "crowd-comparisons.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    code = {"left": 0, "tie": 1, "right": 2}
    votes = Votes.of((row["id"], row["worker"], code[row["winner"]]) for row in rows)
    policies = tuple(sorted({row[side] for row in rows for side in ("model_x", "model_y")}))
    number = {name: k for k, name in enumerate(policies)}
    of_item = {row["id"]: (number[row["model_x"]], number[row["model_y"]]) for row in rows}
    words = np.full((len(votes.items), 2), np.nan)
    place = {name: k for k, name in enumerate(votes.items)}
    with (data / "llmfao" / "pairs-crowd.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if str(row["id"]) in place:
                words[place[str(row["id"])]] = len(row["result_x"].split()), len(row["result_y"].split())
    policy = np.array([of_item[name] for name in votes.items])
    return VoteTable.of(votes, shown=np.zeros(len(votes), dtype=np.int64), words=words, policy=policy, policies=policies)


def mt_bench(data: Path) -> VoteTable:
    """Read experts' votes of MT-bench. The policies of a pair stand in the order of their names, whatever their order in the file.

    Source: Zheng et al. 2023, CC BY 4.0.
    """
    rows = []
    with (data / "mt_bench_human" / "human.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            first, second = sorted((row["model_a"], row["model_b"]))
            answer = 1 if row["winner"] == "tie" else 2 * (row[row["winner"]] != first)
            rows.append((f"{row['question_id']}/{row['turn']}/{first}/{second}", row["judge"], answer))
    votes = Votes.of(rows)
    names = [item.split("/")[2:] for item in votes.items]
    policies = tuple(sorted({name for pair in names for name in pair}))
    return VoteTable.of(votes, policy=np.array([[policies.index(name) for name in pair] for pair in names]), policies=policies)


def made_up(
    judgments: int, rng: np.random.Generator, raters: int = 200, opinions: int = 5, side: float = 0.2, length: float = 0.05
) -> VoteTable:
    """Draw votes of raters whose habits are known, to measure speed and to check that estimates find the habits.

    `side` is the log-odds for the completion shown first, `length` the log-odds per ten words more. Raters 0, 10, 20, ... guess.
    """
    items = judgments // opinions
    item = np.repeat(np.arange(items), opinions)
    rater = np.concatenate([rng.choice(raters, opinions, replace=False) for _ in range(items)])
    policy = _two_of(12, items, rng)
    words = rng.integers(20, 300, (items, 2)).astype(np.float64)
    shown = rng.integers(0, 2, item.size)
    strength = np.linspace(-1, 1, 12)
    quality = strength[policy[:, 0]] - strength[policy[:, 1]] + rng.normal(0, 1, items) + length * (words[:, 0] - words[:, 1]) / 10
    logit = quality[item] + side * (1 - 2 * shown)
    logit[rater % 10 == 0] = 0
    won = rng.random(item.size) < 1 / (1 + np.exp(-logit))
    answer = np.where(rng.random(item.size) < 0.15, 1, np.where(won, 0, 2))
    votes = Votes(item, rater, answer, tuple(map(str, range(items))), tuple(f"rater-{k}" for k in range(raters)))
    seconds: Floats = rng.lognormal(3, 0.5, item.size)
    return VoteTable.of(votes, shown, seconds, words, policy, tuple(f"policy-{k}" for k in range(12)))


def _two_of(number: int, rows: int, rng: np.random.Generator) -> Ints:
    first = rng.integers(0, number, rows)
    return np.stack([first, (first + rng.integers(1, number, rows)) % number], axis=1)
