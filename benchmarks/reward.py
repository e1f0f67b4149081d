"""A reward model on real judgments, tested on pairs it never saw: `python -m benchmarks.reward --pairs PATH [--model PATH]`.

The prompts of a file of preferences (JSON lines) are split into folds. For each fold a policy is fine-tuned on the chosen sides of the
other folds (settings of configs/hh.yaml), and reward models are trained from it on the same rows. Together the folds test every pair once.
Without `--model` each fold trains its own tokenizer and language model from scratch on the texts of its training rows.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.speed.workload import MAX_TOKENS, bpe_tokenizer
from palate import cli
from palate.core import Message
from palate.data.formats import read_preferences
from palate.data.formats.write import preference_row
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.intervals import Estimate, proportion
from palate.text.template import render

VOCABULARY = 2048
"""Tokens of the tokenizer that is trained with a model from scratch."""

VARIANTS: Mapping[str, Sequence[str]] = {
    "Bradley-Terry": (),
    "10 % taken to be random": ("--objective.random", "0.1"),
    "control: shuffled": ("--control", "shuffled"),
}


def main() -> int:
    """Run what is not done yet below `--runs`; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a pretrained model; none pretrains one per fold")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-reward"))
    parser.add_argument("--epochs", type=int, default=10, help="of pretraining")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--lr", default="5e-4")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    predictions: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for k, (train, test) in enumerate(folds(options.pairs, options.folds, options.runs)):
        steps = ["--optimizer.lr", options.lr]
        policy = options.runs / f"sft{k}"
        model = options.model or pretrained(train, options.runs / f"base{k}", options.epochs)
        palate("sft", "--model", model, "--data", train, "--demonstrations_per_step", "16", *steps, "--out", policy)
        for number, (name, words) in enumerate(VARIANTS.items()):
            out = options.runs / f"reward{k}-{number}"
            files = ["--model", policy, "--preferences", train, "--held_out", test, "--out", out]
            palate("reward", *files, "--prompts_per_step", "16", *steps, *words)
            predictions[name] += [row for _, row in read_rows(out / "predictions.jsonl")]  # type: ignore[misc]
    print(table(predictions))
    return 0


def palate(*words: object) -> None:
    """Run a stage, or skip it when it is done."""
    if cli.main([str(word) for word in words]) != 0:
        raise SystemExit(f"palate {' '.join(map(str, words))} failed")


def pretrained(pairs: Path, out: Path, epochs: int) -> Path:
    """Pretrain a language model and its tokenizer on both sides' transcripts. The architecture is that of the kitchen's model."""
    rows = read_preferences(pairs).rows
    turns = [(*row.prompt.conversation, Message("assistant", side.text)) for row in rows for side in (row.chosen, row.rejected)]
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = bpe_tokenizer([f"\n\n{turn.role.title()}: {turn.text}" for conversation in turns for turn in conversation], VOCABULARY)
    tokenizer.save_pretrained(out / "tokenizer")
    texts = [tokenizer.decode(render(tokenizer, conversation, generation_prompt=False)) for conversation in turns]
    write_rows(out / "texts.jsonl", [{"text": text} for text in texts])
    words = ["--epochs", epochs, "--architecture.max_positions", MAX_TOKENS, "--out", out / "run"]
    palate("pretrain", "--data", out / "texts.jsonl", "--tokenizer", out / "tokenizer", *words)
    return out / "run"


def folds(pairs: Path, count: int, into: Path) -> list[tuple[Path, Path]]:
    """Return files to train and to test on. A prompt is always on one side, and the folds of a file are always the same."""
    rows = read_preferences(pairs).rows
    prompts = list(dict.fromkeys(row.prompt.conversation for row in rows))
    random.Random(0).shuffle(prompts)
    fold = {prompt: k % count for k, prompt in enumerate(prompts)}
    files = []
    for k in range(count):
        train, test = into / f"train{k}.jsonl", into / f"test{k}.jsonl"
        write_rows(train, [preference_row(row) for row in rows if fold[row.prompt.conversation] != k])
        write_rows(test, [preference_row(row) for row in rows if fold[row.prompt.conversation] == k])
        files.append((train, test))
    return files


def table(predictions: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return a Markdown table of accuracy on all pairs with Wilson's interval, with the length rules."""
    first = next(iter(predictions.values()))
    rows = {name: agreement([row["chosen"] - row["rejected"] for row in part]) for name, part in predictions.items()}
    rows["rule: the longer wins"] = agreement([row["chosen_tokens"] - row["rejected_tokens"] for row in first])
    rows["rule: the shorter wins"] = agreement([row["rejected_tokens"] - row["chosen_tokens"] for row in first])
    lines = ["| | accuracy | 95 % | pairs |", "|---|---|---|---|"]
    lines += [f"| {name} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |" for name, e in rows.items()]
    return "\n".join(lines)


def agreement(differences: Sequence[float]) -> Estimate:
    """Return the share above zero; a zero counts one half."""
    return proportion([(d > 0) + 0.5 * (d == 0) for d in differences])


if __name__ == "__main__":
    sys.exit(main())
