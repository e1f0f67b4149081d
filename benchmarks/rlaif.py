"""Labels of judges against labels of people in the kitchen: `python -m benchmarks.rlaif --seeds 101 102 103`.

It runs configs/rlaif.yaml for each seed. Beside it a judge that errs as often as one person labels the same pairs: with a planted bias for
what it sees first, in one order and in both, and together with people. All reward models are tested on the same pairs against the truth.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from benchmarks.kitchen import SeedRun
from palate.config.functions import load_gold
from palate.core import Judgment, derive_seed
from palate.data.files import read_json
from palate.data.formats import read_samples, sample_row
from palate.data.jsonl import read_rows, write_rows
from palate.data.judgment_rows import judgment_of
from palate.evaluation.label_sources import label_accuracy, reward_accuracy
from palate.judges.hybrid import ByRules, ByShare, Hybrid
from palate.judges.likelihood_rater import LikelihoodRater
from palate.judges.local_judge import LocalJudge
from palate.raters.answer_shares import question_share
from palate.raters.rater import Answered, Ask, Rater
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.record import RunPlan, read_record
from palate.runs.run import Run, open_run_at
from palate.stages.collect import Collect

CONFIG = Path("configs/rlaif.yaml")
BIAS = 1.0
"""Logits in favour of what a judge sees first."""

SURE = 1.4
"""Logits of the noisy judge for the side that it takes: it is then as sure as it is right."""

MIX = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the questions that people answer."""

SWEEP_PROMPTS = 300
GOLD = load_gold("palate.kitchen:judge")


@dataclass(frozen=True)
class NoisyJudge:
    """A judge that errs and sees ties like one of the simulated people, and shows a bias for the first side on top.

    Attributes:
        pool: the people whose noise it has, without their bias for a side.
        bias: logits in favour of the first side.
        orders: the orders in which it sees each pair.
    """

    pool: RaterPool
    bias: float = 0.0
    orders: tuple[tuple[int, int], ...] = ((0, 1), (1, 0))

    def check(self, raters_per_comparison: int, dimensions: Sequence[str]) -> None:
        """Accept any number: it is one rater."""

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return all questions with an answer in each order. Before the bias it takes the same side in both."""
        del raters_per_comparison, rng
        plain = replace(self.pool, raters=200, side_bias=0.0)
        errs_as = plain.sample_raters(GOLD, derive_seed(run.seed, "noisy judge"))
        answers = []
        for comparison, dimension in asks:
            one = errs_as[derive_seed(run.seed, comparison.id, dimension) % len(errs_as)]
            tiers = one.judge(comparison, dimension, (0, 1), run.seed).ranking
            for_first = 0.0 if len(tiers) == 1 else SURE if tiers[0] == (0,) else -SURE
            judgments = []
            for order in self.orders:
                logit = (for_first if order[0] == 0 else -for_first) + self.bias
                ranking: tuple[tuple[int, ...], ...] = ((0, 1),) if not logit else ((0,), (1,)) if logit > 0 else ((1,), (0,))
                probability = 1 / (1 + math.exp(-logit))
                judgments.append(Judgment(comparison.id, "noisy", ranking, dimension, order, probability=probability))
            answers.append(((comparison, dimension), judgments))
        return answers, {"judges": {"tokens_in": 0, "tokens_out": 0, "cost": 0.0}}


def collected(root: Path, name: str, samples: Path, rater: Rater, seed: int) -> Path:
    """Run stage collect with a rater that is not a setting, and return the directory; what is done is kept."""
    stage = Collect(str(samples), cast("Any", rater), dimensions=("helpful", "honest", "harmless"), pairs_per_prompt=6, prior=0.6)
    run = open_run_at(root / name, RunPlan(name, "collect", {"rater": repr(rater)}, seed))
    if not run.is_done:
        with run.active():
            stage.run(run)
    return root / name


def rewarded(root: Path, name: str, like: Path, preferences: Path) -> Path:
    """Train a reward model with the settings of the run `like` on other preferences, and return its directory."""
    record = read_record(like)
    if record is None:
        raise SystemExit(f"{like} is not a run")
    config = cast("Mapping[str, Any]", record.config)
    words = [f"--{field}={config[field]}" for field in ("model", "held_out", "reference_samples", "epochs", "prompts_per_step")]
    words += [f"--optimizer.{field}={config['optimizer'][field]}" for field in ("lr", "weight_decay")]
    out = root / name
    command = [sys.executable, "-m", "palate", "reward", "--preferences", str(preferences / "preferences.jsonl"), *words]
    subprocess.run([*command, "--seed", str(record.seed), "--out", str(out)], check=True)
    return out


def people_of(run: SeedRun) -> Simulated:
    """Return the simulated people of the pipeline."""
    record: Any = read_json(run.stages["people"] / "run.json")
    config = dict(record["config"]["from"])
    pool = dict(config["pool"])
    pool["phrases"] = tuple(pool["phrases"])
    return Simulated(gold=config["gold"], pool=RaterPool(**pool), repeat_share=0.0)


def measured(seed: int, root: Path) -> dict[str, float]:
    """Return the figures of a seed; what is not done yet is run below `root`."""
    run = SeedRun.of(seed, root, CONFIG)
    samples, people = run.stages["samples"], people_of(run)
    noisy = NoisyJudge(people.pool)
    believed = ByRules(calibration=0.06)
    raters: Mapping[str, Rater] = {
        "judge": noisy,
        "biased": NoisyJudge(people.pool, bias=BIAS),
        "one-order": NoisyJudge(people.pool, bias=BIAS, orders=((0, 1),)),
        "hybrid-judge": Hybrid(judge=cast("Any", noisy), people=people, route=believed),
        "hybrid-itself": Hybrid(judge=itself(run), people=people, route=believed),
    }
    labels = {name: collected(root, f"labels-{name}", samples, rater, seed) for name, rater in raters.items()}
    labels |= {name: run.stages[name] for name in ("people", "itself", "guests", "hybrid")}
    rewards = {name: run.stages[f"reward-{name}"] for name in ("people", "itself", "hybrid")}
    for name in ("judge", "hybrid-judge"):
        rewards[name] = rewarded(root, f"reward-by-{name}", run.stages["reward-people"], labels[name])
    figures = {f"labels right, {name}": accuracy(label_accuracy(str(path), GOLD)) for name, path in labels.items()}
    figures |= {f"reward model right, {name}": accuracy(reward_accuracy(str(path))) for name, path in rewards.items()}
    total = people_labels(labels["people"])
    figures |= {f"labels of people, {name}": people_labels(labels[name]) / total for name in ("hybrid", "hybrid-judge", "hybrid-itself")}
    for name in ("one-order", "biased"):
        figures[f"share of labels for the first side, {name}"] = first_sides(labels[name])
    for name in ("rlhf", "rlaif", "mixed"):
        figures[f"gold gained, {name}"] = run.gain(name).value
    figures["gain of rlaif / gain of rlhf"] = figures["gold gained, rlaif"] / figures["gold gained, rlhf"]
    figures |= sweep(run, root, people, {"noisy": noisy, "itself": itself(run)})
    return figures


def itself(run: SeedRun) -> LikelihoodRater:
    """Return the base model as a judge, as in the pipeline."""
    return LikelihoodRater(model=LocalJudge(model=str(run.stages["base"])), temperature=0.25)


def sweep(run: SeedRun, root: Path, people: Simulated, judges: Mapping[str, Rater]) -> dict[str, float]:
    """Return how many labels are right by the share of the questions that people answer, those first of which the judge is least sure."""
    samples = root / "sweep-samples"
    if not samples.is_dir():
        samples.mkdir()
        rows = read_samples(run.stages["samples"] / "samples.jsonl").rows[:SWEEP_PROMPTS]
        write_rows(samples / "samples.jsonl", (sample_row(prompt, completions) for prompt, completions in rows))
    figures = {}
    for name, judge in judges.items():
        for share in MIX:
            mix = Hybrid(judge=cast("Any", judge), people=people, route=ByShare(people=share))
            labels = collected(root, f"sweep-{name}-{share:g}", samples, mix, run.seed)
            figures[f"mix with {name}: labels right, {share:.0%} people"] = accuracy(label_accuracy(str(labels), GOLD))
    return figures


def accuracy(estimate: Any) -> float:
    """Return the value of an estimate that must be there."""
    return float(estimate.value)


def people_labels(labels: Path) -> int:
    """Return how many labels of people a run of collect has."""
    summary: Any = read_json(labels / "summary.json")
    return int(summary["mix"]["sources"]["people"]["labels"] if "mix" in summary else summary["judgments"])


def first_sides(labels: Path) -> float:
    """Return the mean probability that the first completion of a pair in the file is better. Its place means nothing: 0.5 has no bias."""
    answers: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
    for _, row in read_rows(labels / "judgments.jsonl"):
        judgment = judgment_of(row)
        answers[judgment.comparison, judgment.dimension].append(judgment)
    return statistics.fmean(question_share(own) for own in answers.values())


def table(figures: Mapping[int, Mapping[str, float]]) -> str:
    """Return a Markdown table: a row per figure with its median and its values by seed."""
    seeds = list(figures)
    lines = ["| | median | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", "|---" * (len(seeds) + 2) + "|"]
    for name in figures[seeds[0]]:
        values = [figures[seed][name] for seed in seeds]
        lines.append(f"| {name} | {statistics.median(values):.3f} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rlaif", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-rlaif"))
    options = parser.parse_args()
    sys.stdout.write(table({seed: measured(seed, options.runs / f"seed{seed}") for seed in options.seeds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
