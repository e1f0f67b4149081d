"""Hybrid labelling: a judge answers where it is as good as people, and people get the rest, within a budget.

Where a question is about three completions or more, the judge ranks them, and people compare single pairs of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from palate.config.settings import nearest
from palate.config.types import Share
from palate.core import ConfigError, derive_seed
from palate.data.jsonl import write_rows
from palate.data.judgment_rows import judgment_row
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.judges.mix import Mix, PeopleBudget, mix_summary
from palate.judges.ranked_pairs import answered_pairs, pairs_of_ask
from palate.judges.routes import (
    JUDGE,
    JUDGE_CAN,
    JudgeComparison,
    Key,
    compare_with_people,
    key_of,
    most_urgent,
    share_routes,
)
from palate.raters.answer_shares import question_share, vote_of
from palate.raters.people import People
from palate.raters.rater import Answered, Ask, Rater, without_excluded
from palate.raters.simulated import Simulated
from palate.runs.run import Run

PeopleShare = Annotated[float, Ge(0), Le(1)]
"""The share of the questions that people answer. With 1 the judge is not asked."""

CALIBRATION = "calibration.jsonl"
ROUTES = "routes.jsonl"


@dataclass(frozen=True, kw_only=True)
class ByRules:
    """The judge answers a dimension only where it is as good as people on questions that both answered.

    Attributes:
        calibration: share of each dimension's questions that the judge and at least two people answer, drawn at random.
        margin: how much less than another person the judge may agree with a person, with 97.5 % certainty.
        uncertain: people get the questions with a probability of the judge between these.
    """

    kind: Literal["rules"] = "rules"
    calibration: Share = 0.1
    margin: Annotated[float, Ge(0), Le(1)] = 0.1
    uncertain: tuple[float, float] = (0.4, 0.6)

    def __post_init__(self) -> None:
        """Check the band."""
        low, high = self.uncertain
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ConfigError(f"uncertain must be two probabilities around one half, got {low} and {high}, such as [0.4, 0.6]")

    def route(self, share: float | None, other: float | None, *, is_believed: bool) -> str:
        """Return the route of a question: "judge", or why it goes to people.

        Args:
            share: the judge's probability that the first completion is better; None where it abstained.
            other: that of the second judge; None without one, or where it abstained.
            is_believed: whether the judge is as good as people on the question's dimension.
        """
        if not is_believed:
            return "not as good"
        if share is None:
            return "abstained"
        if other is not None and vote_of(other) != vote_of(share):
            return "disputed"
        return "uncertain" if self.uncertain[0] <= share <= self.uncertain[1] else JUDGE


@dataclass(frozen=True, kw_only=True)
class ByShare:
    """People answer a fixed share of the questions, those of which the judge is least sure. How good the judge is does not matter.

    Attributes:
        people: the share.
    """

    kind: Literal["share"] = "share"
    people: PeopleShare


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A judge and people share the questions. Labels carry the names of those who gave them.

    Attributes:
        judge: the model that judges. With `completions_per_comparison` above 2 it ranks, and people answer pairs of the ranking.
        second: another judge; what the two disagree about goes to people.
        people: people at `palate label`, or simulated raters. For simulated raters `repeat_share` does not count here.
        people_shares: the share of the questions that people answer, by dimension: 1 for people alone, 0 for the judge alone. In between
            people get those of which the judge is least sure.
        route: who answers what on all other dimensions.
        budget: what people's answers may cost.
    """

    kind: Literal["hybrid"] = "hybrid"
    judge: JudgeRater | LikelihoodRater
    second: JudgeRater | LikelihoodRater | None = None
    people: People | Simulated
    people_shares: dict[str, PeopleShare] = field(default_factory=dict)
    route: ByRules | ByShare = field(default_factory=ByRules)
    budget: PeopleBudget = field(default_factory=PeopleBudget)

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
        """Raise ConfigError when judges cannot answer so, or people single pairs. Questions of calibration need two people."""
        if unknown := [name for name in self.people_shares if name not in dimensions]:
            named = " and ".join(map(repr, unknown))
            raise ConfigError(f"people_shares: nothing is asked about {named}. {nearest(unknown[0], dimensions)}")
        for judge in (self.judge, self.second):
            if judge is not None:
                most = completions if isinstance(judge, JudgeRater) else 2
                judge.check(1, [name for name in dimensions if self.people_shares.get(name, 0) < 1], most)
        is_compared = isinstance(self.route, ByRules) and not set(dimensions) <= set(self.people_shares)
        self.people.check(max(raters_per_comparison, 2) if is_compared else raters_per_comparison, dimensions)

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the answered questions in order, and the run's `mix`: who answered what, why, and what that cost.

        A question about three completions or more is answered as its pairs, named `comparison/i-j`, each by the judge or by people.
        `routes.jsonl` has the route of each question, and `calibration.jsonl` all answers to the questions that both answered. Where the
        budget ends, a question keeps the answer of a judge that is believed, and is left out otherwise.

        Raises:
            RunError, DataError: as the judge and the people.
        """
        return _Work(self, run, raters_per_comparison, rng).answers(asks)


class _Work:
    """One run of hybrid labelling: what was asked so far, and what it cost."""

    def __init__(self, config: Hybrid, run: Run, raters: int, rng: random.Random) -> None:
        self.config, self.run, self.raters, self.rng = config, run, raters, rng
        self.shares: dict[Key, float] = {}
        self.others: dict[Key, float] = {}
        self.whole: dict[Key, Ask] = {}
        self.judged: dict[Key, Answered] = {}
        self.peopled: dict[Key, Answered] = {}
        self.figures: dict[str, object] = {}
        self.judge_cost = 0.0

    def answers(self, whole: Sequence[Ask]) -> tuple[list[Answered], dict[str, object]]:
        """Compare the judge with people where rules say so, let it answer, and give people the questions that are routed to them."""
        asks = [pair for ask in whole for pair in pairs_of_ask(ask)]
        self.whole = {key_of(pair): ask for ask in whole for pair in pairs_of_ask(ask)}
        fixed = self.config.people_shares
        shared = [(share, [ask for ask in asks if ask[1] == dimension]) for dimension, share in fixed.items()]
        rest = [ask for ask in asks if ask[1] not in fixed]
        rules = self.config.route
        if isinstance(rules, ByShare):  # then nothing is left to rules
            shared, rest, rules = [*shared, (rules.people, rest)], [], ByRules()
        both, compared = self._compared(rules, rest)
        believed = {dimension: one is not None and one.is_as_good(rules.margin) for dimension, one in compared.items()}
        more = [ask for share, own in shared for ask in own if share < 1] + [ask for ask in rest if believed[ask[1]]]
        if new := [ask for ask in more if key_of(ask) not in self.judged]:
            self._ask_judge([*both, *new])
        routes = {
            key_of(ask): rules.route(self.shares.get(key_of(ask)), self.others.get(key_of(ask)), is_believed=believed[ask[1]])
            for ask in rest
            if key_of(ask) not in self.peopled
        }
        for share, own in shared:
            routes |= share_routes(share, list(map(key_of, own)), self.shares)
        self._ask_most_urgent(asks, routes)
        return self._result(asks, {**dict.fromkeys(map(key_of, both), "calibration"), **routes}, believed, compared)

    def _compared(self, rules: ByRules, asks: Sequence[Ask]) -> tuple[list[Ask], dict[str, JudgeComparison | None]]:
        """Ask the judge and people about questions drawn at random; return these, and by dimension how the two compare."""
        dimensions = tuple(dict.fromkeys(dimension for _, dimension in asks))
        drawn: list[Ask] = []
        for dimension in dimensions:
            own = [ask for ask in asks if ask[1] == dimension]
            drawn += self.rng.sample(own, round(rules.calibration * len(own)))
        overlap = max(self.raters, 2)
        both = drawn[: int(min(self._labels_left() / overlap, len(drawn)))]
        self._ask_judge(both)
        self._ask_people(both, overlap)
        calibration = list(self.peopled.values())
        if asks:
            self._write_calibration(calibration)
        return both, {d: compare_with_people([one for one in calibration if one[0][1] == d], self.shares) for d in dimensions}

    def _ask_judge(self, asks: Sequence[Ask]) -> None:
        """Ask both judges. What they answered before comes first again: it costs nothing, and their files stay whole."""
        # The first judge comes last, so that the files about abstentions and marks are its own.
        for judge, shares, purpose in ((self.config.second, self.others, "second"), (self.config.judge, self.shares, "judge")):
            if judge is None or not asks:
                continue
            # The same seed each time, so that a question that is asked again is asked the same.
            ranked = list({key_of(whole): whole for whole in (self.whole[key_of(ask)] for ask in asks)}.values())
            asked = ranked if isinstance(judge, JudgeRater) else asks
            answered, figures = judge.answers(self.run, asked, 1, random.Random(derive_seed(self.run.seed, "hybrid", purpose)))
            found = [pair for one in answered for pair in answered_pairs(one)]
            shares.update((key_of(ask), question_share(judgments)) for ask, judgments in found)
            if purpose == "judge":
                self.judged.update((key_of(one[0]), one) for one in found)
            self.figures[purpose] = figures.get("judges", {})
        self.judge_cost = sum(float(cost_of(self.figures.get(name))) for name in ("judge", "second"))

    def _ask_people(self, asks: Sequence[Ask], overlap: int) -> None:
        if not asks:
            return
        found, figures = self._people(overlap).answers(self.run, asks, overlap, self.rng)
        self.peopled.update((key_of(one[0]), one) for one in without_excluded(found))
        # What is estimated from questions that were drawn at random stands for all of them, so the first figures stay.
        self.figures = {**figures, **self.figures}

    def _people(self, overlap: int) -> Rater:
        """Return the people, with a project of its own for questions that need more answers than others."""
        people = self.config.people
        if isinstance(people, Simulated):
            return replace(people, repeat_share=0.0)
        return people if overlap == self.raters else replace(people, project=f"{people.project}, calibration")

    def _ask_most_urgent(self, asks: Sequence[Ask], routes: Mapping[Key, str]) -> None:
        """Ask people as many of the routed questions as the budget pays for."""
        affordable = self._labels_left() / self.raters
        chosen = set(most_urgent(routes, self.shares)[: int(min(affordable, len(asks)))])
        self._ask_people([ask for ask in asks if key_of(ask) in chosen], self.raters)

    def _labels_left(self) -> float:
        return self.config.budget.labels_left(sum(len(judgments) for _, judgments in self.peopled.values()), self.judge_cost)

    def _result(
        self,
        asks: Sequence[Ask],
        routes: Mapping[Key, str],
        believed: Mapping[str, bool],
        compared: Mapping[str, JudgeComparison | None],
    ) -> tuple[list[Answered], dict[str, object]]:
        answers: list[Answered] = []
        rows = []
        for ask in asks:
            key = key_of(ask)
            may_judge = routes[key] in (JUDGE, *JUDGE_CAN) and key in self.judged
            by = "people" if key in self.peopled else "judge" if may_judge else "nobody"
            rows.append({"comparison": key[0], "dimension": key[1], "route": routes[key], "by": by})
            if by != "nobody":
                answers.append(self.peopled[key] if by == "people" else self.judged[key])
        write_rows(self.run.directory / ROUTES, rows)
        mix = Mix(answers, rows, compared, believed)
        summary = mix_summary(mix, self.config.people, self.config.budget, self.figures, self.judge_cost)
        others = {name: value for name, value in self.figures.items() if name not in ("judge", "second")}
        return answers, {**others, "judges": self.figures.get("judge", {}), "mix": summary}

    def _write_calibration(self, people: Sequence[Answered]) -> None:
        judged = [self.judged[key_of(ask)] for ask, _ in people if key_of(ask) in self.judged]
        write_rows(self.run.directory / CALIBRATION, (judgment_row(one) for _, own in (*people, *judged) for one in own))


def cost_of(figures: Any) -> float:
    """Return what a judge cost, from its figures; 0 where it was not asked."""
    return float(figures.get("cost", 0.0)) if isinstance(figures, Mapping) else 0.0
