"""Constitutional AI in the kitchen, for several seeds: `python -m benchmarks.constitution --seeds 107 108 109`.

It runs configs/constitution.yaml, one folder per seed, and prints gold by dimension: of the originals, of the text after each round, and
of the tuned models on held-out prompts against SFT, and the full path's against RLHF. Then it prints how often the labels behind the two
are right. Every figure has its 95 % interval; the last column has the median and the spread.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence

from benchmarks.kitchen import SeedRun, seed_runs, seeds_parser
from palate.config.functions import load_gold
from palate.evaluation.intervals import Estimate
from palate.evaluation.label_sources import label_accuracy
from palate.evaluation.model_costs import model_cost
from palate.evaluation.revision_figures import revision_rounds

DIMENSIONS = ("gold", "helpful", "honest", "harmless")
MODELS = {"SFT on revisions": "cai-sft", "DPO on revisions": "cai-dpo", "full path (PPO)": "cai-ppo", "RLHF (PPO)": "ppo"}
LABELS = {"full path": "cai-judged", "RLHF": "judged"}
EVALS = ("must_refuse", "must_help", "jailbreak", "facts", "sums")
Figure = Callable[[SeedRun], Estimate]


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed, print the tables, and return exit status 0."""
    options = seeds_parser("benchmarks.constitution", __doc__, [107, 108, 109], "configs/constitution.yaml").parse_args()
    runs = seed_runs(options)
    tables = (revision_table, model_table, path_table, label_table, cost_table)
    sys.stdout.write("\n".join(table(runs) for table in tables))
    return 0


def revision_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the gold of drafts and revisions: a row per round and dimension, and the gain of the last round."""
    rounds = {run.seed: revision_rounds(str(run.stages["revisions"])) for run in runs}
    count = len(next(iter(rounds.values())).gold)
    names = ["originals", *(f"after round {number}" for number in range(1, count))]
    figures: dict[str, Figure] = {}
    for dimension in DIMENSIONS:
        for number, name in enumerate(names):
            figures[f"{dimension}, {name}"] = lambda run, d=dimension, k=number: rounds[run.seed].gold[k][d]  # type: ignore[misc]
        figures[f"{dimension}, **gain**"] = lambda run, d=dimension: rounds[run.seed].gains[d]  # type: ignore[misc]
    return _table("revisions of red-team prompts", figures, runs)


def model_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the models' gain over SFT on held-out prompts, paired by prompt."""
    figures: dict[str, Figure] = {
        f"{dimension}, {name}": lambda run, m=model, d=dimension: run.gain(m, "sft", d)  # type: ignore[misc]
        for dimension in DIMENSIONS
        for name, model in MODELS.items()
    }
    return _table("gain over SFT, held-out prompts", figures, runs)


def path_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the full path's gain over RLHF on held-out prompts, paired by prompt."""
    figures: dict[str, Figure] = {
        dimension: lambda run, d=dimension: run.gain("cai-ppo", "ppo", d)  # type: ignore[misc]
        for dimension in DIMENSIONS
    }
    return _table("gain of the full path over RLHF, held-out prompts", figures, runs)


def label_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the share of labels on the side of the gold, by dimension: of the full path and of RLHF."""
    gold = load_gold("palate.kitchen:judge")
    figures: dict[str, Figure] = {
        f"{dimension}, {name}": lambda run, s=stage, d=dimension: label_accuracy(str(run.stages[s]), gold, d)  # type: ignore[misc]
        for dimension in DIMENSIONS[1:]
        for name, stage in LABELS.items()
    }
    return _table("labels that are right", figures, runs)


def cost_table(runs: Sequence[SeedRun]) -> str:
    """Return a Markdown table of the labels and tokens of each model, and its grades on evals, by seed."""
    lines = [_header("cost and evals", runs, last=False)]
    for name, model in {"SFT": "sft", **MODELS}.items():
        costs = [model_cost(name, str(run.stages[f"eval-{model}"])) for run in runs]
        labels = [f"{cost.human_labels:,} / {cost.tokens_read + cost.tokens_written:,}" for cost in costs]
        lines.append(f"| {name}: labels of people / tokens of models | " + " | ".join(labels) + " |")
        grades = {one: [f"{run.grade(model, one):.3f}" for run in runs] for one in EVALS}
        lines += [f"| {name}: {one} | {' | '.join(of_seeds)} |" for one, of_seeds in grades.items()]
    return "\n".join(lines) + "\n"


def _table(title: str, figures: dict[str, Figure], runs: Sequence[SeedRun]) -> str:
    lines = [_header(title, runs)]
    for name, figure in figures.items():
        estimates = [figure(run) for run in runs]
        values = [estimate.value for estimate in estimates]
        form = "+.3f" if "gain" in f"{title}{name}" else ".3f"
        cells = [f"{each.value:{form}} ({each.low:{form}} to {each.high:{form}})" for each in estimates]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}}) |"
        )
    return "\n".join(lines) + "\n"


def _header(title: str, runs: Sequence[SeedRun], *, last: bool = True) -> str:
    columns = [title, *(f"seed {run.seed}" for run in runs), *(["median (spread)"] if last else [])]
    return "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|"


if __name__ == "__main__":
    sys.exit(main())
