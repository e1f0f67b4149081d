"""Stage `regrade`: have judges grade completions by their rubrics, and ask whether a gain on them is real."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.config.answers import Score
from palate.config.artifacts import file_at
from palate.config.types import Count, Input
from palate.core import Completion, ConfigError, DataError, Prompt
from palate.data.exchange import write_exchange
from palate.data.formats import read_samples
from palate.data.jsonl import write_rows
from palate.data.judge_names import UNCALIBRATED
from palate.data.rubric_files import RubricSource
from palate.data.rubrics import Rubric
from palate.evaluation.rubric_gains import JudgedGain, RubricGains
from palate.judges.both_orders import second_wins
from palate.judges.instruction_files import InstructionsInput, load_instructions
from palate.judges.judge_card import OVERALL, Calibration, read_cards
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModelSettings
from palate.judges.judge_views import Judge
from palate.judges.rubric_exchange import rubric_exchange
from palate.judges.rubric_grading import Grades, GradingItem, calibrated, grade_all, grader_name
from palate.judges.verdicts import Abstention, VerdictKind, WrittenVerdict
from palate.rewards.rubric import RubricReward
from palate.runs.run import Run

JUDGE = "judge"
"""What rows and summary call the judge that was trained against."""

ROWS = "regrade.jsonl"

JUDGMENTS = "judgments.jsonl"

SIDES = ("before", "after")

WITHOUT_CARDS = f"Nobody measured {{}} on people's labels, so all figures of {{}} are {UNCALIBRATED}"

Completions = tuple[Completion, ...]
Sides = tuple[Completions, Completions]
"""The completions before and after. There are none after where nothing is compared."""


@dataclass(frozen=True)
class MatchedPrompt:
    """A prompt with its completions before and after, and its rubric."""

    prompt: Prompt
    sides: Sides
    rubric: Rubric

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Numbers of a completion before and one after that are compared: each with its like, and the shorter side from the start again."""
        before, after = map(len, self.sides)
        return [(k % before, k % after) for k in range(max(before, after))] if after else []

    def items(self) -> dict[str, GradingItem]:
        """What is graded, by id: the completions before, then those after."""
        return {
            f"{self.prompt.id}/{name}/{number}": GradingItem(self.prompt, completion, self.rubric)
            for name, side in zip(SIDES, self.sides, strict=True)
            for number, completion in enumerate(side)
        }

    def by_side(self, grades: Iterator[Grades]) -> dict[str, list[Grades]]:
        """Take the grades of this prompt's items."""
        return {name: [next(grades) for _ in side] for name, side in zip(SIDES, self.sides, strict=True)}


@dataclass(frozen=True)
class WhatJudgeSaid:
    """What one judge says about each prompt.

    Attributes:
        rater: the judge's name.
        grades: the grades of all items, in their order.
        by_prompt: the same for each prompt by side.
        verdicts: how likely it finds the later completion of each pair the better one, for each prompt.
    """

    rater: str
    grades: list[Grades]
    by_prompt: list[dict[str, list[Grades]]]
    verdicts: list[list[float | Abstention]]


@dataclass(frozen=True)
class Regrade:
    """Ask other judges whether a gain on a rubric is real, or have completions graded.

    Attributes:
        before: completions of the model before it was trained on the rubric, as `sample` writes them, with the prompts' columns.
        after: completions of the same prompts by the model after. All completions of a prompt count, on both sides. Without it those before
            are graded and nothing is compared, such as for people to grade them too.
        rubric: the part of the reward that the model was trained on, with its judge.
        panel: judges that were not part of the reward, by name. They grade the same criteria, and compare the completions without them.
            Without `after` there may be none.
        cards: report cards of the panel's judges, as `palate judge-fit` writes them, for grades and for comparisons. That of the rubric's
            own judge is `rubric.calibration`.
        verdict: how the comparison is obtained: the probabilities of the options, the shares of several samples, or a written verdict.
        instructions: what the comparison is about: the name of pairwise instructions that Palate ships, or a file.
        limit: how many prompts are checked, at most; none checks all.
    """

    before: Input
    rubric: RubricReward
    after: Input | None = None
    panel: dict[str, JudgeModelKind] = field(default_factory=dict)
    cards: tuple[Input, ...] = ()
    verdict: VerdictKind = field(default_factory=WrittenVerdict)
    instructions: InstructionsInput = "overall"
    limit: Count | None = None

    def check(self) -> None:
        """Raise ConfigError when there is no other judge, or instructions or models cannot be used."""
        if not self.panel and self.after is not None:
            raise ConfigError("panel is empty: name at least one judge that was not part of the reward")
        instructions = load_instructions(self.instructions)
        if instructions.scale != "pairwise" or instructions.takes_principle:
            raise ConfigError(f"instructions {instructions.id} must compare two completions, and not by a principle")
        for name, model in self.panel.items():
            if name == JUDGE:
                raise ConfigError(f"panel.{name}: that is the name of the judge that was trained against; choose another")
            if model == self.rubric.model:
                raise ConfigError(f"panel.{name} is the judge of the rubric itself, so it would confirm every gain. Name another model")
            model.check(self.verdict.options(instructions), self.verdict.draws)

    def run(self, run: Run) -> None:
        """Write a row per prompt with what every judge says to `regrade.jsonl`, and the comparison to the summary.

        `judgments.jsonl` has the grades as judgments, for `palate agreement`, and for a project in which people grade the same completions.

        Raises:
            ConfigError: a card is about none of the judges, or its judge is not calibrated.
        """
        calibrations = self._calibrations()
        matched = self._matched(run)
        items = {name: item for one in matched for name, item in one.items().items()}
        said: dict[str, WhatJudgeSaid] = {}
        with run.progress(1 + len(self.panel), "regrade") as advance:
            for name, model in {JUDGE: self.rubric.model, **self.panel}.items():
                is_compared = name != JUDGE and self.after is not None
                said[name] = self._asked(run, model, matched, list(items.values()), calibrations, is_compared=is_compared)
                advance(1, name)
        write_exchange(rubric_exchange(run.name, items, {one.rater: one.grades for one in said.values()}), run.directory / JUDGMENTS)
        self._compare(run, matched, said, calibrations)

    def _names(self, model: JudgeModelSettings) -> tuple[str, str]:
        """Return the names of a judge as a rater of criteria, and as one that compares completions."""
        instructions = load_instructions(self.instructions)
        version = instructions.version(self.verdict.kind, reasons_first=False)
        return grader_name(model.model_name, self.rubric.ask), Judge(model.model_name, instructions, None, version).name

    def _calibrations(self) -> dict[str, Calibration | None]:
        """Return what the cards say, by the name of a rater; None for one without a card. Raises ConfigError as `run`."""
        own = self._names(self.rubric.model)[0]
        found = {own: self.rubric.grade_calibration(own, "rubric")}
        graders, comparers = ([self._names(model)[k] for model in self.panel.values()] for k in (0, 1))
        others = [*graders, *(comparers if self.after is not None else ())]
        cards = read_cards(self.cards, others, "cards")
        dimensions = dict.fromkeys(graders, OVERALL) | dict.fromkeys(comparers, load_instructions(self.instructions).dimension or OVERALL)
        return found | {name: cards[name].calibration_of(name, dimensions[name]) if name in cards else None for name in others}

    def _compare(
        self, run: Run, matched: Sequence[MatchedPrompt], said: Mapping[str, WhatJudgeSaid], calibrations: Mapping[str, Calibration | None]
    ) -> None:
        """Write the rows and the summary."""
        verdicts = {name: one.verdicts for name, one in said.items() if name != JUDGE and self.after is not None}
        scores = {
            name: [
                {side: [one.rubric.score(own) for own in grades] for side, grades in by_side.items()}
                for one, by_side in zip(matched, judge.by_prompt, strict=True)
            ]
            for name, judge in said.items()
        }
        reasons = {
            name: [score for by_side in own for side in by_side.values() for score in side if isinstance(score, str)]
            for name, own in scores.items()
        }
        for name, own in reasons.items():
            run.dropped(f"scores by {name}", [reason.split(":")[0] for reason in own])
        for name, cast in verdicts.items():
            run.dropped(f"verdicts by {name}", [vote.kind for votes in cast for vote in votes if isinstance(vote, Abstention)])
        rows = [
            {
                "id": one.prompt.id,
                "prompt": one.prompt.text,
                **{name: [completion.text for completion in side] for name, side in zip(SIDES, one.sides, strict=True)},
                "scores": {name: own[k] for name, own in scores.items()},
                "grades": {name: judge.by_prompt[k] for name, judge in said.items()},
                "pairs": one.pairs,
                "after_wins": {name: list(map(_told, cast[k])) for name, cast in verdicts.items()},
            }
            for k, one in enumerate(matched)
        ]
        write_rows(run.directory / ROWS, rows)
        counts = {name: sum(len(one.sides[number]) for one in matched) for number, name in enumerate(SIDES)}
        without = [name for name, calibration in calibrations.items() if calibration is None]
        status = {one.rater: calibrations[one.rater] is not None for one in said.values()}  # `palate agreement` reads it, and judge-fit
        judges = {"calibrated": any(status.values()), "calibrated_by_judge": status}
        about = {"prompts": len(matched), "completions": counts, UNCALIBRATED: without, "judges": judges}
        figures = {"scores": _means(scores, reasons)} if self.after is None else self._gains(run, scores, verdicts, reasons)
        if without:
            run.say(WITHOUT_CARDS.format(", ".join(without), "it" if len(without) == 1 else "them"))
        run.summary({**about, **figures})

    def _gains(
        self,
        run: Run,
        scores: Mapping[str, list[dict[str, list[Score]]]],
        verdicts: Mapping[str, list[list[float | Abstention]]],
        reasons: Mapping[str, list[str]],
    ) -> dict[str, Any]:
        """Return the comparison for the summary. Raises DataError where nothing can be compared."""
        judged = [
            JudgedGain(
                {name: list(map(_number, own[k]["before"])) for name, own in scores.items()},
                {name: list(map(_number, own[k]["after"])) for name, own in scores.items()},
                {name: list(map(_number, cast[k])) for name, cast in verdicts.items()},
            )
            for k in range(len(scores[JUDGE]))
        ]
        try:
            gains = RubricGains.of(judged, JUDGE, tuple(self.panel))
        except DataError as error:
            raise DataError(f"{error}. For example: {next(filter(None, reasons.values()))[0]}") from error
        for finding in gains.findings:
            run.say(finding)
        return gains.summary()

    def _matched(self, run: Run) -> list[MatchedPrompt]:
        """Return the prompts with all completions of each side and with their rubrics, and record what has no partner.

        Raises:
            DataError: no prompt stands in both, or one has no rubric.
        """
        sides: list[dict[tuple[object, ...], tuple[Prompt, list[Completion]]]] = []
        paths = [path for path in (self.before, self.after) if path is not None]
        for path in paths:
            table = read_samples(file_at(path, "samples.jsonl"))
            every: dict[tuple[object, ...], tuple[Prompt, list[Completion]]] = {}
            for prompt, completions in table.rows:
                every.setdefault(prompt.content, (prompt, []))[1].extend(completions)
            run.dropped(path, [row.kind for row in table.dropped])
            sides.append(every)
        before, after = sides[0], sides[-1]
        common = [key for key in before if key in after][: self.limit]
        for path, own, other in zip(paths, sides, sides[::-1], strict=True):
            run.dropped(path, ["its prompt is not among those of the other side"] * sum(key not in other for key in own))
        if not common:
            both = (
                f"no prompt of {self.before} is among those of {self.after}, with the same columns. Sample both models on the same prompts"
            )
            raise DataError(f"{self.before} holds no completion. Sample some first" if self.after is None else both)
        then: Mapping[tuple[object, ...], tuple[Prompt, list[Completion]]] = (
            after if self.after is not None else {k: (before[k][0], []) for k in common}
        )
        source = self.rubric.source
        source.require([before[key][0] for key in common], "rubric")
        return [
            MatchedPrompt(before[key][0], (tuple(before[key][1]), tuple(then[key][1])), rubric_at(source, before[key][0])) for key in common
        ]

    def _asked(
        self,
        run: Run,
        settings: JudgeModelSettings,
        matched: Sequence[MatchedPrompt],
        items: Sequence[GradingItem],
        calibrations: Mapping[str, Calibration | None],
        *,
        is_compared: bool,
    ) -> WhatJudgeSaid:
        """Return the grades of all completions by one judge, and its verdicts on pairs where it compares; calibrated where it has cards."""
        rater, comparer = self._names(settings)
        pairs = [(one.prompt, one.sides[0][k], one.sides[1][n]) for one in matched for k, n in one.pairs] if is_compared else []
        model = settings.open(run)
        try:
            grades = [calibrated(own, calibrations[rater]) for own in grade_all(model, items, self.rubric.ask)]
            verdicts = iter(second_wins(model, pairs, load_instructions(self.instructions), self.verdict, calibrations.get(comparer)))
        finally:
            model.close()
        ordered = iter(grades)
        by_prompt = [one.by_side(ordered) for one in matched]
        cast = [[next(verdicts) for _ in one.pairs] for one in matched] if is_compared else []
        return WhatJudgeSaid(rater, grades, by_prompt, cast)


def rubric_at(source: RubricSource, prompt: Prompt) -> Rubric:
    """Return the rubric of a prompt that was checked to have one."""
    rubric = source.rubric(prompt)
    assert rubric is not None
    return rubric


def _means(scores: Mapping[str, list[dict[str, list[Score]]]], reasons: Mapping[str, list[str]]) -> dict[str, float]:
    """Return the mean over prompts of the mean score of a prompt's completions, by judge. Raises DataError for one that scored none."""
    means = {}
    for name, own in scores.items():
        each = [known for one in own if (known := [number for score in one[SIDES[0]] if (number := _number(score)) is not None])]
        if not each:
            raise DataError(f"{name} scored no completion, so there is nothing to measure. For example: {reasons[name][0]}")
        means[name] = statistics.fmean(map(statistics.fmean, each))
    return means


def _told(vote: float | Abstention) -> float | str:
    return vote.reason if isinstance(vote, Abstention) else vote


def _number(said: Score | Abstention) -> float | None:
    return None if isinstance(said, str | Abstention) else said
