"""A judge who marks made-up completions, and people who compare them: what people see in each is known in nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from palate.core import Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote
from palate.data.marks import Mark

JUDGE = "org/judge-7b/helpful-pointwise@1"

MarkOf = Callable[[np.random.Generator, float, int], float]
"""A judge's mark of a completion, from what people see in it (nats) and its words."""


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def world(
    mark_of: MarkOf, prompts: int = 100, completions: int = 3, taste: float = 0.0, seed: int = 0
) -> tuple[list[Mark], Exchange, dict[tuple[str, str], float]]:
    """A judge's marks, two people's votes on all pairs of each prompt, and what people see in each completion."""
    rng = np.random.default_rng(seed)
    marks, items, votes, worth = [], [], [], {}
    for k in range(prompts):
        prompt, texts = (Message("user", f"question {k}"),), []
        for j in range(completions):
            words = int(rng.integers(5, 60))
            quality = float(rng.normal(0, 1.2)) + taste * words / 10
            texts.append(f"{'word ' * (words - 1)}{k}-{j}")
            worth[prompt[0].text, texts[-1]] = quality
            value = mark_of(rng, quality, words)
            marks.append(Mark(prompt, texts[-1], JUDGE, value, shares=((value, 1.0),), votes=1))  # as a judge writes it
        for one in range(completions):
            for other in range(one):
                items.append(ExchangeItem(f"{k}/{one}-{other}", prompt, (Candidate(texts[one]), Candidate(texts[other]))))
                gap = worth[prompt[0].text, texts[one]] - worth[prompt[0].text, texts[other]]
                for who in ("ann", "bob"):
                    wins = rng.random() < sigmoid(gap)
                    votes.append(Vote(Judgment(items[-1].id, who, ((0,), (1,)) if wins else ((1,), (0,)))))
    return marks, Exchange(tuple(items), tuple(votes), (RaterInfo("ann"), RaterInfo("bob"))), worth
