"""Labels of judges against labels of people in the kitchen: `python -m benchmarks.rlaif --seeds 110 111 112`.

It runs the stages of configs/rlaif.yaml that its figures need. Whatever it does besides is a stage of that file with another rater or
another seed, so that file has every other setting. A judge that errs as often as one person labels the same pairs: with a planted bias
for what it sees first, in one order and in both, and together with people. All reward models are tested on the same pairs against the
truth. `--figures` chooses what is measured; what is done is not done again.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.kitchen import LazyPipeline, seed_root, seeds_parser
from benchmarks.repeated_fits import Fits, fit_difference, mean_difference
from palate.config.functions import load_gold
from palate.core import Judgment, PalateError, derive_seed
from palate.data.files import read_json
from palate.data.jsonl import read_rows
from palate.data.judgment_rows import judgment_of
from palate.evaluation.intervals import Estimate, bootstrap
from palate.evaluation.label_sources import label_accuracy, reward_accuracy
from palate.judges.hybrid import ByRules, ByShare, Hybrid
from palate.raters.answer_shares import question_share
from palate.raters.rater import Answered, Ask, Rater
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.run import Run

CONFIG = Path("configs/rlaif.yaml")
BIAS = 1.0
"""Logits in favour of what a judge sees first."""

SURE = 1.4
"""Logits of the noisy judge for the side that it takes: it is then as sure as it is right."""

MIX = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the questions that people answer."""

MIX_PAIRS = 1800
"""Pairs that each of those shares is measured on."""

FIT_SEEDS = 1000
"""Fit k of a reward model, and the labels that it learns from, have the pipeline's seed and k times this."""

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

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
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


Figures = dict[str, Estimate]
"""Figures of one seed by name. Those without an interval have NaN as their error."""


@dataclass(frozen=True)
class Sources:
    """Who labels the samples of a seed's pipeline.

    Attributes:
        pipeline: the pipeline of configs/rlaif.yaml.
        fits: how many reward models are trained for people, for the judge with people's noise and for a mix of both, each on labels drawn
            anew.
    """

    pipeline: LazyPipeline
    fits: int

    @property
    def people(self) -> Simulated:
        """The simulated people of the pipeline."""
        return cast("Simulated", self._rater("people"))

    @property
    def judge(self) -> NoisyJudge:
        """The judge with people's noise, in both orders and without a bias."""
        return NoisyJudge(self.people.pool)

    def _rater(self, stage: str) -> Rater:
        return cast("Rater", cast("Any", self.pipeline.planned[stage].stage).from_)

    def labels(self, name: str, draw: int = 0) -> Path:
        """Return the run of collect of a source: a stage of the pipeline, or that of people with another rater.

        Each draw has other people of the same pool, and other errors.
        """
        if name in self.pipeline.planned and not draw:
            return self.pipeline.run(name)
        by_rules = ByRules(calibration=0.06)
        raters: Mapping[str, Rater] = {
            "people": self.people,
            "judge": self.judge,
            "biased": replace(self.judge, bias=BIAS),
            "one-order": replace(self.judge, bias=BIAS, orders=((0, 1),)),
            "hybrid-judge": Hybrid(judge=cast("Any", self.judge), people=self.people, route=by_rules),
            "hybrid-itself": Hybrid(judge=cast("Any", self._rater("itself")), people=self.people, route=by_rules),
        }
        return self.pipeline.run_copy("people", f"labels-{name}-{draw}", self.pipeline.seed + FIT_SEEDS * draw, from_=raters[name])

    def reward(self, name: str, fit: int = 0) -> Path:
        """Return a reward model of a source: the pipeline's, or one with the same settings. Each fit has other labels, order and heads."""
        if not fit and f"reward-{name}" in self.pipeline.planned:
            return self.pipeline.run(f"reward-{name}")
        preferences = str(self.labels(name, fit) / "preferences.jsonl")
        seed = self.pipeline.seed + FIT_SEEDS * fit
        return self.pipeline.run_copy("reward-people", f"reward-by-{name}-{fit}", seed, preferences=preferences)

    def mixed(self, judge: str, share: float) -> Path:
        """Return labels of some prompts where people answer a share of the questions, those of which the judge is least sure."""
        rater = self.judge if judge == "judge" else self._rater(judge)
        mix = Hybrid(judge=cast("Any", rater), people=self.people, route=ByShare(people=share))
        return self.pipeline.run_copy("people", f"mix-{judge}-{share:g}", self.pipeline.seed, from_=mix, limit=MIX_PAIRS)


def labels(sources: Sources) -> Figures:
    """Return how many labels are right by source, how many people gave, and what a bias for the first side does."""
    names = ("people", "judge", "biased", "one-order", "hybrid-judge", "hybrid-itself", "itself", "guests", "hybrid")
    runs = {name: sources.labels(name) for name in names}
    figures = {f"labels right, {name}": known(label_accuracy(str(path), GOLD)) for name, path in runs.items()}
    total = people_labels(runs["people"])
    for name in ("hybrid", "hybrid-judge", "hybrid-itself"):
        figures[f"labels of people, {name}"] = plain(people_labels(runs[name]) / total)
    for name in ("one-order", "biased"):
        figures[f"share of labels for the first side, {name}"] = plain(first_sides(runs[name]))
    return figures


def rewards(sources: Sources) -> Figures:
    """Return how many test pairs one reward model of each further source has right."""
    names = ("itself", "hybrid", "hybrid-judge")
    return {f"reward model right, {name}, one fit": known(reward_accuracy(str(sources.reward(name)))) for name in names}


def fits(sources: Sources) -> Figures:
    """Return how many test pairs reward models have right: the mean over fits, the lowest and the highest fit, and the differences."""
    names = ("people", "judge", "hybrid-judge")
    figures = {}
    for name in names:
        right = [known(label_accuracy(str(sources.labels(name, fit)), GOLD)).value for fit in range(sources.fits)]
        figures[f"labels right, {name}, mean over {len(right)} draws (lowest to highest)"] = spread(right, 0)
    read = {name: Fits.read([sources.reward(name, fit) for fit in range(sources.fits)]) for name in names}
    for part in ("all", *dict.fromkeys(read["people"].dimension.tolist())):
        own = {name: read[name] if part == "all" else read[name].of(part) for name in names}
        for name, one in own.items():
            title = f"{part}: reward model right, {name}, mean over {sources.fits} fits (lowest to highest)"
            figures[title] = spread(one.accuracies.tolist(), len(one.prompt))
        for name in names[1:]:
            figures[f"{part}: {name} less people (95 % over labels, fits and prompts)"] = fit_difference(own[name], own["people"])
        for name, one in own.items():
            figures[f"{part}: mean of the scores of all fits right, {name}"] = plain(one.together)
    shares = [
        people_labels(sources.labels("hybrid-judge", fit)) / people_labels(sources.labels("people", fit)) for fit in range(sources.fits)
    ]
    figures["labels of people, hybrid-judge, mean over draws (lowest to highest)"] = spread(shares, 0)
    return figures


def gains(sources: Sources) -> Figures:
    """Return the gold gained over SFT by DPO on labels of people and of the model itself, their KL, and the share of the former gained."""
    names = ("sft", "rlhf", "rlaif")
    for name in names:
        sources.pipeline.run(f"eval-{name}")
    run = sources.pipeline.figures()
    figures = {f"gold gained, {name}": run.gain(name) for name in names[1:]}
    figures |= {f"KL in nats, {name}": plain(float(run.summary(f"eval-{name}")["means"]["kl"]["mean"])) for name in names[1:]}
    gained = np.stack([run.column(name) - run.column("sft") for name in names[1:]], axis=1)
    figures["gain of rlaif / gain of rlhf"] = bootstrap(gained, lambda rows: float(rows[:, 1].mean() / rows[:, 0].mean()), seed=0)
    return figures


def mixed_gain(sources: Sources) -> Figures:
    """Return the gold gained over SFT by DPO on labels of which people gave half."""
    for name in ("sft", "mixed"):
        sources.pipeline.run(f"eval-{name}")
    return {"gold gained, mixed": sources.pipeline.figures().gain("mixed")}


def mix(sources: Sources) -> Figures:
    """Return how many labels are right by the share of the questions that people answer."""
    return {
        f"mix with {judge}: labels right, {share:.0%} people": known(label_accuracy(str(sources.mixed(judge, share)), GOLD))
        for judge in ("judge", "itself")
        for share in MIX
    }


FIGURES: Mapping[str, Callable[[Sources], Figures]] = {
    "gains": gains,
    "fits": fits,
    "labels": labels,
    "rewards": rewards,
    "mixed": mixed_gain,
    "mix": mix,
}


def known(estimate: Estimate | None) -> Estimate:
    """Return an estimate that must be there."""
    if estimate is None:
        raise ValueError("gold sees no difference between any of the pairs")
    return estimate


def spread(values: Sequence[float], n: int) -> Estimate:
    """Return the mean of values, with their lowest and highest in the place of an interval."""
    return Estimate(statistics.fmean(values), math.nan, min(values), max(values), n)


def plain(value: float) -> Estimate:
    """Return a figure without an interval."""
    return Estimate(value, math.nan, math.nan, math.nan, 0)


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


def table(figures: Mapping[int, Figures]) -> str:
    """Return a Markdown table: a row per figure with its median, its values by seed, and their intervals where they have one."""
    seeds = list(figures)
    lines = ["| | median | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", "|---" * (len(seeds) + 2) + "|"]
    for name in figures[seeds[0]]:
        own = [figures[seed][name] for seed in seeds]
        cells = [cell(one) for one in own]
        lines.append(f"| {name} | {statistics.median(one.value for one in own):.3f} | " + " | ".join(cells) + " |")
        if " less people" in name and len(own) > 1:
            lines.append(f"| {name}, mean of these kitchens | {cell(mean_difference(own))} |" + " |" * len(own))
    return "\n".join(lines) + "\n"


def cell(one: Estimate) -> str:
    """Return a figure with its interval."""
    return f"{one.value:.3f}" if math.isnan(one.low) else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.rlaif", __doc__, [110, 111, 112])
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES), help="what to measure (default: all)")
    parser.add_argument("--fits", type=int, default=4, help="reward models for each of people, the judge with people's noise, and hybrid")
    options = parser.parse_args()
    figures: dict[int, Figures] = {}
    for seed in options.seeds:
        sources = Sources(LazyPipeline(seed, seed_root(options, seed), CONFIG), options.fits)
        try:
            figures[seed] = {name: one for part in options.figures for name, one in FIGURES[part](sources).items()}
        except PalateError as error:
            raise SystemExit(f"seed {seed}: {error}") from error
        print(table({seed: figures[seed]}), flush=True)
    if len(figures) > 1:
        print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
