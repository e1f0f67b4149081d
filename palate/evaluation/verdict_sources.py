"""What each source of verdicts says about the answers of several policies: people, a judge, a reward model, a gold function."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from palate.agreement.paired_rates import PairedRate, paired_rates
from palate.agreement.win_rates import PolicyStrength, PolicyVotes, joined, policy_strengths
from palate.core import ConfigError, Gold, Judgment, derive_seed
from palate.evaluation.comparison_figures import GroupRate, SourceKind, VerdictSource
from palate.evaluation.policy_answers import AnsweredPrompt, group_order
from palate.evaluation.policy_matchups import AskedQuestions, HowCounted, Matchup, VoteRows, score_votes
from palate.raters.rater import Answered, Rater
from palate.raters.simulated import OVERALL
from palate.runs.run import Run


@dataclass(frozen=True)
class SourceVotes:
    """The votes of one source by dimension, and what it was asked."""

    kind: SourceKind
    name: str
    rows: Mapping[str, VoteRows]
    caveats: tuple[str, ...] = ()
    leads: bool = True
    asked: int = 0
    unanswered: int = 0
    raters: int = 0
    answers: Sequence[Answered] = ()
    summary: Mapping[str, object] = field(default_factory=dict)

    def votes(self, dimension: str) -> PolicyVotes:
        """Return the votes on a dimension."""
        return self.rows[dimension].votes


def asked_votes(
    run: Run,
    kind: SourceKind,
    rater: Rater,
    matchups: Sequence[Matchup],
    dimensions: Sequence[str],
    raters_per_comparison: int = 1,
    counts: HowCounted = "last",
) -> SourceVotes:
    """Ask raters about the matchups, and return their votes.

    Args:
        run: the run; it keeps what a judge answers.
        kind: people, simulated or judge.
        rater: who answers.
        matchups: what is asked about.
        dimensions: the dimensions of each question.
        raters_per_comparison: how many raters answer each question.
        counts: what counts of a rater's answers to a question.
    """
    questions = AskedQuestions.about(matchups)
    asks = questions.asks(dimensions)
    rng = random.Random(derive_seed(run.seed, "compare", kind))
    answers, summary = rater.answers(run, asks, raters_per_comparison, rng) if asks else ([], {})
    judgments: list[Judgment] = [judgment for _, own in answers for judgment in own]
    rows = {dimension: questions.votes(judgments, dimension, counts) for dimension in dimensions}
    raters = {judgment.rater for judgment in judgments if not judgment.is_decision}
    return SourceVotes(
        kind, kind, rows, asked=len(asks), unanswered=len(asks) - len(answers), raters=len(raters), answers=answers, summary=summary
    )


def gold_votes(matchups: Sequence[Matchup], answered: Sequence[AnsweredPrompt], gold: Gold, dimensions: Sequence[str]) -> SourceVotes:
    """Return the verdicts of a program that knows the truth: on a dimension of its own, or on the mean of all for "overall".

    Raises:
        ConfigError: it knows nothing of a dimension.
    """
    known = [[[dict(gold(one.prompt.text, each.text, **one.prompt.fields)) for each in own] for own in one.answers] for one in answered]
    names = known[0][0][0]
    for dimension in dimensions:
        if dimension not in {*names, OVERALL}:
            raise ConfigError(f"gold knows {', '.join(names)}, and dimensions names {dimension}. Name one of these, or {OVERALL}")

    def value(scores: Mapping[str, float], dimension: str) -> float:
        return scores[dimension] if dimension in scores else math.fsum(scores.values()) / len(scores)

    rows = {name: score_votes(matchups, [[[value(each, name) for each in own] for own in one] for one in known]) for name in dimensions}
    return SourceVotes("gold", "gold", rows)


def reward_votes(matchups: Sequence[Matchup], scores: Sequence[Sequence[float | None]], answered: Sequence[AnsweredPrompt]) -> SourceVotes:
    """Return the verdicts of a reward, from the scores of all answers of each prompt, policy by policy."""
    apart = []
    for own, one in zip(scores, answered, strict=True):
        each = iter(own)
        apart.append([[next(each) for _ in answers] for answers in one.answers])
    rows = score_votes(matchups, apart)
    unscored = len(matchups) - len(rows.won)
    return SourceVotes("reward", "reward", {OVERALL: rows}, asked=len(matchups), unanswered=unscored)


def source_figures(
    source: SourceVotes,
    names: Sequence[str],
    difference: float,
    seed: int,
    helper: SourceVotes | None = None,
    groups: Sequence[str] = (),
) -> VerdictSource:
    """Return the win rates and strengths of a source.

    Args:
        source: its votes.
        names: the policies.
        difference: as in `paired_rates`.
        seed: of the bootstrap.
        helper: a source of verdicts on more answers, which are joined with these votes, as a judge's with people's.
        groups: the group of each prompt, for win rates by group; () gives none. Nothing is joined there.
    """
    rates: list[PairedRate] = []
    strengths: list[PolicyStrength] = []
    by_group: list[GroupRate] = []
    for dimension, rows in source.rows.items():
        if not rows.won:
            continue
        votes, rng = rows.votes, np.random.default_rng(derive_seed(seed, "compare/bootstrap", source.kind, dimension))
        found = paired_rates(votes, rows.characters, names, dimension, rng, difference)
        if helper is not None and dimension in helper.rows:
            found = tuple(_helped(rate, votes, helper.votes(dimension), names, helper.name) for rate in found)
        rates += found
        own_draws = np.random.default_rng(derive_seed(seed, "compare/groups", source.kind, dimension))
        by_group += _by_group(rows, found, names, own_draws, groups)
        if len(names) > 2:
            strengths += policy_strengths(votes, names, dimension, rng)
    return VerdictSource(
        source.kind,
        source.name,
        source.caveats,
        source.leads,
        source.asked,
        source.unanswered,
        source.raters,
        tuple(rates),
        tuple(strengths),
        tuple(by_group),
    )


def _by_group(
    rows: VoteRows, whole: Sequence[PairedRate], names: Sequence[str], rng: np.random.Generator, groups: Sequence[str]
) -> Iterator[GroupRate]:
    """Yield the win rates on the prompts of each group, each for the policy that wins more often over all of them."""
    first = {frozenset((one.match.policy, one.match.other)): one.match for one in whole}
    for group in sorted(set(groups), key=group_order):
        own = rows.of_prompts({k for k, name in enumerate(groups) if name == group})
        if own.won:
            for rate in paired_rates(own.votes, own.characters, names, whole[0].match.dimension, rng):
                yield GroupRate(group, rate.of(first[frozenset((rate.match.policy, rate.match.other))].policy))


def _helped(rate: PairedRate, people: PolicyVotes, helper: PolicyVotes, names: Sequence[str], name: str) -> PairedRate:
    powered = joined(rate.match, people, helper, names)
    if powered is None:
        return rate
    return replace(rate, match=replace(rate.match, judge=name, joined=powered.estimate, saved=powered.saved))
