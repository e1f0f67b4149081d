"""Whether reading the likelihood makes a reward model better on real pairs: `python -m benchmarks.reward_scores --data ../shared/data`.

HH (harmless) and OASST, with a language model of 260,000 parameters. LLMFAO is absent: its pairs are longer than the 512 tokens that this
model takes. The prompts of a data set are split into folds. For each
fold and seed a policy is fine-tuned on the chosen sides of the other folds, and two reward models are trained from it on the same rows:
one reads the last token, the other the likelihood too. Together the folds test every pair once per seed. The difference is paired: of a
pair it is the mean over seeds, and its error is that of the prompts' means.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import numpy as np

from benchmarks.reward import folds, palate
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.intervals import Estimate, clustered_mean
from palate.models.load import load_tokenizer
from palate.models.scalar import scalar_from
from palate.rewards.learned import LearnedReward
from palate.training.comparisons import JudgedPrompt, judged_prompts

SETS = {"HH": "hh-rlhf/harmless-base_half.jsonl", "OASST": "oasst1-val-pairs/oasst_en_val_pairs.json"}
SCORES = ("last_token", "with_likelihood")
SETTINGS = ("--prompts_per_step", "4", "--epochs", "2", "--optimizer.lr", "1e-3")
TUNING = ("--demonstrations_per_step", "16", "--optimizer.lr", "3e-3", "--epochs", "2")
MAX_TOKENS = 512


@dataclass(frozen=True)
class DataSet:
    """Held-out results of one data set: by score and seed, the predictions of every pair and the learned coefficients."""

    name: str
    prompts: Sequence[int]
    """The number of the prompt of each pair."""
    predictions: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
    coefficients: Sequence[float]

    def right(self, score: str) -> np.ndarray:
        """Return the agreement with the votes (seeds, pairs); equal scores count one half."""
        return np.array([_agreement(rows, "chosen", "rejected") for rows in self.predictions[score]])

    def by_prompt(self, values: np.ndarray) -> Estimate:
        """Return the mean of a figure of the pairs (n,), with the error of the prompts' means."""
        numbers = np.array(self.prompts)
        return clustered_mean([values[numbers == k] for k in np.unique(numbers)])

    def rows(self) -> list[str]:
        """Return the rows of the table."""
        first = self.predictions["last_token"][0]
        seeds = {score: self.right(score).mean(1) for score in SCORES}
        means = {score: self.right(score).mean(0) for score in SCORES}
        cells = [(score, self.by_prompt(means[score]), " ".join(f"{x:.3f}" for x in seeds[score])) for score in SCORES]
        cells.append(("with_likelihood less last_token", self.by_prompt(means["with_likelihood"] - means["last_token"]), ""))
        likelier = np.array([_agreement(rows, "chosen_logp", "rejected_logp") for rows in self.predictions["last_token"]])
        cells.append(("rule: the likelier by the fine-tuned model wins", self.by_prompt(likelier.mean(0)), ""))
        cells.append(("rule: the longer wins", self.by_prompt(_agreement(first, "chosen_tokens", "rejected_tokens")), ""))
        text = [
            f"| {self.name} | {name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {len(self.prompts)} | {e.n} | {by_seed} |"
            for name, e, by_seed in cells
        ]
        low, high = min(self.coefficients), max(self.coefficients)
        return [*text, f"| {self.name} | coefficient | {np.mean(self.coefficients):+.2f} | {low:+.2f} to {high:+.2f} (range) | | | |"]


def main() -> int:
    """Run what is not done yet below `--runs`; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward_scores", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with hh-rlhf, oasst1-val-pairs and models")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-reward-scores"))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    model = options.data / "models" / "stories260K-hf"
    print("| data | score | accuracy | 95 % | pairs | prompts | by seed |\n|---|---|---|---|---|---|---|")
    for name in options.sets:
        into = options.runs / name
        into.mkdir(exist_ok=True)
        found = measured(name, folds(options.data / SETS[name], options.folds, into), options.seeds, model, into)
        print("\n".join(found.rows()), flush=True)
    return 0


def measured(name: str, files: Sequence[tuple[Path, Path]], seeds: Sequence[int], model: Path, into: Path) -> DataSet:
    """Train and test on every fold with every seed."""
    tokenizer = load_tokenizer(model)
    tests = [judged_prompts(read_preferences(test).rows, tokenizer, MAX_TOKENS)[0] for _, test in files]
    prompts = [k for k, prompt in enumerate(chain.from_iterable(tests)) for _ in prompt.pairs]
    predictions: dict[str, list[list[Mapping[str, float]]]] = {score: [] for score in SCORES}
    coefficients: list[float] = []
    for seed in seeds:
        for score in SCORES:
            predictions[score].append([])
        for k, (train, test) in enumerate(files):
            policy = into / f"sft-{seed}-{k}"
            palate("sft", "--model", model, "--data", train, *TUNING, "--seed", seed, "--out", policy)
            for score in SCORES:
                out = into / f"{score}-{seed}-{k}"
                inputs = ["--model", policy, "--preferences", train, "--held_out", test, "--score", score]
                palate("reward", *inputs, *SETTINGS, "--seed", seed, "--out", out)
                rows = [row for _, row in read_rows(out / "predictions.jsonl")]
                likelihoods = likelihood_of_sides(policy / "model", tests[k])
                predictions[score][-1] += [{**row, **more} for row, more in zip(rows, likelihoods, strict=True)]  # type: ignore[dict-item]
                coefficients += json.loads((out / "summary.json").read_text()).get("likelihood", {}).values()
    assert all(len(rows) == len(prompts) for part in predictions.values() for rows in part)
    return DataSet(name, prompts, predictions, coefficients)


def likelihood_of_sides(policy: Path, judged: Sequence[JudgedPrompt]) -> list[dict[str, float]]:
    """Return the mean log-likelihood of both sides of every pair, nats per token, by the policy that reward models start from."""
    reward = LearnedReward(scalar_from(policy, ("overall",), seed=0, reads_likelihood=True))
    means = reward.states([prompt.tree for prompt in judged])[:, -1].tolist()
    starts = accumulate((len(prompt.tree.branches) for prompt in judged), initial=0)
    pairs = [(start, pair) for start, prompt in zip(starts, judged, strict=False) for pair in prompt.pairs]
    return [{"chosen_logp": means[start + pair.chosen], "rejected_logp": means[start + pair.rejected]} for start, pair in pairs]


def _agreement(rows: Sequence[Mapping[str, float]], chosen: str, rejected: str) -> np.ndarray:
    columns = {name: np.array([row[name] for row in rows]) for name in (chosen, rejected, "observed")}
    return vote_agreement(columns[chosen] - columns[rejected], columns["observed"])


if __name__ == "__main__":
    sys.exit(main())
