"""A language model judges without instructions: by how likely it finds a completion, or what people might say to it.

A base model does not follow instructions, but it has read what good answers look like and how people take them. Each completion is scored
alone, so no order has to be averaged.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from palate.config.types import Amount
from palate.core import Comparison, Completion, ConfigError, Judgment, Message, Prompt, RunError
from palate.data.jsonl import write_rows
from palate.judges.function_judge import FunctionJudge
from palate.judges.instruction_files import VERSION_DIGITS, spoken
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.judges.judge_rater import ABSTENTIONS
from palate.judges.judge_summary import JudgeCounts, judge_summary, note_uncalibrated
from palate.judges.local_judge import LocalJudge
from palate.judges.option_tokens import log_sum
from palate.raters.rater import Answered, Ask, refuse_rankings
from palate.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class OwnWriting:
    """How likely the model is to write the completion itself: its mean log-probability per word."""

    kind: Literal["writing"] = "writing"

    def question(self, prompt: Prompt, completion: Completion) -> JudgeQuestion:
        """Return the question whose only option is the completion."""
        return JudgeQuestion(prompt.conversation, (completion.text,))

    def score(self, completion: Completion, reply: JudgeReply) -> float:
        """Return nats per word."""
        return reply.logps[0] / max(len(completion.text.split()), 1)


@dataclass(frozen=True, kw_only=True)
class WhatFollows:
    """How likely good words are to follow the completion, against bad ones: log-odds.

    Attributes:
        text: plain text that the model reads, with {prompt} and {completion}; the words come next.
        good: texts that speak for the completion, such as thanks.
        bad: texts that speak against it, such as the beginning of a complaint.
    """

    kind: Literal["follows"] = "follows"
    text: str
    good: tuple[str, ...]
    bad: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the model would see what it judges, and has a choice."""
        missing = [name for name in ("{prompt}", "{completion}") if name not in self.text]
        if missing:
            raise ConfigError(f"follows: text lacks {' and '.join(missing)}: the model would not see what to judge")
        if not self.good or not self.bad or set(self.good) & set(self.bad):
            raise ConfigError("follows: good and bad must each hold a text, and none in both")

    def question(self, prompt: Prompt, completion: Completion) -> JudgeQuestion:
        """Return the question whose options are the good texts and then the bad ones."""
        values = {"prompt": prompt.text if len(prompt.conversation) == 1 else spoken(prompt.conversation), "completion": completion.text}
        text = re.sub(r"\{(prompt|completion)\}", lambda match: values[match[1]], self.text)
        return JudgeQuestion((Message("text", text),), (*self.good, *self.bad))

    def score(self, completion: Completion, reply: JudgeReply) -> float:  # noqa: ARG002 (other scores need it)
        """Return log P(good) - log P(bad) in nats."""
        places = len(self.good)
        return log_sum(reply.logps[:places]) - log_sum(reply.logps[places:])


@dataclass(frozen=True, kw_only=True)
class LikelihoodRater:
    """A language model that judges by its own probabilities, without instructions, as the rater of stage `collect`.

    Attributes:
        model: the model, in this process, or a function; an endpoint for chat does not tell how likely whole texts are.
        score: what a completion's score is: how likely the model would write it, or what follows.
        name: what raters are called after the model: `model/name@version`; the kind of score by default.
        temperature: nats of difference in score that make odds of e to 1.
    """

    kind: Literal["likelihood"] = "likelihood"
    model: LocalJudge | FunctionJudge
    score: OwnWriting | WhatFollows = field(default_factory=OwnWriting)
    name: str | None = None
    temperature: Amount = 1.0

    def check(self, raters_per_comparison: int, completions: int = 2) -> None:
        """Raise ConfigError for rankings, or when a question needs several raters, because this is one."""
        refuse_rankings("likelihood", completions)
        if raters_per_comparison > 1:
            raise ConfigError(f"raters_per_comparison must be 1, got {raters_per_comparison}: a model's likelihood is one rater")

    def answers(
        self,
        run: Run,
        asks: Sequence[Ask],
        raters_per_comparison: int,  # noqa: ARG002 (the protocol has it)
        rng: random.Random,  # noqa: ARG002 (the protocol has it)
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the questions with a judgment each, whose probability is sigma((score of first - score of second) / temperature).

        All dimensions get the same answer. Completions that the model cannot read go to `abstentions.jsonl`.

        Raises:
            RunError: the model can read none of the pairs.
        """
        model = self.model.open(run)
        rater = f"{model.name}/{self.name or self.score.kind}@{self._version()}"
        counts = JudgeCounts()
        note_uncalibrated(run, "judge", rater, "Measure it with `palate judge-fit`, and set `temperature` by what that says")
        try:
            questions = [self.score.question(comparison.prompt, one) for comparison, _ in asks for one in comparison.completions]
            completions = dict(zip(questions, (one for comparison, _ in asks for one in comparison.completions), strict=True))
            scores: dict[JudgeQuestion, float | NoReply] = {}
            with run.progress(len(completions), "judge") as advance:  # each completion once, however many questions it is in
                for (question, completion), reply in zip(completions.items(), model.replies(list(completions)), strict=True):
                    counts.add(reply)
                    scores[question] = self._score(completion, reply)
                    advance(1)
                    run.check_stop()
        finally:
            model.close()
        answers: list[Answered] = []
        abstentions = []
        for (comparison, dimension), own in zip(asks, zip(questions[::2], questions[1::2], strict=True), strict=True):
            first, second = (scores[question] for question in own)
            if isinstance(first, NoReply) or isinstance(second, NoReply):
                abstentions += [
                    {"comparison": comparison.id, "dimension": dimension, "rater": rater, "completion": place, "kind": one.kind}
                    | {"reason": one.reason}
                    for place, one in enumerate((first, second))
                    if isinstance(one, NoReply)
                ]
            else:
                answers.append(((comparison, dimension), [self._judgment(comparison, dimension, rater, first - second)]))
        write_rows(run.directory / ABSTENTIONS, abstentions)
        if abstentions and not answers:
            raise RunError(f"{rater} scored none of the {len(asks)} pairs, for example: {abstentions[0]['reason']}. Use another model")
        summary, _ = judge_summary(answers, abstentions, counts)
        return answers, {"judges": summary}

    def _score(self, completion: Completion, reply: JudgeReply | NoReply) -> float | NoReply:
        score = reply if isinstance(reply, NoReply) else self.score.score(completion, reply)
        if isinstance(score, NoReply) or math.isfinite(score):
            return score
        return NoReply("the model gives the texts a probability of 0", "invalid")

    def _judgment(self, comparison: Comparison, dimension: str, rater: str, gap: float) -> Judgment:
        probability = 1 / (1 + math.exp(-max(min(gap / self.temperature, 500.0), -500.0)))
        ranking: tuple[tuple[int, ...], ...] = ((0, 1),) if gap == 0 else ((0,), (1,)) if gap > 0 else ((1,), (0,))
        return Judgment(comparison.id, rater, ranking, dimension, None, abs(gap), probability=probability)

    def _version(self) -> str:
        """Return eight hex digits of the digest of what the model is asked."""
        text = json.dumps(
            [self.score.kind, *([self.score.text, self.score.good, self.score.bad] if isinstance(self.score, WhatFollows) else [])]
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:VERSION_DIGITS]
