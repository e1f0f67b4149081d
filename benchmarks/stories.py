"""Happy endings: a small story model and a rule for a reward. `python -m benchmarks.stories --model PATH/TO/stories260K`.

Training uses PPO's clip with leave-one-out advantages, a KL penalty and a budget of KL. A story ends happily when its last two sentences
have a happy word and no sad one. The table has the share of happy endings before and after, the KL, and the policy's loss on stories that
the model wrote before training, which must not rise.
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
from palate.text.pack import Branch, Tree, cut_by_tokens, pack
from palate.text.spans import prompt_ids

HEROES = ("girl named Lily", "boy named Tim", "dog named Max", "cat named Tom", "bird named Sue", "bear named Ben", "fish named Bob")
MAX_TOKENS = 440
"""Tokens of a story at most. Nine in ten are shorter."""
EVENTS = ("wanted to play", "lost a toy", "went to the park", "saw a big tree", "found a box", "was sad", "had a red ball", "met a friend")


def main() -> int:
    """Train unless that is done, print a table, and return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stories", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-stories"))
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--coef", type=float, default=0.1)
    parser.add_argument("--nats", type=float, default=9.0, help="KL per story at which training stops")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    each = itertools.product(HEROES, EVENTS)
    openings = [f"Once upon a time, there was a little {hero}. One day, {hero.split()[-1]} {event}" for hero, event in each]
    options.runs.mkdir(parents=True, exist_ok=True)
    options.model = with_story_end(options.model, options.runs / "base")
    write_rows(options.runs / "prompts.jsonl", [{"prompt": text} for k, text in enumerate(openings) if k % 4])
    out = options.runs / f"rloo-{options.seed}-{options.iterations}-{options.lr:g}-{options.coef:g}-{options.nats:g}"
    settings = {
        "rewards.happy.kind": "function", "rewards.happy.function": "benchmarks.endings:ending", "iterations": options.iterations,
        "prompts_per_iteration": 32, "samples_per_prompt": 4, "epochs_per_batch": 2, "minibatches": 2, "sampling.max_tokens": MAX_TOKENS,
        "shaping.missing_eos": "keep", "method.advantage": "leave_one_out", "kl.control": "budget_kl", "kl.control.nats": options.nats,
        "kl.control.price.coef": options.coef, "optimizer.lr": options.lr, "optimizer.decay": "constant",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    files = ["--model", options.model, "--prompts", str(options.runs / "prompts.jsonl"), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "palate", "online", *files, *words, "--seed", str(options.seed)], check=True)
    base, tuned = load_policy(options.model), load_policy(out / "model")
    held_out = [text for k, text in enumerate(openings) if k % 4 == 0]
    print("| | happy endings | 95 % | KL, nats per story | loss on the model's own stories, nats per token |\n|---|---|---|---|---|")
    own = stories(base, held_out, seed=1)
    for name, policy in (("before", base), ("after", tuned)):
        drawn = stories(policy, held_out, seed=2)
        share = proportion([value for _, _, value in drawn])
        pairs = zip(logps(policy, drawn), logps(base, drawn), strict=True)
        kl = float(torch.stack([k1(policy_logps, base_logps).sum() for policy_logps, base_logps in pairs]).mean())
        loss = -float(torch.cat(logps(policy, own)).mean())
        print(f"| {name} | {share.value:.3f} | {share.low:.3f} to {share.high:.3f} | {kl:.2f} | {loss:.4f} |")
    return 0


def with_story_end(model: str, copy: Path) -> str:
    """Save a copy of the model that stops where a story ends. In its training a beginning-of-text token stood between stories."""
    policy = load_policy(model)
    policy.module.generation_config.eos_token_id = [policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id]
    policy.save(copy)
    return str(copy)


Story = tuple[tuple[int, ...], tuple[int, ...], float]


def stories(policy: CausalPolicy, openings: Sequence[str], seed: int, each: int = 16) -> list[Story]:
    """Sample `each` stories per opening: prompt ids, completion ids, and whether the story ends happily."""
    prompts = [Prompt(str(k), (Message("text", text),)) for k, text in enumerate(openings)]
    groups = LocalSampler(policy).generate(prompts, each, Sampling(max_tokens=MAX_TOKENS), seed)
    return [
        (prompt_ids(policy.tokenizer, prompt), one.ids, ending("", one.text, ended=one.stop == "eos"))
        for prompt, group in zip(prompts, groups, strict=True)
        for one in group
    ]


def logps(policy: CausalPolicy, drawn: Sequence[Story]) -> list[Any]:
    """Return the log-probabilities of each completion's tokens, in nats."""
    trees = [Tree(trunk, (Branch(ids, (True,) * len(ids)),)) for trunk, ids, _ in drawn]
    by_number: dict[int, Any] = {}
    with torch.no_grad():
        for part in cut_by_tokens(trees, 4096):
            pieces = torch.split(policy.logps(pack([trees[k] for k in part])).logps, [len(drawn[k][1]) for k in part])
            by_number |= dict(zip(part, pieces, strict=True))
    return [by_number[k] for k in range(len(trees))]


if __name__ == "__main__":
    sys.exit(main())
