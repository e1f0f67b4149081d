"""Happy endings: a small story model and a rule for a reward. `python -m benchmarks.stories --model PATH/TO/stories260K`.

PPO's clip with leave-one-out advantages, a price of KL and a budget. A story ends happily when its last two sentences hold a happy word
and none of the sad ones. Prints the share of happy endings before and after, KL, and the policy's loss on stories that the model itself
told beforehand: what it knew of stories must not be lost.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.endings import ending
from palate.core import Message, Prompt, Sampling
from palate.data.jsonl import write_rows
from palate.evaluation.intervals import proportion
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.objectives.kl import k1
from palate.samplers.local import LocalSampler
from palate.text.pack import Branch, Tree, microbatches, pack
from palate.text.spans import prompt_ids

HEROES = ("girl named Lily", "boy named Tim", "dog named Max", "cat named Tom", "bird named Sue", "bear named Ben", "fish named Bob")
LONGEST = 440
"""Tokens of a story; nine in ten end before."""
EVENTS = ("wanted to play", "lost a toy", "went to the park", "saw a big tree", "found a box", "was sad", "had a red ball", "met a friend")


def main() -> int:
    """Trains, unless that is done, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stories", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-stories"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--coef", type=float, default=0.1)
    parser.add_argument("--nats", type=float, default=9.0, help="KL a story at which training stops")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    each = itertools.product(HEROES, EVENTS)
    openings = [f"Once upon a time, there was a little {hero}. One day, {hero.split()[-1]} {event}" for hero, event in each]
    options.runs.mkdir(parents=True, exist_ok=True)
    options.model = told_to_end(options.model, options.runs / "base")
    write_rows(options.runs / "prompts.jsonl", [{"prompt": text} for k, text in enumerate(openings) if k % 4])
    out = options.runs / f"rloo-{options.seed}-{options.steps}-{options.lr:g}-{options.coef:g}-{options.nats:g}"
    settings = {
        "rewards.happy.kind": "function", "rewards.happy.function": "benchmarks.endings:ending", "iterations": options.steps,
        "prompts_per_iteration": 32, "samples_per_prompt": 4, "epochs_per_batch": 2, "minibatches": 2, "sampling.max_tokens": LONGEST,
        "shaping.missing_eos": "keep", "method.advantage": "leave_one_out", "kl.control": "budget_kl", "kl.control.nats": options.nats,
        "kl.control.price.coef": options.coef, "optimizer.lr": options.lr, "optimizer.decay": "constant",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    files = ["--model", options.model, "--prompts", str(options.runs / "prompts.jsonl"), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "palate", "online", *files, *words, "--seed", str(options.seed)], check=True)
    base, tuned = load_policy(options.model), load_policy(out / "model")
    held = [text for k, text in enumerate(openings) if k % 4 == 0]
    print("| | happy endings | 95 % | KL, nats a story | loss on the model's own stories, nats a token |\n|---|---|---|---|---|")
    own = stories(base, held, seed=1)
    for name, policy in (("before", base), ("after", tuned)):
        told = stories(policy, held, seed=2)
        share = proportion([value for _, _, value in told])
        kl = float(torch.stack([k1(now, then).sum() for now, then in zip(logps(policy, told), logps(base, told), strict=True)]).mean())
        loss = -float(torch.cat(logps(policy, own)).mean())
        print(f"| {name} | {share.value:.3f} | {share.low:.3f} to {share.high:.3f} | {kl:.2f} | {loss:.4f} |")
    return 0


def told_to_end(model: str, copy: Path) -> str:
    """A copy of the model that stops where a story ends: in its training a beginning-of-text token stood between one and the next."""
    policy = load_policy(model)
    policy.module.generation_config.eos_token_id = [policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id]
    policy.save(copy)
    return str(copy)


Story = tuple[tuple[int, ...], tuple[int, ...], float]


def stories(policy: CausalPolicy, openings: Sequence[str], seed: int, each: int = 16) -> list[Story]:
    """Prompt ids, completion ids and whether it ends happily; `each` a prompt."""
    prompts = [Prompt(str(k), (Message("text", text),)) for k, text in enumerate(openings)]
    groups = LocalSampler(policy).generate(prompts, each, Sampling(max_tokens=LONGEST), seed)
    return [
        (prompt_ids(policy.tokenizer, prompt), one.ids, ending("", one.text, ended=one.stop == "eos"))
        for prompt, group in zip(prompts, groups, strict=True)
        for one in group
    ]


def logps(policy: CausalPolicy, told: Sequence[Story]) -> list[Any]:
    """Log-probabilities of each completion's tokens, nats."""
    trees = [Tree(trunk, (Branch(ids, (True,) * len(ids)),)) for trunk, ids, _ in told]
    found: dict[int, Any] = {}
    with torch.no_grad():
        for part in microbatches(trees, 4096):
            pieces = policy.logps(pack([trees[k] for k in part])).logps.split([len(told[k][1]) for k in part])
            found |= dict(zip(part, pieces, strict=True))
    return [found[k] for k in range(len(trees))]


if __name__ == "__main__":
    sys.exit(main())
