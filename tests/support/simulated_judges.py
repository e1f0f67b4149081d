"""A judge and people who judge the same made-up pairs, with flaws of known size: to see whether a report card finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.agreement.judge_answers import JudgeAnswers
from palate.core import Comparison, Completion, Judgment, Message, Prompt

JUDGE = "org/judge-7b/pairwise@1"
POLICIES = ("judge-7b", "b", "c", "d", "e", "f")


@dataclass(frozen=True)
class Pool:
    """What is simulated: log-odds of the judge's flaws, and how people vote.

    Attributes:
        pairs: number of pairs, each of its own prompt.
        side: the judge's log-odds for what is shown first.
        length: its log-odds for ten words more, beyond the quality that people see too.
        own: its log-odds for completions of its own model.
        sharpness: how much more sharply than one person it sees quality.
        overconfidence: its log-odds are given as so many times what they are.
        taste: log-odds of quality, for everybody, of ten words more.
        votes: people per pair.
        ties: share of people's votes that are ties.
        is_soft: whether the judge gives probabilities.
    """

    pairs: int = 300
    side: float = 0.0
    length: float = 0.0
    own: float = 0.0
    sharpness: float = 1.0
    overconfidence: float = 1.0
    taste: float = 0.1
    votes: int = 2
    ties: float = 0.1
    is_soft: bool = True


def judged(pool: Pool, seed: int) -> tuple[list[Comparison], list[Judgment], list[Judgment]]:
    """Return comparisons, the judge's judgments in both orders with probabilities, and people's votes."""
    rng = np.random.default_rng(seed)
    strength = np.linspace(-1, 1, len(POLICIES))[[4, 0, 1, 2, 3, 5]]
    comparisons, judge, people = [], [], []
    for k in range(pool.pairs):
        one, other = rng.choice(len(POLICIES), 2, replace=False)
        lengths = rng.integers(5, 80, 2)
        more = (lengths[0] - lengths[1]) / 10
        quality = strength[one] - strength[other] + rng.normal(0, 1) + pool.taste * more
        completions = tuple(Completion("word " * n + str(p), policy=POLICIES[p]) for n, p in zip(lengths - 1, (one, other), strict=True))
        comparisons.append(Comparison(f"p{k}/0-1", Prompt(f"p{k}", (Message("user", f"question {k}"),)), completions))
        for order in ((0, 1), (1, 0)):
            mine = float(one == 0) - float(other == 0)
            logit = pool.sharpness * quality + pool.length * more + pool.own * mine + pool.side * (1 - 2 * order[0])
            # The judge's mind is made up by chance once per pair; its probability is that of a judge who sees only this much.
            shown = (1 - 2 * order[0]) * logit
            says = shown + rng.logistic() * 0.3
            probability = 1 / (1 + np.exp(-pool.overconfidence * says))
            ranking = ((0,), (1,)) if says > 0 else ((1,), (0,))
            judge.append(Judgment(f"p{k}/0-1", JUDGE, ranking, order=order, probability=float(probability) if pool.is_soft else None))
        for who in range(pool.votes):
            order = (0, 1) if rng.random() < 0.5 else (1, 0)
            wins = rng.random() < 1 / (1 + np.exp(-quality))
            place = order.index(0 if wins else 1)
            ranking = ((0, 1),) if rng.random() < pool.ties else ((place,), (1 - place,))
            people.append(Judgment(f"p{k}/0-1", f"person-{(k + 7 * who) % 12}", ranking, order=order))
    return comparisons, judge, people


def answers(pool: Pool, seed: int) -> JudgeAnswers:
    """Return the answers of such a judge and such people."""
    comparisons, judge, people = judged(pool, seed)
    prompts = {comparison.id: comparison.prompt.id for comparison in comparisons}
    return JudgeAnswers.of_judgments(judge, people, comparisons, prompts, lambda policy: policy == POLICIES[0])
