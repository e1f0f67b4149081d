"""Stage `regrade`: ask judges that were not trained against whether a gain on a rubric is real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from palate.config.answers import Score
from palate.config.artifacts import file_at
from palate.config.types import Count, Input
from palate.core import Completion, ConfigError, DataError, Prompt
from palate.data.exchange import write_exchange
from palate.data.formats import read_samples
from palate.data.jsonl import write_rows
from palate.data.rubric_files import RubricSource
from palate.data.rubrics import Rubric
from palate.evaluation.rubric_gains import JudgedGain, RubricGains
from palate.judges.both_orders import second_wins
from palate.judges.instruction_files import InstructionsInput, load_instructions
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModelSettings
from palate.judges.rubric_exchange import grader_name, rubric_exchange
from palate.judges.rubric_grading import Grades, GradingItem, grade_all
from palate.judges.verdicts import Abstention, VerdictKind, WrittenVerdict
from palate.rewards.rubric import RubricReward
from palate.runs.run import Run

JUDGE = "judge"
"""What rows and summary call the judge that was trained against."""

ROWS = "regrade.jsonl"

JUDGMENTS = "judgments.jsonl"

Matched = tuple[Prompt, Completion, Completion]


@dataclass(frozen=True)
class WhatJudgeSaid:
    """The grades of all completions by one judge, those before first, and how likely it finds each later completion the better one."""

    rater: str
    grades: list[Grades]
    verdicts: list[float | Abstention]


@dataclass(frozen=True)
class Regrade:
    """Ask other judges whether a gain on a rubric is real.

    Attributes:
        before: completions of the model before it was trained on the rubric, as `sample` writes them, with the prompts' columns.
        after: completions of the same prompts by the model after.
        rubric: the part of the reward that the model was trained on, with its judge.
        panel: judges that were not part of the reward, by name. They grade the same criteria, and compare the completions without them.
        verdict: how the comparison is obtained: the probabilities of the options, the shares of several samples, or a written verdict.
        instructions: what the comparison is about: the name of pairwise instructions that Palate ships, or a file.
        limit: how many prompts are checked, at most; none checks all.
    """

    before: Input
    after: Input
    rubric: RubricReward
    panel: dict[str, JudgeModelKind]
    verdict: VerdictKind = field(default_factory=WrittenVerdict)
    instructions: InstructionsInput = "overall"
    limit: Count | None = None

    def check(self) -> None:
        """Raise ConfigError when there is no other judge, or instructions or models cannot be used."""
        if not self.panel:
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
        """
        matched = self._matched(run)
        source = self.rubric.source
        source.require([prompt for prompt, _, _ in matched], "rubric")
        rubrics = [rubric_at(source, prompt) for prompt, _, _ in matched]
        both = list(zip(matched, rubrics, strict=True))
        items = {f"{prompt.id}/before": GradingItem(prompt, before, rubric) for (prompt, before, _), rubric in both}
        items |= {f"{prompt.id}/after": GradingItem(prompt, after, rubric) for (prompt, _, after), rubric in both}
        said: dict[str, WhatJudgeSaid] = {}
        with run.progress(1 + len(self.panel), "regrade") as advance:
            for name, model in {JUDGE: self.rubric.model, **self.panel}.items():
                said[name] = self._asked(run, model, list(items.values()), [] if name == JUDGE else matched)
                advance(1, name)
        write_exchange(rubric_exchange(run.name, items, {one.rater: one.grades for one in said.values()}), run.directory / JUDGMENTS)
        self._compare(run, matched, rubrics, said)

    def _compare(self, run: Run, matched: Sequence[Matched], rubrics: Sequence[Rubric], said: Mapping[str, WhatJudgeSaid]) -> None:
        """Write the rows and the summary."""
        count = len(matched)
        grades = {name: (one.grades[:count], one.grades[count:]) for name, one in said.items()}
        scores = {
            name: [[rubric.score(own) for rubric, own in zip(rubrics, side, strict=True)] for side in sides]
            for name, sides in grades.items()
        }
        verdicts = {name: one.verdicts for name, one in said.items() if name != JUDGE}
        for name, sides in scores.items():
            run.dropped(f"scores by {name}", [score.split(":")[0] for side in sides for score in side if isinstance(score, str)])
        for name, cast in verdicts.items():
            run.dropped(f"verdicts by {name}", [vote.kind for vote in cast if isinstance(vote, Abstention)])
        rows = [
            {
                "id": prompt.id,
                "prompt": prompt.text,
                "before": before.text,
                "after": after.text,
                "scores": {name: {"before": sides[0][k], "after": sides[1][k]} for name, sides in scores.items()},
                "grades": {name: {"before": sides[0][k], "after": sides[1][k]} for name, sides in grades.items()},
                "after_wins": {name: _told(cast[k]) for name, cast in verdicts.items()},
            }
            for k, (prompt, before, after) in enumerate(matched)
        ]
        write_rows(run.directory / ROWS, rows)
        judged = [
            JudgedGain(
                {name: _number(sides[0][k]) for name, sides in scores.items()},
                {name: _number(sides[1][k]) for name, sides in scores.items()},
                {name: _number(cast[k]) for name, cast in verdicts.items()},
            )
            for k in range(len(matched))
        ]
        try:
            gains = RubricGains.of(judged, JUDGE, tuple(self.panel))
        except DataError as error:
            reasons = [score for sides in scores.values() for side in sides for score in side if isinstance(score, str)]
            raise DataError(f"{error}. For example: {reasons[0]}") from error
        for finding in gains.findings:
            run.say(finding)
        run.summary({"prompts": len(matched), **gains.summary()})

    def _matched(self, run: Run) -> list[Matched]:
        """Return the prompts with the first completion of each side, and record what has no partner.

        Raises:
            DataError: no prompt stands in both.
        """
        sides: list[dict[tuple[object, ...], tuple[Prompt, Completion]]] = []
        for path in (self.before, self.after):
            table = read_samples(file_at(path, "samples.jsonl"))
            first: dict[tuple[object, ...], tuple[Prompt, Completion]] = {}
            for prompt, (completion, *_) in table.rows:
                first.setdefault(prompt.content, (prompt, completion))
            run.dropped(path, [row.kind for row in table.dropped])
            sides.append(first)
        before, after = sides
        common = [key for key in before if key in after][: self.limit]
        for path, own, other in ((self.before, before, after), (self.after, after, before)):
            run.dropped(path, ["its prompt is not among those of the other side"] * sum(key not in other for key in own))
        if not common:
            raise DataError(
                f"no prompt of {self.before} is among those of {self.after}, with the same columns. Sample both models on the same prompts"
            )
        return [(before[key][0], before[key][1], after[key][1]) for key in common]

    def _asked(self, run: Run, settings: JudgeModelSettings, items: Sequence[GradingItem], compared: Sequence[Matched]) -> WhatJudgeSaid:
        """Return the grades of all completions by one judge, and its verdicts on those that it compares."""
        model = settings.open(run)
        try:
            grades = grade_all(model, items, self.rubric.ask)
            verdicts = second_wins(model, compared, load_instructions(self.instructions), self.verdict)
            return WhatJudgeSaid(grader_name(model.name), grades, verdicts)
        finally:
            model.close()


def rubric_at(source: RubricSource, prompt: Prompt) -> Rubric:
    """Return the rubric of a prompt that was checked to have one."""
    rubric = source.rubric(prompt)
    assert rubric is not None
    return rubric


def _told(vote: float | Abstention) -> float | str:
    return vote.reason if isinstance(vote, Abstention) else vote


def _number(said: Score | Abstention) -> float | None:
    return None if isinstance(said, str | Abstention) else said
