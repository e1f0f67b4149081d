"""Models that judge as the raters of stage `collect`: each model with its instructions, and a principle if there is one, is a rater."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.types import Input, Share
from palate.core import Comparison, ConfigError, DataError, Judgment, RunError
from palate.data.jsonl import Row, write_rows
from palate.data.judge_names import judge_of
from palate.data.marks import MARKS
from palate.judges.clamp import check_clamp, clamped
from palate.judges.constitution import ConstitutionInput, Principle, drawn_by_weight, known_constitution, load_constitution
from palate.judges.instruction_files import Instructions, InstructionsInput, load_instructions
from palate.judges.judge_card import Calibration, read_card
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModel, JudgeQuestion, JudgeReply, NoReply
from palate.judges.judge_orders import OrderDesign, orders_of
from palate.judges.judge_summary import JudgeCounts, judge_summary, note_uncalibrated
from palate.judges.judge_views import Judge, JudgeView, abstention_row, judgment_of_judge, mark_row
from palate.judges.judged_rankings import ranking_of_judge, ranking_rows
from palate.judges.verdicts import (
    Abstention,
    JudgeReading,
    OptionProbabilities,
    RankingReading,
    VerdictKind,
    answer_of,
    better,
    smoothed,
)
from palate.raters.rater import Answered, Ask
from palate.runs.run import Run

ABSTENTIONS = "abstentions.jsonl"
RANKINGS = "rankings.jsonl"

Reading = JudgeReading | RankingReading | Abstention

FAILURES_AT_START = 16
"""When this many requests have failed and none was answered, the run stops at once."""


@dataclass(frozen=True, kw_only=True)
class JudgeRater:
    """A model that judges, as the rater of stage `collect`. It sees each pair in both orders, and more completions in several.

    Attributes:
        model: the model: behind an OpenAI-compatible API, or a Python function.
        instructions: names of instructions that Palate ships, or paths of files. By default those with the name of the dimension, for
            rankings with `-ranking` after it. A question is asked with those that are about its dimension.
        verdict: how the verdict is obtained: the probabilities of the options, the shares of several samples, or a written verdict.
        reasons_first: the judge reasons before its verdict.
        orders: orders in which three completions or more are shown: balanced, in which each stands in each place equally often, or an order
            and its reverse (reversed), which costs less and leaves a habit for the first place in the labels.
        clamp: least and largest probability of an answer; after reasons, Constitutional AI takes 0.4 and 0.6.
        principles: a constitution's file. Each question is asked under `raters_per_comparison` principles of its dimension, drawn by
            their weights.
        calibration: the report card of this judge, as `palate judge-fit` writes it; its temperature and threshold turn the judge's
            probabilities into the shares of people who say the same.
        max_failed: largest share of requests without an answer, such as of a server that is down. With more the run stops.
    """

    kind: Literal["judge"] = "judge"
    model: JudgeModelKind
    instructions: tuple[InstructionsInput, ...] = ()
    verdict: VerdictKind = field(default_factory=OptionProbabilities)
    reasons_first: bool = False
    orders: OrderDesign = "balanced"
    clamp: tuple[float, float] = (0.0, 1.0)
    principles: ConstitutionInput | None = None
    calibration: Input | None = None
    max_failed: Share = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clamp(self.clamp)

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
        """Raise ConfigError when instructions do not exist or the model cannot answer them, before anything is asked."""
        for name in self.instructions or (() if self.principles is None else (_named("principle", completions),)):
            self._check_instructions(load_instructions(name), completions)
        constitution = known_constitution(self.principles)
        if constitution is not None:
            for dimension in dimensions:
                constitution.about(dimension)
        elif self.principles is not None:
            return  # an earlier stage writes the file; `answers` checks the rest
        most = max(len(self.instructions), 1) * (1 if constitution is None else len(constitution.principles))
        if raters_per_comparison > most:
            raise ConfigError(
                f"raters_per_comparison must be at most {most}, the number of instructions times principles, got {raters_per_comparison}: "
                "a judge answers a question once, in both orders"
            )

    def _check_instructions(self, instructions: Instructions, completions: int) -> None:
        if (instructions.scale == "ranking") != (completions > 2):
            remedy = "use instructions with scale: ranking" if completions > 2 else "set completions_per_comparison to 3 or more"
            problem = f"instructions {instructions.id} have scale: {instructions.scale}, and {completions} completions are compared at once"
            raise ConfigError(f"{problem}; {remedy}")
        if instructions.scale == "ranking" and completions > len(instructions.options):
            most = len(instructions.options)
            raise ConfigError(f"instructions {instructions.id} have {most} labels (options) for {completions} completions; add labels")
        if self.principles is not None and not instructions.takes_principle:
            raise ConfigError(f"instructions {instructions.id} have no place for a principle; write {{principle}} into the text")
        if self.principles is None and instructions.takes_principle:
            raise ConfigError(f"instructions {instructions.id} ask about a principle; name a constitution in principles")
        self.model.check(self.verdict.options(instructions, completions), self.verdict.draws)

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the questions that judges answered, and `judges`: what was asked, what that cost, and how steady the answers are.

        Abstentions go to `abstentions.jsonl`, marks of single completions to `marks.jsonl`, mean ranks to `rankings.jsonl`.

        Raises:
            ConfigError: there are no instructions for a dimension, or the card is another judge's.
            RunError: the budget is spent, or too many requests failed. The same command goes on from there.
        """
        model = self.model.open(run)
        try:
            chosen = self._chosen(model.name, asks, raters_per_comparison, rng)
            calibrations = self._calibrations(run, asks, chosen)
            shown = [
                [(judge, self._views(judge, comparison)) for judge in judges] for (comparison, _), judges in zip(asks, chosen, strict=True)
            ]
            views = list(dict.fromkeys(view for by_judge in shown for _, own in by_judge for view in own.values()))
            counts = JudgeCounts()
            readings = dict(zip(views, self._readings(run, model, views, counts), strict=True))
        finally:
            model.close()
        answers: list[Answered] = []
        abstentions, ranks = list[Row](), list[Row]()
        for (comparison, dimension), by_judge in zip(asks, shown, strict=True):
            judgments: list[Judgment] = []
            for judge, own in by_judge:
                said = {order: readings[view] for order, view in own.items()}
                missing = [(order, one) for order, one in said.items() if isinstance(one, Abstention)]
                if missing:
                    abstentions += [abstention_row(comparison, dimension, judge, order, one) for order, one in missing]
                else:
                    judgments += self._judgments(comparison, dimension, judge, said, calibrations.get((judge.name, dimension)))
            if judgments:
                answers.append(((comparison, dimension), judgments))
                ranks += ranking_rows(comparison, dimension, judgments) if len(comparison.completions) > 2 else []
        write_rows(run.directory / ABSTENTIONS, abstentions)
        marks = [mark_row(view, one) for view, one in readings.items() if view.is_alone and not isinstance(one, RankingReading)]
        if marks:
            write_rows(run.directory / MARKS, marks)
        if ranks:
            write_rows(run.directory / RANKINGS, ranks)
        if not answers:
            raise DataError(
                f"the judge abstained on all {len(asks)} questions, for example: {abstentions[0]['reason']}. {run.directory / ABSTENTIONS} "
                "has all reasons. Correct the instructions, from.verdict or the model"
            )
        summary, warnings = judge_summary(answers, abstentions, counts, is_calibrated=self.calibration is not None)
        for warning in warnings:
            run.say(warning)
        return answers, {"judges": summary}

    def _calibrations(self, run: Run, asks: Sequence[Ask], chosen: Sequence[Sequence[Judge]]) -> dict[tuple[str, str], Calibration]:
        """Return what the card says, by judge and dimension. Raises ConfigError where it is not about one of them."""
        asked = dict.fromkeys((judge.name, dimension) for (_, dimension), judges in zip(asks, chosen, strict=True) for judge in judges)
        if self.calibration is None:
            for judge in dict.fromkeys(judge_of(name) for name, _ in asked):
                note_uncalibrated(run, "judge", judge)
            return {}
        card = read_card(Path(self.calibration))
        return {(name, dimension): card.calibration_of(name, dimension) for name, dimension in asked}

    def _chosen(self, model: str, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random) -> list[list[Judge]]:
        """Return the judges of each question, drawn from those of its dimension by the weights of their principles."""
        most = max(len(comparison.completions) for comparison, _ in asks)
        pools = {dimension: self._pool(model, dimension, most) for dimension in dict.fromkeys(dimension for _, dimension in asks)}
        for dimension, pool in pools.items():
            if raters_per_comparison > len(pool):
                raise ConfigError(
                    f"raters_per_comparison is {raters_per_comparison}; {dimension} has {len(pool)} judges, instructions times principles"
                )
        chosen: list[list[Judge]] = []
        for _, dimension in asks:
            weighted = [(judge, 1.0 if judge.principle is None else judge.principle.weight) for judge in pools[dimension]]
            chosen.append(drawn_by_weight(weighted, raters_per_comparison, rng))
        return chosen

    def _pool(self, model: str, dimension: str, completions: int) -> list[Judge]:
        """Return the judges of a dimension: its instructions, each with each of its principles."""
        constitution = None if self.principles is None else load_constitution(self.principles)
        names = self.instructions or (_named(dimension if constitution is None else "principle", completions),)
        fitting = [one for one in map(load_instructions, names) if one.dimension in (None, dimension)]
        if not fitting:
            raise ConfigError(f"from.instructions: none of {', '.join(names)} is about {dimension}. Add instructions with that dimension")
        principles: Sequence[Principle | None] = [None] if constitution is None else constitution.about(dimension)
        judges: list[Judge] = []
        for one in fitting:
            self._check_instructions(one, completions)
            version = one.version(self.verdict.kind, reasons_first=self.reasons_first)
            judges += [Judge(model, one, principle, version) for principle in principles]
        return judges

    def _readings(self, run: Run, model: JudgeModel, views: Sequence[JudgeView], counts: JudgeCounts) -> list[Reading]:
        """Ask about each view and return what was said, in order."""
        reasons: list[JudgeReply | NoReply | None] = [None] * len(views)
        is_written = not isinstance(self.verdict, OptionProbabilities)
        total = len(views) * (self.verdict.draws + (self.reasons_first and not is_written))
        with run.progress(total, "judge") as advance:

            def replies(questions: Sequence[JudgeQuestion]) -> list[JudgeReply | NoReply]:
                got: list[JudgeReply | NoReply] = []
                stream = model.replies(questions)
                for reply in stream:
                    got.append(reply)
                    counts.add(reply)
                    self._check_failures(counts, total)
                    advance(1)
                    run.check_stop()
                return got

            if self.reasons_first and not is_written:
                reasons = [*replies([JudgeQuestion(view.asked) for view in views])]
            readings: list[Reading | None] = [_no_reasons(reply) for reply in reasons]
            open_views = [k for k, reading in enumerate(readings) if reading is None]
            questions = [question for k in open_views for question in self._questions(views[k], reasons[k])]
            got = replies(questions)
            draws = self.verdict.draws
            for place, k in enumerate(open_views):
                readings[k] = views[k].read(self.verdict, got[place * draws : (place + 1) * draws])
        return [reading for reading in readings if reading is not None]

    def _views(self, judge: Judge, comparison: Comparison) -> dict[tuple[int, ...], JudgeView]:
        """Return what a judge is shown, by the numbers of the completions shown: several orders, or each completion alone."""
        completions, instructions = comparison.completions, judge.instructions
        orders = orders_of(len(completions), self.orders)
        if instructions.scale == "pointwise":
            orders = tuple((k,) for k in range(len(completions)))
        views = {}
        for order in orders:
            shown, mode = tuple(completions[k] for k in order), self.verdict.kind
            asked = instructions.question(comparison.prompt, shown, judge.principle_text, reasons_first=self.reasons_first, mode=mode)
            views[order] = JudgeView(judge, asked, comparison.prompt, shown)
        return views

    def _questions(self, view: JudgeView, reasons: JudgeReply | NoReply | None) -> list[JudgeQuestion]:
        """Return the questions whose replies make the reading of a view."""
        instructions, asked, count = view.judge.instructions, view.asked, len(view.completions)
        if isinstance(reasons, JudgeReply):
            asked = instructions.verdict_question(asked, answer_of(reasons.text).strip(), view.judge.principle_text, count)
        options = self.verdict.options(instructions, count)
        return [JudgeQuestion(asked, options, draw) for draw in range(self.verdict.draws)]

    def _check_failures(self, counts: JudgeCounts, total: int) -> None:
        """Stop when the budget is spent, when nothing is answered at the start, or when too many of `total` requests have failed."""
        goes_on = "Answers are kept in the ledger, and the same command goes on from there"
        if counts.budget:
            raise RunError(f"{counts.budget}. {counts.answered} of {total} requests are answered. Raise from.model.budget. {goes_on}")
        is_dead = not counts.answered and counts.failed >= min(FAILURES_AT_START, total)
        if is_dead or counts.failed > max(self.max_failed * total, 1):
            raise RunError(
                f"the judge gave no answer to {counts.failed} of {counts.requests} requests, for example: {counts.failure}. {goes_on}"
            )

    def _judgments(
        self,
        comparison: Comparison,
        dimension: str,
        judge: Judge,
        said: Mapping[tuple[int, ...], Reading],
        calibration: Calibration | None,
    ) -> list[Judgment]:
        """Return a judgment per order; of marks one judgment, whose order nobody saw."""

        def share(probability: float) -> float:
            inside = clamped(probability, self.clamp)
            return inside if calibration is None else calibration.of_probability(inside)

        if judge.instructions.scale == "pointwise":
            first, second = (one for one in said.values() if isinstance(one, JudgeReading))
            probability = share(better(first, second))
            gap = abs(first.mean - second.mean)
            return [judgment_of_judge(comparison, dimension, judge, None, probability, strength=gap)]
        judgments = []
        for order, one in said.items():
            if isinstance(one, RankingReading):
                judgments.append(ranking_of_judge(comparison, dimension, judge, order, one, share))
            elif isinstance(one, JudgeReading):
                judgments.append(judgment_of_judge(comparison, dimension, judge, order, share(smoothed(one.mean, one.votes))))
        return judgments


def _named(name: str, completions: int) -> str:
    """Return the name of the shipped instructions for comparing so many completions."""
    return f"{name}-ranking" if completions > 2 else name


def _no_reasons(reply: JudgeReply | NoReply | None) -> Abstention | None:
    """Return why reasons cannot be used; None where there are none to give, or they are whole."""
    if isinstance(reply, NoReply):
        return Abstention(reply.kind, reply.reason)
    if reply is not None and reply.cut:
        return Abstention("cut", f"the reasons were cut off (finish_reason: {reply.cut}); raise max_tokens: {reply.text[-80:]!r}")
    return None
