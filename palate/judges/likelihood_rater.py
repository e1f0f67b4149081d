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

from palate.config.read import dump_config
from palate.config.types import Amount
from palate.core import Comparison, Completion, ConfigError, Conversation, Judgment, Message, Prompt, RunError
from palate.data.jsonl import write_rows
from palate.data.judge_names import judge_of
from palate.judges.clamp import check_clamp, clamped
from palate.judges.constitution import Constitution, ConstitutionInput, drawn_by_weight, known_constitution, load_constitution
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

    def question(self, prompt: Prompt, completion: Completion, principle: str) -> JudgeQuestion:  # noqa: ARG002 (other scores need it)
        """Return the question whose only option is the completion."""
        return JudgeQuestion(prompt.conversation, (completion.text,))

    def score(self, completion: Completion, reply: JudgeReply) -> float:
        """Return nats per word."""
        return reply.logps[0] / max(len(completion.text.split()), 1)


@dataclass(frozen=True, kw_only=True)
class WhatFollows:
    """How likely good words are to follow the completion, against bad ones: log-odds.

    Attributes:
        text: plain text that the model reads, with {prompt}, {completion} and, where there are principles, {principle}; the words come
            next.
        good: texts that speak for the completion, such as thanks.
        bad: texts that speak against it, such as the beginning of a complaint.
    """

    kind: Literal["follows"] = "follows"
    text: str
    good: tuple[str, ...]
    bad: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the model would see what it judges, and has a choice."""
        _check_text(self.kind, self.text)
        if not self.good or not self.bad or set(self.good) & set(self.bad):
            raise ConfigError("follows: good and bad must each hold a text, and none in both")

    def question(self, prompt: Prompt, completion: Completion, principle: str) -> JudgeQuestion:
        """Return the question whose options are the good texts and then the bad ones."""
        return JudgeQuestion(_filled(self.text, prompt, completion, principle), (*self.good, *self.bad))

    def score(self, completion: Completion, reply: JudgeReply) -> float:  # noqa: ARG002 (other scores need it)
        """Return log P(good) - log P(bad) in nats."""
        places = len(self.good)
        return log_sum(reply.logps[:places]) - log_sum(reply.logps[places:])


@dataclass(frozen=True, kw_only=True)
class WhatIsNamed:
    """How unlikely the model is to go on with a word of the completion, where its text ends in a complaint that is left open.

    A complaint for which the completion gives cause names something in it. Whether there is cause at all is not asked: a model may see
    what is wrong and still not know how often guests complain.

    Attributes:
        text: plain text that the model reads, with {prompt}, {completion} and, where there are principles, {principle}; a word comes next.
    """

    kind: Literal["named"] = "named"
    text: str

    def __post_init__(self) -> None:
        """Check that the model would see what it judges."""
        _check_text(self.kind, self.text)

    def question(self, prompt: Prompt, completion: Completion, principle: str) -> JudgeQuestion:
        """Return the question whose options are the different words of the completion; a model refuses the one option of an empty one."""
        words = dict.fromkeys(completion.text.split())
        return JudgeQuestion(_filled(self.text, prompt, completion, principle), tuple(f" {word}" for word in words) or ("",))

    def score(self, completion: Completion, reply: JudgeReply) -> float:  # noqa: ARG002 (other scores need it)
        """Return -log P(any word of the completion) in nats."""
        return -log_sum(reply.logps)


Scoring = OwnWriting | WhatFollows | WhatIsNamed


def _check_text(kind: str, text: str) -> None:
    """Raise ConfigError where the model would not see prompt and completion."""
    missing = [name for name in ("{prompt}", "{completion}") if name not in text]
    if missing:
        raise ConfigError(f"{kind}: text lacks {' and '.join(missing)}: the model would not see what to judge")


def _filled(text: str, prompt: Prompt, completion: Completion, principle: str) -> Conversation:
    """Return what the model reads: the text with what its places stand for, filled in one pass."""
    asked = prompt.text if len(prompt.conversation) == 1 else spoken(prompt.conversation)
    values = {"prompt": asked, "completion": completion.text, "principle": principle}
    return (Message("text", re.sub(r"\{(prompt|completion|principle)\}", lambda match: values[match[1]], text)),)


@dataclass(frozen=True, slots=True)
class _Voice:
    """One rater: its name, and what its principle asks."""

    name: str
    principle: str


@dataclass(frozen=True, kw_only=True)
class LikelihoodRater:
    """A language model that judges by its own probabilities, without instructions, as the rater of stage `collect`.

    Attributes:
        model: the model, in this process, or a function; an endpoint for chat does not tell how likely whole texts are.
        score: what a completion's score is: how likely the model would write it, what follows, or what a complaint names.
        principles: a constitution's file. Each question is asked under `raters_per_comparison` principles of its dimension, drawn by
            their weights; each is a rater, and its `text` stands for {principle} in `score.text`.
        name: what raters are called after the model: `model/name@version`, with `#principle`; the kind of score by default.
        temperature: nats of difference in score that make odds of e to 1.
        clamp: least and largest probability of an answer.
    """

    kind: Literal["likelihood"] = "likelihood"
    model: LocalJudge | FunctionJudge
    score: Scoring = field(default_factory=OwnWriting)
    principles: ConstitutionInput | None = None
    name: str | None = None
    temperature: Amount = 1.0
    clamp: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clamp(self.clamp)
        takes = not isinstance(self.score, OwnWriting) and "{principle}" in self.score.text
        if takes and self.principles is None:
            raise ConfigError("score.text asks about a {principle}; name a constitution in principles")
        if self.principles is not None and not takes:
            raise ConfigError(
                "score has no place for a principle; set score.kind to follows or named, and write {principle} into score.text"
            )

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:
        """Raise ConfigError for rankings, or when a dimension has fewer principles than raters; without principles it has one rater."""
        refuse_rankings("likelihood", completions)
        constitution = known_constitution(self.principles)
        if constitution is None and self.principles is not None:
            return  # an earlier stage writes the file; `answers` checks the rest
        for dimension in dimensions:
            _voices(constitution, dimension, raters_per_comparison, "")

    def answers(
        self, run: Run, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the questions with a judgment per rater, of probability sigma((score of first - score of second) / temperature).

        Without principles all dimensions get the same answer. Completions that the model cannot read go to `abstentions.jsonl`.

        Raises:
            ConfigError: a dimension has too few principles.
            RunError: the model can read none of the pairs.
        """
        model = self.model.open(run)
        counts = JudgeCounts()
        try:
            chosen = self._chosen(model.name, asks, raters_per_comparison, rng)
            for name in dict.fromkeys(judge_of(voice.name) for own in chosen for voice in own):
                note_uncalibrated(run, "judge", name, "Measure it with `palate judge-fit`, and set `temperature` by what that says")
            shown = [
                [(voice, [self.score.question(comparison.prompt, one, voice.principle) for one in comparison.completions]) for voice in own]
                for (comparison, _), own in zip(asks, chosen, strict=True)
            ]
            # Each completion is asked about once per principle, however many pairs it is in.
            completions = {
                question: completion
                for (comparison, _), own in zip(asks, shown, strict=True)
                for _, both in own
                for question, completion in zip(both, comparison.completions, strict=True)
            }
            scores: dict[JudgeQuestion, float | NoReply] = {}
            with run.progress(len(completions), "judge") as advance:
                for (question, completion), reply in zip(completions.items(), model.replies(list(completions)), strict=True):
                    counts.add(reply)
                    scores[question] = self._score(completion, reply)
                    advance(1)
                    run.check_stop()
        finally:
            model.close()
        answers: list[Answered] = []
        abstentions: list[dict[str, object]] = []
        for (comparison, dimension), own in zip(asks, shown, strict=True):
            judgments: list[Judgment] = []
            for voice, both in own:
                first, second = (scores[question] for question in both)
                if isinstance(first, NoReply) or isinstance(second, NoReply):
                    abstentions += [
                        {"comparison": comparison.id, "dimension": dimension, "rater": voice.name, "completion": place, "kind": one.kind}
                        | {"reason": one.reason}
                        for place, one in enumerate((first, second))
                        if isinstance(one, NoReply)
                    ]
                else:
                    judgments.append(self._judgment(comparison, dimension, voice.name, first - second))
            if judgments:
                answers.append(((comparison, dimension), judgments))
        write_rows(run.directory / ABSTENTIONS, abstentions)
        if abstentions and not answers:
            one = abstentions[0]
            raise RunError(f"{one['rater']} scored none of the {len(asks)} pairs, for example: {one['reason']}. Use another model")
        summary, _ = judge_summary(answers, abstentions, counts)
        return answers, {"judges": summary}

    def _chosen(self, model: str, asks: Sequence[Ask], raters_per_comparison: int, rng: random.Random) -> list[list[_Voice]]:
        """Return the raters of each question, drawn from the principles of its dimension by their weights."""
        constitution = None if self.principles is None else load_constitution(self.principles)
        name = f"{model}/{self.name or self.score.kind}@{self._version(constitution)}"
        dimensions = dict.fromkeys(dimension for _, dimension in asks)
        pools = {dimension: _voices(constitution, dimension, raters_per_comparison, name) for dimension in dimensions}
        return [drawn_by_weight(pools[dimension], raters_per_comparison, rng) for _, dimension in asks]

    def _score(self, completion: Completion, reply: JudgeReply | NoReply) -> float | NoReply:
        score = reply if isinstance(reply, NoReply) else self.score.score(completion, reply)
        if isinstance(score, NoReply) or math.isfinite(score):
            return score
        return NoReply("the model gives the texts a probability of 0", "invalid")

    def _judgment(self, comparison: Comparison, dimension: str, rater: str, gap: float) -> Judgment:
        probability = clamped(1 / (1 + math.exp(-max(min(gap / self.temperature, 500.0), -500.0))), self.clamp)
        ranking: tuple[tuple[int, ...], ...] = ((0, 1),) if gap == 0 else ((0,), (1,)) if gap > 0 else ((1,), (0,))
        return Judgment(comparison.id, rater, ranking, dimension, None, abs(gap), probability=probability)

    def _version(self, constitution: Constitution | None) -> str:
        """Return eight hex digits of the digest of what the model is asked."""
        text = json.dumps([*dump_config(self.score).values(), *([] if constitution is None else [constitution.version])])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:VERSION_DIGITS]


def _voices(constitution: Constitution | None, dimension: str, count: int, name: str) -> list[tuple[_Voice, float]]:
    """Return the raters of a dimension with their weights. Raises ConfigError where they are fewer than `count`."""
    if constitution is None:
        voices, what = [(_Voice(name, ""), 1.0)], "a model's likelihood is one rater"
    else:
        voices = [(_Voice(f"{name}#{one.id}", one.text), one.weight) for one in constitution.about(dimension)]
        what = f"{constitution.name} has no more principles about {dimension}, and each is a rater"
    if count > len(voices):
        raise ConfigError(f"raters_per_comparison must be at most {len(voices)}, got {count}: {what}")
    return voices
