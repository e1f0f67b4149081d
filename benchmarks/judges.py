"""What a judge's report card finds, and how often it is wrong: `python -m benchmarks.judges [--data FOLDER] [--seeds N]`."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.agreement import Estimate
from palate.agreement.judge_agreement import NOT_MEASURED
from palate.agreement.judge_habits import habits_of
from palate.data.exchange import read_exchange
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.judge_report import JudgedDimension, findings, report_on_judge
from palate.evaluation.judged_pairs import judged_pairs
from palate.evaluation.mark_calibration import fitted_marks
from palate.evaluation.marked_pairs import exchange_of_marks
from tests.support.marked_world import MarkOf, world
from tests.support.simulated_judges import Pool, answers

FLAWS = {
    "none": Pool(),
    "none, twice as sharp as a person": Pool(sharpness=2.0),
    "none, sharp, and people like length": Pool(sharpness=2.0, taste=0.2),
    "longer (0.4 per ten words)": Pool(length=0.4),
    "longer (1 per ten words)": Pool(length=1.0),
    "first (0.5)": Pool(side=0.5),
    "first (1)": Pool(side=1.0),
    "own style (1.5)": Pool(own=1.5),
    "own style (3)": Pool(own=3.0),
}


MARKS: dict[str, tuple[MarkOf, float]] = {
    "people's own quality": (lambda _rng, quality, _words: quality, 0.0),
    "the same, rounded to 1 to 5": (lambda _rng, quality, _words: float(np.clip(round(3 + quality), 1, 5)), 0.0),
    "half of them a mind of its own": (lambda rng, quality, _words: quality + float(rng.normal(0, 1.2)), 0.0),
    "words, and people like length too": (lambda _rng, _quality, words: words / 10, 0.5),
    "a coin": (lambda rng, _quality, _words: float(rng.integers(1, 6)), 0.0),
}
"""Planted judges of single completions, and people's nats for ten words more. The first gives a mark per nat of what people see."""


def main() -> int:
    """Print the simulated judges, and real ones where `--data` has them; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judges", description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder with llmfao and mt_bench_human")
    parser.add_argument("--seeds", type=int, default=200, help="simulated cards for each flaw")
    parser.add_argument("--pairs", type=int, default=300, help="pairs on each card, with two votes of people")
    options = parser.parse_args()
    if options.data is not None:
        print(f"| judge | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
        for name, one in real_judges(options.data).items():
            print(f"| {name} | {' | '.join(row(one))} |", flush=True)
            for line in findings(one):
                print(f"  {line}")
    print(f"\n| planted in {options.pairs} pairs | side | length | own | any, of {options.seeds} |\n|---|---|---|---|---|")
    for name, pool in FLAWS.items():
        found: Counter[str] = Counter()
        for seed in range(options.seeds):
            habits = habits_of(answers(replace(pool, pairs=options.pairs), seed), np.random.default_rng(seed))
            found.update([*habits.found, *(["any"] if habits.found else [])])
        print(
            f"| {name} | " + " | ".join(f"{found[what] / options.seeds:.1%}" for what in ("side", "length", "own", "any")) + " |",
            flush=True,
        )
    print(f"\n| marks follow | {' | '.join(MARK_COLUMNS)} |\n|{'---|' * (len(MARK_COLUMNS) + 1)}")
    for name, (mark_of, taste) in MARKS.items():
        for prompts in (20, 100):
            print(f"| {name} | {' | '.join(mark_row(mark_of, taste, prompts, options.seeds))} |", flush=True)
    return 0


MARK_COLUMNS = (
    "pairs",
    "calibrated",
    "nats per mark",
    "interval holds 1",
    "differences",
    "as `collect`",
    "length rule",
    "cannot be told from length",
)


def mark_row(mark_of: MarkOf, taste: float, prompts: int, seeds: int) -> list[str]:
    """Return how often marks are calibrated, with what scale, and the mean log-loss of held-out pairs by three predictions."""
    found = []
    for seed in range(seeds):
        marks, people, _ = world(mark_of, prompts=prompts, taste=taste, seed=seed)
        table = judged_pairs(exchange_of_marks(marks), people, marks=marks).dimensions["overall"]
        fitted = fitted_marks(table, np.random.default_rng(seed))
        found += [] if isinstance(fitted, str) else [fitted]
    slopes = [one.slope.value for one in found]
    losses = [[one.calibrated, one.implied, one.longer] for one in found]
    means = [np.mean([one.log_loss.value for one in column if one is not None]) for column in zip(*losses, strict=True)]
    spread = f"{np.median(slopes):.2f} [{np.quantile(slopes, 0.05):.2f}, {np.quantile(slopes, 0.95):.2f}]" if found else "-"
    shares = (
        np.mean([one.slope.low <= 1 <= one.slope.high for one in found]) if found else 0,
        np.mean([one.over_longer is not None and not one.over_longer.low > 0 for one in found]) if found else 0,
    )
    holds, no_better = (f"{share:.0%}" if found else "-" for share in shares)
    predictions = [f"{mean:.3f}" for mean in means] if found else ["-"] * 3
    return [str(3 * prompts), f"{len(found) / seeds:.0%}", spread, holds, *predictions, no_better]


COLUMNS = (
    "pairs", "with ties", "without", "people, without", "constant", "longer", "flips", "side", "people's side",
    "ten words", "people's", "ten words beyond", "own style beyond", "temperature", "calibration error before", "after",
)  # fmt: skip


def row(one: JudgedDimension) -> list[str]:
    """Return the figures of one judge."""
    agreement, habits, fitted = one.agreement, one.habits, one.fitted
    calibration, flips = ["-"] * 3, NOT_MEASURED if habits.flips is None else habits.flips.share
    if fitted is not None:
        calibration = [f"{fitted.calibration.temperature:.2f}", _number(fitted.before.ece), _number(fitted.after.ece)]
    return [
        str(agreement.pairs), _number(agreement.judge.with_ties), _number(agreement.judge.decided), _number(agreement.people.decided),
        _number(agreement.constant.decided), _number(agreement.longer.decided), _number(flips),
        _number(habits.side.judge), _number(habits.side.people), _number(habits.length.judge), _number(habits.length.people),
        _number(habits.length.beyond), _number(habits.own.beyond), *calibration,
    ]  # fmt: skip


def _number(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" if one.n else "-"


def real_judges(data: Path) -> dict[str, JudgedDimension]:
    """Return the cards of GPT-4 on MT-bench, and of GPT-3.5 and GPT-4 on the crowd's pairs of LLMFAO."""
    bench = data / "mt_bench_human"
    reports = {"GPT-4, MT-bench": report_on_judge(read_exchange(bench / "gpt4_pair.jsonl"), read_exchange(bench / "human.jsonl"))}
    with tempfile.TemporaryDirectory() as folder:
        crowd = _llmfao(data / "llmfao", "crowd-comparisons.csv", Path(folder))
        for name, file, own in (("GPT-3.5", "gpt3", "GPT 3.5 Turbo"), ("GPT-4", "gpt4", "GPT 4")):
            judge = _llmfao(data / "llmfao", f"{file}-crowd-comparisons.csv", Path(folder))
            reports[f"{name}, LLMFAO"] = report_on_judge(read_exchange(judge), read_exchange(crowd), own=[own])
    return {name: report.dimensions[0] for name, report in reports.items()}


def _llmfao(source: Path, name: str, folder: Path) -> Path:
    """Write votes of LLMFAO as a file of Palate's own; the left answer was shown first. Source: LLMFAO, CC BY 4.0."""
    texts = {str(row["id"]): row for _, row in read_rows(source / "pairs-crowd.jsonl")}
    rows: list[dict[str, object]] = [{"palate": "exchange", "version": 3, "name": ""}]
    tiers = {"left": [[0], [1]], "right": [[1], [0]], "tie": [[0, 1]]}
    with (source / name).open(encoding="utf-8", newline="") as file:
        votes = list(csv.DictReader(file))
    raters = {vote.get("worker", name.partition("-")[0]): "person" if "worker" in vote else "model" for vote in votes}
    rows += [{"rater": {"id": f"rater-{rater}", "kind": kind}} for rater, kind in raters.items()]
    for vote in {vote["id"]: vote for vote in votes}.values():
        text = texts[vote["id"]]
        sides = [{"text": text[f"result_{side}"], "policy": vote[place]} for side, place in (("x", "left"), ("y", "right"))]
        rows.append({"item": {"id": vote["id"], "conversation": [{"role": "user", "text": text["text"]}], "candidates": sides}})
    for vote in votes:
        rater = f"rater-{vote.get('worker', name.partition('-')[0])}"
        rows.append({"judgment": {"item": vote["id"], "rater": rater, "ranking": tiers[vote["winner"]], "order": [0, 1]}})
    target = folder / f"{name}.jsonl"
    write_rows(target, json.loads(json.dumps(rows)))
    return target


if __name__ == "__main__":
    sys.exit(main())
