"""Whose taste a score is: heads by group of raters on real votes: `python -m benchmarks.groups --data ../shared/data`.

The data are LLMFAO's crowd votes on pairs whose answers have at most `--longest` characters. Their raters have no groups, so two are made
from the votes that train: the half of the raters who vote most for the longer answer, and the other half. Beside it stands a division at
random. The prompts are split into folds, and together the folds test every pair once. The reward models start from a small decoder with
random weights, whose tokenizer was trained on the texts.

For each group there is the Brier score of the share that its own head predicts, against the share of its votes on prompts that were held
out, beside those of the other group's head, of the mean of both, of the base rate (the group's share for the side shown left on the other
prompts), and of one half. Intervals count a prompt once.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from benchmarks.reward import VOCABULARY, folds, palate
from benchmarks.speed.workload import bpe_tokenizer
from palate.data.formats import read_preferences
from palate.data.jsonl import write_rows
from palate.evaluation.calibration import expected_calibration_error, reliability
from palate.evaluation.intervals import clustered_mean
from palate.models.load import Architecture, new_policy
from palate.rewards.learned import LearnedReward
from palate.training.comparisons import judged_prompts
from palate.training.rater_groups import head_of_group

GROUPS = ("longer", "others")
SETTINGS = ("--prompts_per_step", "1", "--optimizer.lr", "2e-3", "--tokens_per_microbatch", "4096", "--score", "mean_pooled")
VOTE = {"left": 1.0, "right": 0.0, "tie": 0.5}
FIGURES = ("own head", "other head", "mean of heads", "base rate", "one half")


def main() -> int:
    """Run what is not done yet below `--runs`; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.groups", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with llmfao")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-groups"))
    parser.add_argument("--longest", type=int, default=1000, help="characters of an answer, at most")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    pairs = options.runs / "pairs.jsonl"
    write_rows(pairs, voted_pairs(options.data / "llmfao", options.longest))
    model = random_model(pairs, options.runs / "base")
    print("| groups | of | " + " | ".join(FIGURES) + " | calibration error | pairs |\n|---|---|" + "---|" * (len(FIGURES) + 2))
    for way in ("by votes for the longer", "at random"):
        tested = []
        for seed in options.seeds:
            for k, (train, test) in enumerate(folds(pairs, options.folds, options.runs)):
                of_rater = groups_of(train) if way != "at random" else at_random(groups_of(train), seed)
                out = options.runs / f"{way.replace(' ', '-')}-{seed}-{k}"
                write_rows(raters := out.with_suffix(".raters.jsonl"), [{"rater": one, "group": group} for one, group in of_rater.items()])
                files = ("--model", model, "--preferences", train, "--held_out", test, "--groups.file", raters, "--out", out)
                palate("reward", *files, *SETTINGS, "--epochs", options.epochs, "--seed", seed)
                tested += tests_of(out / "model", train, test, of_rater)
        print("\n".join(rows_of(way, tested)), flush=True)
    return 0


def voted_pairs(folder: Path, longest: int) -> list[dict[str, object]]:
    """Return the pairs with their votes as rows of preferences; `chosen` is the side that was shown left."""
    votes: dict[int, list[tuple[str, float]]] = defaultdict(list)
    with (folder / "crowd-comparisons.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            votes[int(row["id"])].append((f"worker-{row['worker']}", VOTE[row["winner"]]))
    found: list[dict[str, object]] = []
    for line in (folder / "pairs-crowd.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        sides = [row[name].strip() for name in ("result_x", "result_y")]
        if not all(sides) or sides[0] == sides[1] or max(map(len, sides)) > longest or not votes[row["id"]]:
            continue
        raters, given = zip(*votes[row["id"]], strict=True)
        share = sum(given) / len(given)
        prompt, chosen, rejected = (
            [{"role": role, "content": text}] for role, text in (("user", row["text"]), *(("assistant", side) for side in sides))
        )
        found.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "votes": given, "raters": raters, "probability": share})
    return found


def random_model(pairs: Path, out: Path) -> Path:
    """Write a decoder with random weights, and a tokenizer for the texts."""
    rows = read_preferences(pairs).rows
    tokenizer = bpe_tokenizer([side.text for row in rows for side in (row.chosen, row.rejected)], VOCABULARY)
    new_policy(tokenizer, Architecture(hidden_size=64, intermediate_size=128, layers=2, heads=2, max_positions=1024), seed=0).save(out)
    return out


def groups_of(train: Path) -> dict[str, str]:
    """Return the group of each rater by how often they vote for the longer answer, half of the raters in each."""
    longer: dict[str, list[float]] = defaultdict(list)
    for one in read_preferences(train).rows:
        is_left_longer = len(one.chosen.text) > len(one.rejected.text)
        for rater, vote in one.votes:
            longer[rater].append(vote if is_left_longer else 1 - vote)
    # As if a rater had cast four more votes, even ones: few votes do not make a taste.
    order = sorted(longer, key=lambda rater: ((sum(longer[rater]) + 2) / (len(longer[rater]) + 4), rater), reverse=True)
    return {rater: GROUPS[place >= len(order) / 2] for place, rater in enumerate(order)}


def at_random(groups: Mapping[str, str], seed: int) -> dict[str, str]:
    """Return the same groups with the raters drawn at random."""
    names = list(groups.values())
    random.Random(seed).shuffle(names)
    return dict(zip(sorted(groups), names, strict=True))


@dataclass(frozen=True)
class GroupTest:
    """A pair on which raters of a group voted: the share for the left side, what each figure predicts, and the number of the prompt."""

    group: str
    share: float
    predicted: Sequence[float]
    prompt: str


def tests_of(model: Path, train: Path, test: Path, of_rater: Mapping[str, str]) -> list[GroupTest]:
    """Return the held-out pairs of each group with the predictions of both heads, of their mean, and of the group's base rate."""
    base = {group: share_of(train, of_rater, group) for group in GROUPS}
    reward = LearnedReward.load(str(model))
    judged, _ = judged_prompts(read_preferences(test).rows, reward.model.tokenizer, reward.model.max_tokens or 0)
    norm = reward.model.normalisation
    scores = reward.score_trees([prompt.tree for prompt in judged]).double()
    raw = ((scores - scores.new_tensor(norm.bias)) / scores.new_tensor(norm.gain)).numpy()
    columns = {group: reward.model.heads.index(head_of_group("overall", group)) for group in GROUPS}
    found = []
    starts = accumulate((len(prompt.tree.branches) for prompt in judged), initial=0)
    for start, prompt in zip(starts, judged, strict=False):
        for pair, preference in zip(prompt.pairs, prompt.preferences, strict=True):
            gaps = raw[start + pair.chosen] - raw[start + pair.rejected]
            for group, other in (GROUPS, GROUPS[::-1]):
                votes = [vote for rater, vote in preference.votes if of_rater.get(rater) == group]
                if votes:
                    own, others = gaps[columns[group]], gaps[columns[other]]
                    predicted = [*(float(1 / (1 + np.exp(-gap))) for gap in (own, others, (own + others) / 2)), base[group], 0.5]
                    found.append(GroupTest(group, sum(votes) / len(votes), predicted, preference.prompt.text))
    return found


def share_of(train: Path, of_rater: Mapping[str, str], group: str) -> float:
    """Return the share of a group's votes for the side shown left, with a pair counted once."""
    shares = []
    for one in read_preferences(train).rows:
        votes = [vote for rater, vote in one.votes if of_rater[rater] == group]
        if votes:
            shares.append(sum(votes) / len(votes))
    return sum(shares) / len(shares)


def rows_of(way: str, tested: Sequence[GroupTest]) -> list[str]:
    """Return the rows of the table: each group, and both."""
    rows = []
    for name, part in ((group, [one for one in tested if group in ("both", one.group)]) for group in (*GROUPS, "both")):
        prompts = list(dict.fromkeys(one.prompt for one in part))
        errors = np.array([[(p - one.share) ** 2 for p in one.predicted] for one in part])
        where = [np.array([one.prompt == prompt for one in part]) for prompt in prompts]
        cells = [clustered_mean([errors[flags, k] for flags in where]) for k in range(len(FIGURES))]
        gain = clustered_mean([errors[flags, 1] - errors[flags, 0] for flags in where])
        bins = reliability([one.predicted[0] for one in part], [one.share for one in part])
        texts = [f"{cell.value:.3f} ± {1.96 * cell.se:.3f}" for cell in cells]
        texts[1] += f" (own better by {gain.value:+.4f} ± {1.96 * gain.se:.4f})"
        rows.append(f"| {way} | {name} | {' | '.join(texts)} | {expected_calibration_error(bins):.3f} | {len(part)} |")
    return rows


if __name__ == "__main__":
    sys.exit(main())
