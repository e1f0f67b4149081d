"""Written rules in the kitchen, for several seeds: `python -m benchmarks.rules --seeds 128 129 136`.

It runs configs/rules.yaml, one folder per seed, and prints four tables: how well one classifier reads each rule, under its question and
under wordings that it has not learned; how well both classifiers read what the tuned policies write; how often each model breaks each
rule, for guests who tempt the cook and for others; and what the rules cost. Breaches are counted by programs that know. The last column
has the median and the spread over the seeds where the figure is known.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.kitchen import SeedRun, seed_runs, seeds_parser
from palate.config.artifacts import model_at
from palate.core import Completion, Message, Prompt
from palate.data.jsonl import read_rows
from palate.data.rule_file import RuleFile, WrittenRule
from palate.evaluation.intervals import Estimate, paired_difference, share
from palate.evaluation.ranking_quality import auc
from palate.kitchen.dataset import RULES
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_classifier import RuleClassifier

MODELS = {
    "SFT": "sft",
    "RL without rules": "plain",
    "RL with rules, first round": "ruled-first",
    "RL with rules": "ruled",
}
CLASSIFIERS = {"first classifier": "classifier-first", "second classifier": "classifier"}
POLICIES = {"policy of the first round": "ruled-first", "last policy": "ruled"}
GUESTS = {"tempting": "probe", "ordinary": "eval"}
AREAS = {"question": "auc_program", "held-out wordings": "auc_program_held_out"}
Figure = Callable[[SeedRun], Estimate]


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed, print the tables, and return exit status 0."""
    options = seeds_parser("benchmarks.rules", __doc__, [128, 129, 136], "configs/rules.yaml").parse_args()
    runs = seed_runs(options)
    sys.stdout.write("\n".join(table(runs) for table in (classifier_table, on_policy_table, breach_table, cost_table)))
    return 0


def classifier_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the areas of each classifier against the rules' programs, each on its own test.

    The first one is tested on replies of SFT, the second on replies of the policy that was trained on the first.
    """
    rules = list(runs[0].summary("classifier")["held_out"])
    figures: dict[str, Figure] = {
        f"{rule}, {classifier}, {name}": lambda run, s=stage, r=rule, f=field: _estimate(run.summary(s)["held_out"][r][f])  # type: ignore[misc]
        for classifier, stage in CLASSIFIERS.items()
        for rule in rules
        for name, field in AREAS.items()
    }
    return _table("area under the curve", figures, runs, ".3f")


def on_policy_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the area of both classifiers on replies of the tuned policies, under the question, for all guests."""
    rules = RuleFile.read(RULES).rules
    areas = {run.seed: on_policy_areas(run, rules) for run in runs}
    figures: dict[str, Figure] = {
        f"{rule.id}, {classifier}, {policy}": lambda run, key=(rule.id, classifier, policy): areas[run.seed][key]  # type: ignore[misc]
        for rule in rules
        for policy in POLICIES
        for classifier in CLASSIFIERS
    }
    return _table("area on replies of the policy", figures, runs, ".3f")


def on_policy_areas(run: SeedRun, rules: Sequence[WrittenRule]) -> dict[tuple[str, str, str], Estimate]:
    """Return the areas by rule, classifier and policy; NaN where no reply breaks the rule.

    There is one reply per prompt. Replies that a classifier cannot read are left out.
    """
    areas: dict[tuple[str, str, str], Estimate] = {}
    for classifier, stage in CLASSIFIERS.items():
        path = str(run.stages[stage])
        reader = RuleClassifier(LearnedReward.load(model_at(path)), path)
        for policy, model in POLICIES.items():
            rows: list[Any] = [
                row for guests in GUESTS.values() for _, row in read_rows(run.stages[f"{guests}-{model}"] / "completions.jsonl")
            ]
            items = [(Prompt(row["id"], (Message("user", row["prompt"]),)), Completion(row["text"])) for row in rows]
            logits = reader.logits(items, [[rule.question for rule in rules]] * len(items))
            for k, rule in enumerate(rules):
                read = [(own[k], row["rules"][rule.id] > 0.5) for row, own in zip(rows, logits, strict=True) if not isinstance(own[k], str)]
                scores, is_broken = ([pair[part] for pair in read] for part in (0, 1))
                areas[rule.id, classifier, policy] = auc(scores, is_broken, range(len(read)))
    return areas


def breach_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the share of replies that break each rule, and of those that break any of them."""
    rules = list(runs[0].summary("probe-sft")["rules"])
    figures: dict[str, Figure] = {}
    for guests, stage in GUESTS.items():
        for name, model in MODELS.items():
            figures[f"{guests} guests, any rule, {name}"] = lambda run, s=f"{stage}-{model}": any_broken(run, s)  # type: ignore[misc]
        for rule in rules:
            for name, model in MODELS.items():
                figures[f"{guests} guests, {rule}, {name}"] = lambda run, s=f"{stage}-{model}", r=rule: _estimate(  # type: ignore[misc]
                    run.summary(s)["rules"][r]["broken"]
                )
    return _table("share of replies with a breach", figures, runs, ".3f")


def cost_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of what the rules cost: gold on ordinary guests against the same training without rules."""
    figures: dict[str, Figure] = {
        f"{dimension}, RL with rules less RL without": lambda run, d=dimension: run.gain("ruled", "plain", d)  # type: ignore[misc]
        for dimension in ("gold", "helpful", "honest", "harmless")
    }
    figures["helpful, first round less RL without"] = lambda run: run.gain("ruled-first", "plain", "helpful")
    figures["helpful, RL with rules less SFT"] = lambda run: run.gain("ruled", "sft", "helpful")
    figures["refusals of ordinary guests, RL with rules less RL without"] = lambda run: paired_difference(
        *(_refusals(run, name) for name in ("ruled", "plain"))
    )
    return _table("cost", figures, runs, "+.3f")


def any_broken(run: SeedRun, stage: str) -> Estimate:
    """Return the share of a model's replies that break any rule."""
    rows: list[Any] = [row for _, row in read_rows(run.stages[stage] / "completions.jsonl")]
    return share(sum(any(value > 0.5 for value in row["rules"].values()) for row in rows), len(rows))


def _refusals(run: SeedRun, model: str) -> list[float]:
    """Return whether each ordinary guest was refused without need, in the prompts' order."""
    rows: list[Any] = [row for _, row in read_rows(run.stages[f"eval-{model}"] / "completions.jsonl")]
    return [row["rules"]["refusal"] for row in rows]


def _estimate(plain: Mapping[str, float | None] | None) -> Estimate:
    """Return an estimate as a summary has it; NaN where nothing is known."""
    values = {name: math.nan if value is None else value for name, value in (plain or {}).items()}
    value, se, low, high = (values.get(name, math.nan) for name in ("value", "se", "low", "high"))
    return Estimate(value, se, low, high, int(values.get("n", 0)))


def _table(title: str, figures: Mapping[str, Figure], runs: Sequence[SeedRun], form: str) -> str:
    columns = [title, *(f"seed {run.seed}" for run in runs), "median (spread)"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, figure in figures.items():
        estimates = [figure(run) for run in runs]
        values = [one.value for one in estimates if not math.isnan(one.value)]
        whole = f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})" if values else "-"
        lines.append(f"| {name} | {' | '.join(_cell(one, form) for one in estimates)} | {whole} |")
    return "\n".join(lines) + "\n"


def _cell(estimate: Estimate, form: str) -> str:
    """Return an estimate with its interval; "-" where it is not known, as where no reply breaks the rule."""
    if math.isnan(estimate.value):
        return "-"
    interval = "no interval" if math.isnan(estimate.low) else f"{estimate.low:{form}} to {estimate.high:{form}}"
    return f"{estimate.value:{form}} ({interval})"


if __name__ == "__main__":
    sys.exit(main())
