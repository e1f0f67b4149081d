"""How often one policy's answers are preferred to another's on the same prompts: bootstrap intervals, length control, and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.agreement.estimates import Estimate, Floats, Ints, at_edge, complement, expanded_percentiles, wilson
from palate.agreement.paired_logistic import Matches, fit, sigmoid
from palate.agreement.win_rates import PULL, PolicyMatch, PolicyVotes, win_rates

RESAMPLES = 2000
"""Bootstrap samples of prompts for the plain rates."""

REFITS = 400
"""Of these samples, those in which the length-controlled rates are fitted again."""

POWER = 0.8
"""The chance with which a difference is to be seen."""

Z_POWER = 1.959963984540054 + 0.8416212335729143
"""Standard errors that a difference must have to be seen at the 5 % level with a chance of 80 %."""

ONE_PROMPT = "one prompt says nothing about others, so there is no interval"
CONSTANT = "the verdict is the same on every prompt, so the interval is Wilson's for as many prompts"


@dataclass(frozen=True, slots=True)
class PairedRate:
    """The win rate of a policy against another one, over prompts that both answered.

    Attributes:
        match: both policies and the win rate, a tie being half a win. The interval is a bootstrap over prompts
            (`expanded_percentiles`).
        prompts: number of prompts.
        ties: share of the votes that are ties.
        controlled: the win rate at equal length; None where no two answers differ in length, or verdicts do not vary between prompts.
        needed: prompts that would show a win rate that is `difference` away from one half; None where the spread is not known.
        visible: the smallest distance from one half that as many prompts as these would show; None as above.
        note: why the interval is missing or comes from elsewhere; "" for a bootstrap.
    """

    match: PolicyMatch
    prompts: int
    ties: float
    controlled: Estimate | None
    needed: int | None
    visible: float | None
    note: str = ""

    def of(self, policy: str) -> PairedRate:
        """Return the rate with which `policy`, one of the two, wins."""
        if policy == self.match.policy:
            return self
        return replace(self, match=self.match.turned, controlled=None if self.controlled is None else complement(self.controlled))


def paired_rates(
    votes: PolicyVotes, lengths: Floats, names: Sequence[str], dimension: str, rng: np.random.Generator, difference: float = 0.05
) -> tuple[PairedRate, ...]:
    """Return the win rate of each pair of policies that met, for the policy that wins more often.

    Every bootstrap sample draws prompts with all their votes, the same prompts for all pairs.

    Args:
        votes: the votes.
        lengths: (n, 2) characters of the first and of the second completion of each vote.
        names: names of the policies.
        dimension: what was asked.
        rng: draws the samples.
        difference: a distance of the win rate from one half, for `needed`.
    """
    matches = win_rates(votes, names, dimension)
    if not matches:
        return ()
    rows = _Rows.of(votes, lengths, [(names.index(each.policy), names.index(each.other)) for each in matches])
    draws = np.array([rows.rates(rows.sample(rng)) for _ in range(RESAMPLES)])
    controlled = rows.controlled(rng)
    found = []
    for k, match in enumerate(matches):
        mine = rows.pair == k
        won, (_, prompt) = rows.won[mine], np.unique(rows.prompt[mine], return_inverse=True)
        prompts, error = int(prompt.max()) + 1, _clustered_error(won, prompt)
        rate, note = _interval(float(won.mean()), draws[:, k], won, prompts)
        is_known = error > 0
        found.append(
            PairedRate(
                replace(match, rate=rate),
                prompts,
                float((won == 0.5).mean()),
                controlled[k] if controlled and not note else None,
                math.ceil(prompts * (Z_POWER * error / difference) ** 2) if is_known else None,
                Z_POWER * error if is_known else None,
                note,
            )
        )
    return tuple(found)


def _interval(value: float, draws: Floats, won: Floats, prompts: int) -> tuple[Estimate, str]:
    """Return a rate with its interval, and why that is not a bootstrap's."""
    if prompts < 2:
        return expanded_percentiles(value, draws, prompts), ONE_PROMPT
    if np.ptp(won) > 0 and np.nanmax(draws) > np.nanmin(draws):
        return expanded_percentiles(value, draws, prompts), ""
    return at_edge(value, *wilson(value * prompts, prompts), prompts), CONSTANT


def _clustered_error(won: Floats, prompt: Ints) -> float:
    """Return the standard error of the mean with votes on one prompt as one; NaN with a single prompt."""
    parts = np.bincount(prompt, won - won.mean())
    return math.sqrt(float((parts**2).sum()) * parts.size / (parts.size - 1)) / won.size if parts.size > 1 else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Votes, each for the first policy of its pair of policies. Each array is (n,).

    Attributes:
        pair: number of the pair of policies.
        prompt: number of the prompt.
        won: share that the first policy of the pair won.
        longer: tanh of how many standard deviations its completion is longer than the other.
        prompts: number of prompts.
        pairs: number of pairs of policies.
    """

    pair: Ints
    prompt: Ints
    won: Floats
    longer: Floats
    prompts: int
    pairs: int

    @classmethod
    def of(cls, votes: PolicyVotes, lengths: Floats, pairs: Sequence[tuple[int, int]]) -> _Rows:
        """Turn each vote to the side of the first policy of its pair, and leave out votes on two completions of one policy."""
        number = {pair: k for k, pair in enumerate(pairs)}
        sides = list(zip(votes.first.tolist(), votes.second.tolist(), strict=True))
        as_is = np.array([pair in number for pair in sides])
        pair = np.array([number.get(pair, number.get(pair[::-1], -1)) for pair in sides])
        won, more = np.where(as_is, votes.won, 1 - votes.won), lengths[:, 0] - lengths[:, 1]
        more = np.where(as_is, more, -more)
        kept = pair >= 0
        spread = float(more[kept].std())
        _, prompt = np.unique(votes.prompt[kept], return_inverse=True)
        longer = np.tanh(more[kept] / spread) if spread > 0 else np.zeros(int(kept.sum()))
        return cls(pair[kept], prompt, won[kept], longer, int(prompt.max()) + 1, len(pairs))

    def sample(self, rng: np.random.Generator) -> Floats:
        """Return (prompts,) how often each prompt is drawn."""
        return rng.multinomial(self.prompts, np.full(self.prompts, 1 / self.prompts)).astype(np.float64)

    def rates(self, times: Floats) -> Floats:
        """Return (pairs,) the win rates where prompts count by their weights; NaN for a pair without votes."""
        weight = times[self.prompt]
        votes = np.bincount(self.pair, weight, self.pairs)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(self.pair, weight * self.won, self.pairs) / votes)

    def controlled(self, rng: np.random.Generator) -> list[Estimate]:
        """Return the win rates at equal length; [] where lengths do not differ.

        logit P(first wins) = a_pair + b longer, with one slope b for all pairs: the win rate at equal length is sigma(a_pair). A tenth of a
        win and of a loss more for each pair and for the slope keep both finite. Source: Dubois et al. 2024 (length-controlled AlpacaEval),
        without the difficulty of instructions, and with one slope in place of one for each policy.
        """
        if not self.longer.any():
            return []
        design = np.zeros((self.pair.size + self.pairs + 1, self.pairs + 1))
        design[np.arange(self.pair.size), self.pair] = 1
        design[: self.pair.size, -1] = self.longer
        design[self.pair.size :] = np.eye(self.pairs + 1)
        nobody = np.zeros(len(design), dtype=np.int64)
        won = np.concatenate([self.won, np.full(self.pairs + 1, 0.5)])
        pulls = np.full(self.pairs + 1, 2 * PULL)

        def fitted(times: Floats, start: Floats | None) -> Floats:
            weight = np.concatenate([times[self.prompt], pulls])
            return fit(Matches(nobody, nobody, won, weight, design, 0), start)

        whole = fitted(np.ones(self.prompts), None)
        draws = sigmoid(
            np.array([fitted(self.sample(rng), whole) for _ in range(REFITS if self.prompts > 1 else 0)]).reshape(-1, len(whole))
        )
        rates, counts = sigmoid(whole), [np.unique(self.prompt[self.pair == k]).size for k in range(self.pairs)]
        return [expanded_percentiles(float(rates[k]), draws[:, k], counts[k]) for k in range(self.pairs)]
