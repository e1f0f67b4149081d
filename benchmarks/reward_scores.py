"""Whether reading the likelihood makes a reward model better on real pairs: `python -m benchmarks.reward_scores --data ../shared/data`.

HH (harmless), OASST and LLMFAO, each with a language model of 260,000 parameters. The prompts of a data set are split into folds. For each
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
from pathlib import Path

import numpy as np

from benchmarks.reward import folds, palate
from palate.data.exchange.convert import write_exchange
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.intervals import Estimate, clustered_mean
from palate.models.load import load_tokenizer
from palate.training.comparisons import judged_prompts
from tests.support.llmfao import read_llmfao

SCORES = ("last_token", "with_likelihood")
SETTINGS = ("--prompts_per_step", "8", "--optimizer.lr", "1e-3")
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
    parser.add_argument("--data", type=Path, required=True, help="the folder with hh-rlhf, oasst1-val-pairs, llmfao and models")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-reward-scores"))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=["HH", "OASST", "LLMFAO"])
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    model = options.data / "models" / "stories260K-hf"
    print("| data | score | accuracy | 95 % | pairs | prompts | by seed |\n|---|---|---|---|---|---|---|")
    for name in options.sets:
        into = options.runs / name
        into.mkdir(exist_ok=True)
        found = measured(name, folds(pairs_of(name, options.data, into), options.folds, into), options.seeds, model, into)
        print("\n".join(found.rows()), flush=True)
    return 0


def pairs_of(name: str, data: Path, into: Path) -> Path:
    """Return the preferences of a data set; the votes of LLMFAO are concluded first."""
    if name == "LLMFAO":
        pairs = into / "pairs.jsonl"
        write_exchange(read_llmfao(data / "llmfao" / "crowd-comparisons.csv"), pairs, "trl")
        return pairs
    return {"HH": data / "hh-rlhf" / "harmless-base_half.jsonl", "OASST": data / "oasst1-val-pairs" / "oasst_en_val_pairs.json"}[name]


def measured(name: str, files: Sequence[tuple[Path, Path]], seeds: Sequence[int], model: Path, into: Path) -> DataSet:
    """Train and test on every fold with every seed."""
    tokenizer = load_tokenizer(model)
    prompts: list[int] = []
    for _, test in files:
        judged, _ = judged_prompts(read_preferences(test).rows, tokenizer, MAX_TOKENS)
        start = prompts[-1] + 1 if prompts else 0
        prompts += [start + k for k, prompt in enumerate(judged) for _ in prompt.pairs]
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
                predictions[score][-1] += [row for _, row in read_rows(out / "predictions.jsonl")]  # type: ignore[misc]
                coefficients += json.loads((out / "summary.json").read_text()).get("likelihood", {}).values()
    assert all(len(rows) == len(prompts) for part in predictions.values() for rows in part)
    return DataSet(name, prompts, predictions, coefficients)


def _agreement(rows: Sequence[Mapping[str, float]], chosen: str, rejected: str) -> np.ndarray:
    columns = {name: np.array([row[name] for row in rows]) for name in (chosen, rejected, "observed")}
    return vote_agreement(columns[chosen] - columns[rejected], columns["observed"])


if __name__ == "__main__":
    sys.exit(main())
