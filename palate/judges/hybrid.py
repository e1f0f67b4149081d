"""Hybrid labelling: a judge answers where it is as good as people, and people get the rest, within a budget."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from palate.config.types import Share
from palate.core import ConfigError, derive_seed
from palate.data.jsonl import write_rows
from palate.data.judgment_rows import judgment_row
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.judges.mix import Mix, PeopleBudget, mix_summary
from palate.judges.routes import (
    JUDGE,
    JUDGE_CAN,
    JudgeComparison,
    Key,
    compare_with_people,
    key_of,
    most_urgent,
)
from palate.raters.answer_shares import question_share, vote_of
from palate.raters.people import People
from palate.raters.rater import Answered, Ask, Rater, refuse_rankings
from palate.raters.simulated import Simulated
from palate.runs.run import Run

CALIBRATION = "calibration.jsonl"
ROUTES = "routes.jsonl"


@dataclass(frozen=True, kw_only=True)
class ByRules:
    """The judge answers a dimension only where it is as good as people on questions that both answered.

    Attributes:
        calibration: share of each dimension's questions that the judge and at least two people answer, drawn at random.
        margin: how much less than another person the judge may agree with a person, with 97.5 % certainty.
        uncertain: people get the questions with a probability of the judge between these.
        sensitive: dimensions that people always judge.
    """

    kind: Literal["rules"] = "rules"
    calibration: Share = 0.1
    margin: Annotated[float, Ge(0), Le(1)] = 0.1
    uncertain: tuple[float, float] = (0.4, 0.6)
    sensitive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the band."""
        low, high = self.uncertain
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ConfigError(f"uncertain must be two probabilities around one half, got {low} and {high}, such as [0.4, 0.6]")

    def route(self, dimension: str, share: float | None, other: float | None, believed: Mapping[str, bool]) -> str:
        """Return the route of a question: "judge", or why it goes to people.

        Args:
            dimension: what is asked about.
            share: the judge's probability that the first completion is better; None where it abstained.
            other: that of the second judge; None without one, or where it abstained.
            believed: the dimensions on which the judge is as good as people.
        """
        if dimension in self.sensitive:
            return "sensitive"
        if not believed[dimension]:
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
    people: Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """A judge and people share the questions. Labels carry the names of those who gave them.

    Attributes:
        judge: the model that judges.
        second: another judge; what the two disagree about goes to people.
        people: people at `palate label`, or simulated raters. For simulated raters `repeat_share` does not count here.
        route: who answers what.
        budget: what people's answers may cost.
    """

    kind: Literal["hybrid"] = "hybrid"
    judge: JudgeRater | LikelihoodRater
    second: JudgeRater | LikelihoodRater | None = None
    people: People | Simulated
    route: ByRules | ByShare = field(default_factory=ByRules)
    budget: PeopleBudget = field(default_factory=PeopleBudget)

    def check(self, raters_per_comparison: int, completions: int = 2) -> None:
        """Raise ConfigError for rankings, or when judges or people cannot answer so. Questions of calibration need two people."""
        refuse_rankings("hybrid", completions)
        for judge in (self.judge, self.second):
            if judge is not None:
                judge.check(1)
        self.people.check(max(raters_per_comparison, 2) if isinstance(self.route, ByRules) else raters_per_comparison)

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the answered questions in order, and the run's `mix`: who answered what, why, and what that cost.

        `routes.jsonl` has the route of each question, and `calibration.jsonl` all answers to the questions that both answered. Where the
        budget ends, a question keeps the answer of a judge that is believed, and is left out otherwise.

        Raises:
            RunError, DataError: as the judge and the people.
        """
        work = _Work(self, run, raters_per_comparison, rng)
        if isinstance(self.route, ByShare):
            return work.by_share(self.route, asks)
        return work.by_rules(self.route, asks)


class _Work:
    """One run of hybrid labelling: what was asked so far, and what it cost."""

    def __init__(self, config: Hybrid, run: Run, raters: int, rng: random.Random) -> None:
        self.config, self.run, self.raters, self.rng = config, run, raters, rng
        self.shares: dict[Key, float] = {}
        self.others: dict[Key, float] = {}
        self.judged: dict[Key, Answered] = {}
        self.peopled: dict[Key, Answered] = {}
        self.figures: dict[str, object] = {}
        self.judge_cost = 0.0

    def by_rules(self, rules: ByRules, asks: Sequence[Ask]) -> tuple[list[Answered], dict[str, object]]:
        """Compare the judge with people on questions drawn at random, then route the rest."""
        dimensions = tuple(dict.fromkeys(dimension for _, dimension in asks))
        drawn: list[Ask] = []
        for dimension in dimensions:
            own = [ask for ask in asks if ask[1] == dimension]
            if dimension not in rules.sensitive:
                drawn += self.rng.sample(own, round(rules.calibration * len(own)))
        overlap = max(self.raters, 2)
        both = drawn[: int(min(self._labels_left() / overlap, len(drawn)))]
        self._ask_judge(both)
        self._ask_people(both, overlap)
        calibration = list(self.peopled.values())
        self._write_calibration(calibration)
        compared = {d: compare_with_people([one for one in calibration if one[0][1] == d], self.shares) for d in dimensions}
        believed = {d: one is not None and one.is_as_good(rules.margin) for d, one in compared.items()}
        if more := [ask for ask in asks if believed[ask[1]] and key_of(ask) not in self.judged]:
            self._ask_judge([*both, *more])
        routes = {
            key_of(ask): rules.route(ask[1], self.shares.get(key_of(ask)), self.others.get(key_of(ask)), believed)
            for ask in asks
            if key_of(ask) not in self.peopled
        }
        self._ask_most_urgent(asks, routes)
        return self._result(asks, {**dict.fromkeys(map(key_of, both), "calibration"), **routes}, believed, compared)

    def by_share(self, mix: ByShare, asks: Sequence[Ask]) -> tuple[list[Answered], dict[str, object]]:
        """Let the judge answer everything, and people the questions of which it is least sure."""
        self._ask_judge(asks if mix.people < 1 else [])
        unsure = sorted(map(key_of, asks), key=lambda key: abs(self.shares.get(key, 0.5) - 0.5))[: round(mix.people * len(asks))]
        routes = dict.fromkeys(map(key_of, asks), JUDGE) | dict.fromkeys(unsure, "uncertain")
        self._ask_most_urgent(asks, routes)
        return self._result(asks, routes, {}, {})

    def _ask_judge(self, asks: Sequence[Ask]) -> None:
        """Ask both judges. What they answered before comes first again: it costs nothing, and their files stay whole."""
        # The first judge comes last, so that the files about abstentions and marks are its own.
        for judge, shares, purpose in ((self.config.second, self.others, "second"), (self.config.judge, self.shares, "judge")):
            if judge is None or not asks:
                continue
            # The same seed each time, so that a question that is asked again is asked the same.
            found, figures = judge.answers(self.run, asks, 1, random.Random(derive_seed(self.run.seed, "hybrid", purpose)))
            shares.update((key_of(ask), question_share(judgments)) for ask, judgments in found)
            if purpose == "judge":
                self.judged.update((key_of(one[0]), one) for one in found)
            self.figures[purpose] = figures.get("judges", {})
        self.judge_cost = sum(float(cost_of(self.figures.get(name))) for name in ("judge", "second"))

    def _ask_people(self, asks: Sequence[Ask], overlap: int) -> None:
        if not asks:
            return
        found, figures = self._people(overlap).answers(self.run, asks, overlap, self.rng)
        self.peopled.update((key_of(one[0]), one) for one in found)
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
