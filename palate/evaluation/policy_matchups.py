"""Which answers of which policies meet, and what raters and scores say about them, as votes."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from palate.agreement.estimates import Floats
from palate.agreement.win_rates import PolicyVotes
from palate.core import Comparison, Completion, Judgment
from palate.evaluation.policy_answers import AnsweredPrompt
from palate.raters.answer_shares import answers_by_rater, rater_share, vote_of
from palate.raters.people import question_of, texts_of
from palate.raters.rater import Ask

EQUAL = 1e-6
"""Scores that differ by less than this part of their size are a tie: a batch of another width moves the last digits of a score."""


@dataclass(frozen=True, slots=True)
class Matchup:
    """Two answers that meet.

    Attributes:
        pair: its number among all matchups.
        prompt: number of the prompt.
        one: number of the first policy.
        other: number of the second policy, the larger one.
        completion: number of the answer among those of its policy to the prompt.
        comparison: both answers, the first policy's first. Its id names neither policy.
    """

    pair: int
    prompt: int
    one: int
    other: int
    completion: int
    comparison: Comparison

    @property
    def completions(self) -> tuple[Completion, Completion]:
        """Both answers."""
        one, other = self.comparison.completions
        return one, other

    def plain_verdict(self) -> float | None:
        """Return the verdict that nobody has to be asked for: a tie of equal answers, a win over an empty one; None for others."""
        return known_verdict(self.comparison)


def known_verdict(comparison: Comparison) -> float | None:
    """Return the verdict on a pair that nobody has to be asked for: a tie of equal answers, a win over an empty one; None for others."""
    one, other = texts_of(comparison)
    if one == other:
        return 0.5
    empty = [not text.strip() and not calls for text, calls in (one, other)]
    return 0.5 if all(empty) else float(empty[1]) if any(empty) else None


def all_matchups(answered: Sequence[AnsweredPrompt]) -> list[Matchup]:
    """Return every pair of policies on every prompt: the first completion of the one meets the first of the other, and so on."""
    found: list[Matchup] = []
    for number, one in enumerate(answered):
        for first, second in itertools.combinations(range(len(one.answers)), 2):
            for k, sides in enumerate(zip(one.answers[first], one.answers[second], strict=True)):
                comparison = Comparison(f"{one.prompt.id}/{first}-{second}/{k}", one.prompt, sides)
                found.append(Matchup(len(found), number, first, second, k, comparison))
    return found


def balanced(matchups: Sequence[Matchup], pairs_per_prompt: int | None, rng: random.Random) -> list[Matchup]:
    """Return the matchups with at most so many pairs of policies per prompt, so that all pairs meet equally often or one time less.

    Pairs are dealt out in turn to the prompts in an order drawn by lot, so what a prompt is about does not decide who meets on it.
    """
    pairs = list(dict.fromkeys((each.one, each.other) for each in matchups))
    if pairs_per_prompt is None or pairs_per_prompt >= len(pairs):
        return list(matchups)
    rng.shuffle(pairs)
    prompts = list(dict.fromkeys(each.prompt for each in matchups))
    rng.shuffle(prompts)
    dealt = itertools.cycle(pairs)
    chosen = {(prompt, *pair) for prompt in prompts for pair in itertools.islice(dealt, pairs_per_prompt)}
    return [each for each in matchups if (each.prompt, each.one, each.other) in chosen]


HowCounted = Literal["last", "side", "share"]
"""What counts of a rater's answers to a question: the last one, the side that the mean over both orders favours, or this mean itself.

`last` is for people, and `share` for judges whose probabilities a report card made into the share of people who say the same.
"""


@dataclass
class VoteRows:
    """Votes on matchups as they come, and the characters of both answers."""

    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    won: list[float] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    pair: list[int] = field(default_factory=list)
    lengths: list[tuple[int, int]] = field(default_factory=list)

    def add(self, matchup: Matchup, won: float) -> None:
        """Add a vote: the share that the first policy's answer won."""
        self.first.append(matchup.one)
        self.second.append(matchup.other)
        self.won.append(won)
        self.prompt.append(matchup.prompt)
        self.pair.append(matchup.pair)
        one, other = matchup.completions
        self.lengths.append((len(one.text), len(other.text)))

    def of_prompts(self, kept: Collection[int]) -> VoteRows:
        """Return the votes on these prompts."""
        here = [k for k, prompt in enumerate(self.prompt) if prompt in kept]
        first, second, prompts, pairs = ([column[k] for k in here] for column in (self.first, self.second, self.prompt, self.pair))
        return VoteRows(first, second, [self.won[k] for k in here], prompts, pairs, [self.lengths[k] for k in here])

    @property
    def votes(self) -> PolicyVotes:
        """The votes as columns."""
        first, second, prompt, pair = (np.array(column, dtype=np.int64) for column in (self.first, self.second, self.prompt, self.pair))
        return PolicyVotes(first, second, np.array(self.won, dtype=np.float64), prompt, pair)

    @property
    def characters(self) -> Floats:
        """(n, 2) characters of the first and the second answer of each vote."""
        return np.array(self.lengths, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class AskedQuestions:
    """The matchups that raters are asked about. Equal questions, such as where two policies say the same, are asked once.

    Attributes:
        matchups: the matchups.
        plain: those with a verdict that nobody is asked for, by their number.
        comparisons: the first comparison of each question.
    """

    matchups: Sequence[Matchup]
    plain: dict[int, float]
    comparisons: dict[Hashable, Comparison]

    @classmethod
    def about(cls, matchups: Sequence[Matchup]) -> AskedQuestions:
        """Take the matchups apart into those that are asked, and those that are not."""
        verdicts = {each.pair: each.plain_verdict() for each in matchups}
        plain = {pair: verdict for pair, verdict in verdicts.items() if verdict is not None}
        comparisons: dict[Hashable, Comparison] = {}
        for each in matchups:
            if each.pair not in plain:
                comparisons.setdefault(question_of(each.comparison), each.comparison)
        return cls(matchups, plain, comparisons)

    def asks(self, dimensions: Sequence[str]) -> list[Ask]:
        """Return what raters are asked."""
        return [(comparison, dimension) for comparison in self.comparisons.values() for dimension in dimensions]

    def votes(self, judgments: Sequence[Judgment], dimension: str, counts: HowCounted) -> VoteRows:
        """Return the votes on one dimension; matchups that nobody judged have none.

        A plain verdict counts once. A reviewer's decision is not a vote.
        """
        by_comparison: dict[str, list[Judgment]] = defaultdict(list)
        for judgment in judgments:
            if judgment.dimension == dimension and not judgment.is_decision:
                by_comparison[judgment.comparison].append(judgment)
        rows = VoteRows()
        for each in self.matchups:
            if each.pair in self.plain:
                rows.add(each, self.plain[each.pair])
                continue
            asked = self.comparisons[question_of(each.comparison)]
            numbers = tuple(texts_of(asked).index(text) for text in texts_of(each.comparison))
            for _, own in answers_by_rater(by_comparison[asked.id]):
                share = rater_share(own if counts != "last" else own[-1:], *numbers)
                rows.add(each, share if counts == "share" else vote_of(share))
        return rows


def score_votes(matchups: Sequence[Matchup], scores: Sequence[Sequence[Sequence[float | None]]]) -> VoteRows:
    """Return a vote for the answer with the higher score in each matchup, and a tie where both are equal.

    Args:
        matchups: the matchups. One with an answer that has no score has no vote.
        scores: scores by prompt, policy and completion.
    """
    rows = VoteRows()
    for each in matchups:
        one, other = (scores[each.prompt][policy][each.completion] for policy in (each.one, each.other))
        if one is not None and other is not None:
            is_tie = each.plain_verdict() == 0.5 or math.isclose(one, other, rel_tol=EQUAL, abs_tol=EQUAL)
            rows.add(each, 0.5 if is_tie else float(one > other))
    return rows
