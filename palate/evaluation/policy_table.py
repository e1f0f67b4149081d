"""Which policy people prefer, where judgments say who wrote the completions: the figures of `palate agreement`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from palate.agreement.judge_answers import AnswerColumns, Place
from palate.agreement.win_rates import MOST, PolicyMatch, PolicyStrength, PolicyVotes, joined, policy_strengths, win_rates
from palate.core import Judgment
from palate.data.exchange import Exchange
from palate.data.judge_names import judge_of
from palate.evaluation.judged_pairs import Questions


def policy_figures(
    exchange: Exchange, dimension: str | None, rng: np.random.Generator, *, is_random: bool = True
) -> tuple[tuple[PolicyStrength, ...], tuple[PolicyMatch, ...]]:
    """Return the policies by strength, and the win rate of each pair of them, by dimension.

    People's votes count, and models' where nobody else voted. Where the exchange has both and a single model, its answers to further pairs
    are joined with people's.

    Args:
        exchange: judgments with what was judged.
        dimension: the only dimension that counts.
        rng: draws the bootstrap's samples.
        is_random: whether people judged a random draw of the pairs. If not, nothing is joined.
    """
    if not any(side.policy for item in exchange.items for side in item.candidates):
        return (), ()
    questions = Questions(parts_policies=True)
    read = questions.take(exchange)
    kept = [one for one in read.judgments if dimension in (None, one.dimension)]
    is_model = {rater: kind in {"model", "rule"} for rater, kind in read.kinds.items()}
    people = [one for one in kept if not is_model[one.rater]]
    judges = {judge_of(one.rater) for one in kept if is_model[one.rater]}
    strengths: list[PolicyStrength] = []
    rates: list[PolicyMatch] = []
    for name in dict.fromkeys(one.dimension for one in people or kept):
        reader = _VoteReader(questions)
        votes = reader.votes([one for one in people or kept if one.dimension == name], per_order=not people)
        if not votes.won.size or len(reader.names) > MOST:
            continue
        strengths += policy_strengths(votes, reader.names, name, rng)
        found = win_rates(votes, reader.names, name)
        if people and len(judges) == 1 and is_random:
            answers = reader.votes([one for one in kept if is_model[one.rater] and one.dimension == name], per_order=True)
            found = tuple(_with_judge(rate, votes, answers, reader.names, next(iter(judges))) for rate in found)
        rates += found
    return tuple(strengths), tuple(rates)


def _with_judge(rate: PolicyMatch, people: PolicyVotes, judge: PolicyVotes, names: Sequence[str], name: str) -> PolicyMatch:
    powered = joined(rate, people, judge, names)
    return rate if powered is None else replace(rate, judge=name, joined=powered.estimate, saved=powered.saved)


class _VoteReader:
    """Reads judgments into columns in which pairs, prompts and policies keep their numbers."""

    def __init__(self, questions: Questions) -> None:
        """Take the questions that were asked."""
        self._known = {comparison.id: comparison for comparison in questions.comparisons()}
        self._prompts = questions.prompts
        self._places: dict[str, Place] = {}
        self._same = questions.same_pairs()
        self._numbers: dict[str, int] = {}
        self._policies: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The policies, by their numbers."""
        return tuple(self._policies)

    def votes(self, judgments: Iterable[Judgment], *, per_order: bool) -> PolicyVotes:
        """Return the votes on pairs of completions whose policies are known.

        A rater's last answer to a pair counts; with `per_order`, which is for models, the last in each order.
        """
        columns = AnswerColumns.of(judgments, self._places, per_order=per_order, same=self._same)
        rows = [self._row(name, first, second) for name, first, second in self._places.values()]
        first, second, prompt = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        known = first[columns.pair] >= 0
        pair = columns.pair[known]
        return PolicyVotes(first[pair], second[pair], columns.first[known], prompt[pair], pair)

    def _row(self, name: str, first: int, second: int) -> tuple[int, int, int]:
        """The numbers of both policies and of the prompt; -1 for policies that nobody knows."""
        prompt = self._numbers.setdefault(self._prompts.get(name, name), len(self._numbers))
        comparison = self._known.get(name)
        policies = ("", "") if comparison is None else (comparison.completions[first].policy, comparison.completions[second].policy)
        if not all(policies):
            return -1, -1, prompt
        one, other = (self._policies.setdefault(policy, len(self._policies)) for policy in policies)
        return one, other, prompt
