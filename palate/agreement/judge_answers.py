"""The answers of one judge to pairs, and people's votes on the same pairs: what a judge's report card is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Flags, Floats, Ints
from palate.agreement.vote_table import VoteTable, numbers_of
from palate.agreement.votes import pairs_of
from palate.core import Comparison, Judgment, is_anonymous

MIN_PROMPTS = 20
"""With fewer prompts that both sides judged, errors are clustered by comparison and not by prompt."""

Place = tuple[str, int, int]
"""A pair of completions: their comparison, and their numbers in it."""

SamePairs = Mapping[Place, tuple[Place, bool]]
"""For a pair of texts that stands in several comparisons, the place where it counts, and whether its two completions are turned there."""

OwnPolicy = Callable[[str], bool]
"""Whether a policy of this name is the judge's own model, or of its family."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerColumns:
    """Answers to pairs, one per row. Each array is (n,).

    Attributes:
        pair: number of the pair.
        rater: number of the rater.
        answer: 0 where the pair's first completion is better, 1 for a tie, 2 where its second is.
        shown: 0 where the pair's first completion was shown first, 1 where its second was, -1 where nobody knows.
        first: probability that the pair's first completion is better; without one it is 1, 0.5 or 0 by the answer.
        has_probability: whether the rater gave a probability.
        consistent: 1 where the answer sums up two equal ones, one in each order; 0 where these two differed; -1 for an answer in one order.
    """

    pair: Ints
    rater: Ints
    answer: Ints
    shown: Ints
    first: Floats
    has_probability: Flags
    consistent: Ints

    @classmethod
    def of(
        cls, judgments: Iterable[Judgment], places: dict[str, Place], *, per_order: bool, same: SamePairs | None = None
    ) -> AnswerColumns:
        """Make the columns of judgments. A rater's last answer to a pair counts; with `per_order`, the last in each order.

        Args:
            judgments: the judgments, on one dimension.
            places: comparison and both completions of each pair, by name; pairs that it lacks are added.
            per_order: whether an answer in the other order, or in another comparison, is another answer.
            same: pairs that count elsewhere, such as a single pair within a ranking of the same texts.
        """
        numbers = {name: k for k, name in enumerate(places)}
        last: dict[tuple[int, str, str | None, tuple[int, ...] | None], tuple[int, int, float, bool, int]] = {}
        for one in pairs_of(judgments):
            said, own = one.judgment, (one.judgment.comparison, one.first, one.second)
            place, is_turned = (same or {}).get(own, (own, False))
            name = "/".join(map(str, place))
            if name not in numbers:
                numbers[name] = len(places)
                places[name] = place
            probability = said.first_probability(one.first, one.second)
            first = 1 - one.answer / 2 if probability is None else probability
            better, side = one.answer, one.shown
            if is_turned:
                first, better, side = 1 - first, 2 - better, 1 - side if side >= 0 else side
            rater = f"{said.rater}/{len(last)}" if is_anonymous(said.rater) else said.rater
            is_same = -1 if said.is_consistent is None else int(said.is_consistent)
            key = numbers[name], rater, said.comparison if per_order else None, said.order if per_order else None
            last[key] = better, side, first, probability is not None, is_same
        raters = {name: k for k, name in enumerate(dict.fromkeys(rater for _, rater, *_ in last))}
        who = np.array([(pair, raters[name]) for pair, name, *_ in last], dtype=np.int64).reshape(-1, 2)
        rows = np.array(list(last.values()), dtype=np.float64).reshape(-1, 5)
        answer, shown, same_twice = (rows[:, k].astype(np.int64) for k in (0, 1, 4))
        return cls(who[:, 0], who[:, 1], answer, shown, rows[:, 2], rows[:, 3] > 0, same_twice)

    def selected(self, flags: Flags) -> AnswerColumns:
        """Return the answers where `flags` (n,) is true."""
        pair, rater, answer, shown = (column[flags] for column in (self.pair, self.rater, self.answer, self.shown))
        return AnswerColumns(pair, rater, answer, shown, self.first[flags], self.has_probability[flags], self.consistent[flags])

    @property
    def shown_first(self) -> Floats:
        """(n,) the probability of what was shown first; of the pair's first completion where the order is not known."""
        return np.where(self.shown == 1, 1 - self.first, self.first)


@dataclass(frozen=True, slots=True, eq=False)
class JudgeAnswers:
    """What a judge and people say about pairs of completions, on one dimension.

    Attributes:
        judge: the judge's answers. One judge is several raters where principles are drawn: these count as one judge.
        people: people's votes on the same pairs.
        words: (pairs, 2) lengths of both completions; NaN where nobody knows.
        policy: (pairs, 2) numbers of the policies that wrote the completions; -1 where nobody knows.
        own: (pairs,) 1 where the judge's own model wrote the first completion alone, -1 where it wrote the second alone, else 0; NaN where
            a policy is not known.
        prompt: (pairs,) number of the pair's prompt.
        comparison: (pairs,) number of the pair's comparison; the pairs of a ranking have one.
        marks: (pairs, 2) the judge's marks of both completions by themselves; NaN where it gave none.
        policies: names of policies that count as the judge's own.
        judge_votes: the judge's answers as a table of votes.
        people_votes: people's votes as a table of votes.
    """

    judge: AnswerColumns
    people: AnswerColumns
    words: Floats
    policy: Ints
    own: Floats
    prompt: Ints
    comparison: Ints
    marks: Floats
    policies: tuple[str, ...]
    judge_votes: VoteTable
    people_votes: VoteTable

    @property
    def pairs(self) -> int:
        """Number of pairs that anybody judged."""
        return int(self.prompt.size)

    @property
    def label(self) -> Floats:
        """(pairs,) mean over the judge's raters of the mean of their own answers; NaN where the judge gave none."""
        raters = int(self.judge.rater.max(initial=0)) + 1
        cells = self.judge.pair * raters + self.judge.rater
        many = np.bincount(cells, minlength=self.pairs * raters).reshape(self.pairs, raters)
        sums = np.bincount(cells, self.judge.first, self.pairs * raters).reshape(self.pairs, raters)
        gave = many > 0
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(gave, sums / np.maximum(many, 1), 0.0).sum(1) / gave.sum(1))

    @property
    def verdict(self) -> Ints:
        """(pairs,) 0, 1 or 2 as in `AnswerColumns.answer`, by the side of 1/2 on which the label lies; -1 without a label."""
        label = self.label
        return np.where(np.isnan(label), -1, np.where(np.isclose(label, 0.5), 1, np.where(label > 0.5, 0, 2)))

    @property
    def both_orders(self) -> Flags:
        """(pairs,) whether the judge answered in both orders."""
        both = np.bincount(self.judge.pair, self.judge.consistent >= 0, self.pairs) > 0
        seen = [np.bincount(self.judge.pair, self.judge.shown == side, self.pairs) > 0 for side in (0, 1)]
        return np.asarray(both | (seen[0] & seen[1]))

    @property
    def same_answer(self) -> str:
        """What the judge answers to every pair, with the same probability; "" if its answers differ."""
        judge = self.judge
        if not (judge.consistent != 0).all() or np.unique(judge.shown_first).size > 1:
            return ""
        if (judge.answer == 1).all():
            return "a tie"
        shown = np.where(judge.shown == 1, 2 - judge.answer, judge.answer)
        if np.unique(shown).size > 1:
            return ""
        if (judge.shown < 0).all():
            return "the completion that the file calls the first" if shown[0] == 0 else "the completion that the file calls the second"
        return "what is shown first" if shown[0] == 0 else "what is shown second"

    @property
    def labelled(self) -> Flags:
        """(pairs,) whether the judge and at least one person judged the pair."""
        return np.asarray((self.verdict >= 0) & (np.bincount(self.people.pair, minlength=self.pairs) > 0))

    @property
    def is_by_prompt(self) -> bool:
        """Whether errors are clustered by prompt, and not by comparison."""
        return int(np.unique(self.prompt[self.labelled]).size) >= MIN_PROMPTS

    @property
    def cluster(self) -> Ints:
        """(pairs,) number of the cluster: what is alike within it counts as one in every error."""
        return self.prompt if self.is_by_prompt else self.comparison

    @classmethod
    def of_judgments(
        cls,
        judge: Iterable[Judgment],
        people: Iterable[Judgment],
        comparisons: Iterable[Comparison],
        prompts: Mapping[str, str],
        is_own: OwnPolicy,
        marks: Mapping[tuple[str, int], float] | None = None,
        same: SamePairs | None = None,
    ) -> JudgeAnswers:
        """Make the table of judgments on one dimension. A rater's last answer to a pair in one order counts.

        Args:
            judge: the judge's judgments.
            people: people's judgments.
            comparisons: what both were shown. Lengths and policies come from these.
            prompts: the prompt of each comparison, by its id; the comparison itself where it is missing.
            is_own: whether a policy is the judge's own.
            marks: the judge's marks, by a comparison's id and the number of its completion.
            same: as in `AnswerColumns.of`.
        """
        judge, people, known = tuple(judge), tuple(people), {comparison.id: comparison for comparison in comparisons}
        places: dict[str, Place] = {}
        of_judge, of_people = (
            AnswerColumns.of(said, places, per_order=per_order, same=same) for said, per_order in ((judge, True), (people, False))
        )
        words, own = np.full((len(places), 2), math.nan), np.full(len(places), math.nan)
        policy, mark_of = np.full((len(places), 2), -1), marks or {}
        marked = [[mark_of.get((name, side), math.nan) for side in sides] for name, *sides in places.values()]
        policies: dict[str, int] = {}
        for k, (name, first, second) in enumerate(places.values()):
            if (comparison := known.get(name)) is None:
                continue
            sides = comparison.completions[first], comparison.completions[second]
            if any(side.text for side in sides):  # without texts, labels alone
                words[k] = [len(side.text.split()) for side in sides]
            if all(side.policy for side in sides):
                policy[k] = [policies.setdefault(side.policy, len(policies)) for side in sides]
                own[k] = float(is_own(sides[0].policy)) - float(is_own(sides[1].policy))
        names = [prompts.get(name, name) for name, _, _ in places.values()]
        prompt, together = (numbers_of(each) for each in (names, [name for name, _, _ in places.values()]))
        tables = (VoteTable.of_judgments(judgments, known.values()) for judgments in (judge, people))
        mine = tuple(sorted(filter(is_own, policies)))
        both_marks = np.array(marked, dtype=np.float64).reshape(-1, 2)
        return cls(of_judge, of_people, words, policy, own, prompt, together, both_marks, mine, *tables)
