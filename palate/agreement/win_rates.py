"""Which policy wins: win rates of pairs of policies, and a ranking of all of them by their strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Estimate, Floats, Ints, clustered_share, complement, from_draws
from palate.agreement.prediction_powered import PoweredMean, powered_mean
from palate.agreement.strengths import bradley_terry, bradley_terry_each

PULL = 0.1
"""Wins and losses against a policy of strength 0 that each policy has besides: the strength of one that always won stays finite."""

RESAMPLES = 200

MOST = 40
"""Policies are ranked, and their pairs listed, where there are at most this many."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyVotes:
    """Votes on completions of known policies, one per row; each array is (n,).

    Attributes:
        first: number of the policy that wrote the first completion.
        second: of the second.
        won: 1 where the first is better, 0.5 for a tie, 0 where the second is; or a probability.
        prompt: number of the prompt. What was said about one prompt counts as one in every error.
        pair: number of the pair of completions.
    """

    first: Ints
    second: Ints
    won: Floats
    prompt: Ints
    pair: Ints

    def between(self, one: int, other: int) -> PolicyVotes:
        """Return the votes on completions of two policies, with the completion of `one` first."""
        here = (np.minimum(self.first, self.second) == min(one, other)) & (np.maximum(self.first, self.second) == max(one, other))
        won = np.where(self.first == one, self.won, 1 - self.won)[here]
        return PolicyVotes(np.full(won.size, one), np.full(won.size, other), won, self.prompt[here], self.pair[here])


@dataclass(frozen=True, slots=True)
class PolicyMatch:
    """How often completions of one policy are preferred to another's; a tie is half a win.

    Attributes:
        policy: the policy that wins with this rate.
        other: the policy it is compared with.
        dimension: what was asked.
        votes: number of votes.
        rate: share of votes that it wins, with an interval that is clustered by prompt.
        judge: the model whose answers were joined with people's; "" where none was.
        joined: the rate with the judge's answers to further pairs. None where they could not be joined.
        saved: votes of people that the judge's answers were worth. None as above.
    """

    policy: str
    other: str
    dimension: str
    votes: int
    rate: Estimate
    judge: str = ""
    joined: Estimate | None = None
    saved: float | None = None

    @property
    def turned(self) -> PolicyMatch:
        """The same for the other policy."""
        joined = None if self.joined is None else complement(self.joined)
        return replace(self, policy=self.other, other=self.policy, rate=complement(self.rate), joined=joined)


@dataclass(frozen=True, slots=True)
class PolicyStrength:
    """Where a policy stands among all that were compared.

    Attributes:
        policy: its name.
        dimension: what was asked.
        votes: votes on its completions.
        strength: log-odds of winning against a policy of mean strength (Bradley & Terry 1952). The interval is a bootstrap over prompts.
        rate: share of its votes that it wins, whoever it met.
    """

    policy: str
    dimension: str
    votes: int
    strength: Estimate
    rate: Estimate


def win_rates(votes: PolicyVotes, names: Sequence[str], dimension: str) -> tuple[PolicyMatch, ...]:
    """Return the win rate of each pair of policies that met, for the policy that wins more often; most votes first."""
    low, high = np.minimum(votes.first, votes.second), np.maximum(votes.first, votes.second)
    rates = []
    for one, other in np.unique(np.stack([low, high], 1)[low != high], axis=0).tolist():
        met = votes.between(one, other)
        if met.won.mean() < 0.5:
            one, other, met = other, one, votes.between(other, one)
        rates.append(PolicyMatch(names[one], names[other], dimension, met.won.size, clustered_share(met.won, met.prompt)))
    return tuple(sorted(rates, key=lambda each: (-each.votes, each.policy, each.other)))


def policy_strengths(votes: PolicyVotes, names: Sequence[str], dimension: str, rng: np.random.Generator) -> tuple[PolicyStrength, ...]:
    """Return the policies in the order of their strength, the strongest first. Votes on two completions of one policy do not count."""
    apart = votes.first != votes.second
    first, second, won = votes.first[apart], votes.second[apart], votes.won[apart]
    if not won.size:
        return ()
    present, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    k = present.size
    _, prompt = np.unique(votes.prompt[apart], return_inverse=True)
    prompts = int(prompt.max()) + 1
    one, other = place[: first.size], place[first.size :]

    def wins(weight: Floats) -> Floats:
        """Return (k, k) how often each policy beat each other one, with prompts counted by their weights."""
        each = weight[prompt]
        counts = np.bincount(one * k + other, won * each, k * k) + np.bincount(other * k + one, (1 - won) * each, k * k)
        return np.asarray(counts.reshape(k, k), dtype=np.float64)

    whole = bradley_terry(wins(np.ones(prompts)), PULL)
    even = np.full(prompts, 1 / prompts)
    drawn = [wins(rng.multinomial(prompts, even).astype(np.float64)) for _ in range(RESAMPLES if prompts > 1 else 0)]
    draws = bradley_terry_each(np.array(drawn).reshape(-1, k, k), PULL)
    lines = []
    for number in np.argsort(-whole, kind="stable").tolist():
        rows = (one == number) | (other == number)
        share = clustered_share(np.where(one[rows] == number, won[rows], 1 - won[rows]), prompt[rows])
        strength = from_draws(float(whole[number]), draws[:, number], prompts)
        lines.append(PolicyStrength(names[int(present[number])], dimension, int(rows.sum()), strength, share))
    return tuple(lines)


def joined(rate: PolicyMatch, people: PolicyVotes, judge: PolicyVotes, names: Sequence[str]) -> PoweredMean | None:
    """Return people's win rate joined with a judge's answers; None where too few pairs were judged by both, or none by the judge alone.

    It is right where the pairs that people judged were drawn at random from all. Several answers of the judge to a pair are averaged.

    Args:
        rate: people's win rate.
        people: people's votes.
        judge: the judge's answers, on the same dimension and with the same numbers of pairs and prompts.
        names: names of the policies.
    """
    one, other = names.index(rate.policy), names.index(rate.other)
    mine, theirs = judge.between(one, other), people.between(one, other)
    pairs, first, place = np.unique(mine.pair, return_index=True, return_inverse=True)
    label = np.bincount(place, mine.won) / np.maximum(np.bincount(place), 1)
    both = np.isin(theirs.pair, pairs)
    alone = ~np.isin(pairs, theirs.pair)
    of_judge = label[np.searchsorted(pairs, theirs.pair[both])]
    return powered_mean(theirs.won[both], of_judge, theirs.prompt[both], label[alone], mine.prompt[first][alone])
