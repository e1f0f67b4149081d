"""From a question to the answers that are sent: check the question, draw, check the answers, rank them, and keep what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from palate.core import Completion, ConfigError, Prompt, derive_seed
from palate.serving.answer_scores import AnswerScorer
from palate.serving.answer_sources import AnswerSource, DrawnAnswer, DrawPlan, OpenDraw, TextDelta, drawn_answers
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import DrawBody
from palate.serving.audit_log import AuditLog, InferenceLog
from palate.serving.content_rules import ContentRules
from palate.serving.prompt_questions import PromptQuestion
from palate.serving.replies import SentAnswer
from palate.serving.retrieval import PassageFinder, with_passages

OnBreach = Literal["refuse", "regenerate"]


@dataclass(frozen=True)
class FilterSettings:
    """What happens to a text that breaks a rule.

    Attributes:
        on_breach: an answer is refused at once, or drawn again first.
        attempts: how often an answer is drawn again, at most.
        refusal: the text that is sent in place of an answer.
    """

    on_breach: OnBreach = "refuse"
    attempts: int = 2
    refusal: str = "I cannot answer that."

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.attempts < 1:
            raise ConfigError(f"attempts is {self.attempts}: draw again at least once, or refuse at once (on_breach refuse)")
        if not self.refusal.strip():
            raise ConfigError("refusal is empty: give the text that is sent in place of an answer")


@dataclass(frozen=True)
class ServedModel:
    """A model that answers, with what stands before and behind it.

    Attributes:
        name: its name in the API.
        source: draws answers for all requests.
        scorer: ranks answers; None without a reward model.
        input_rules: rules that questions must keep.
        output_rules: rules that answers must keep.
        filters: what happens to a text that breaks one.
        audit: keeps every decision.
        inferences: keeps every answer.
        finder: finds passages for the questions of chats; None where nothing is added.
    """

    name: str
    source: AnswerSource
    scorer: AnswerScorer | None = None
    input_rules: ContentRules | None = None
    output_rules: ContentRules | None = None
    filters: FilterSettings = FilterSettings()
    audit: AuditLog | None = None
    inferences: InferenceLog | None = None
    finder: PassageFinder | None = None

    async def chat_question(self, prompt: Prompt) -> PromptQuestion:
        """Return the question of a chat, with what was found for it; what was added is in the audit log. Raises ApiError."""
        if self.finder is None:
            return self.source.chat_question(prompt)
        passages = await self.finder.passages(prompt)
        if self.audit is not None:
            self.audit.write_passages(prompt, passages)
        return replace(self.source.chat_question(with_passages(prompt, passages)), before=prompt)

    def close_models(self) -> None:
        """End the threads of the source and of the reward model."""
        self.source.close()
        if self.scorer is not None:
            self.scorer.close()

    def close(self) -> None:
        """End threads and programs, and write everything to the disk."""
        self.close_models()
        for part in (self.input_rules, self.output_rules, self.audit, self.inferences):
            if part is not None:
                part.close()


class Asked:
    """One question under way, with the request that it belongs to."""

    def __init__(self, model: ServedModel, question: PromptQuestion, body: DrawBody, seed: int, number: int = 0, *, key: str = "") -> None:
        """Check what the request wants of this model.

        Args:
            model: answers.
            question: the question.
            body: how to answer.
            seed: seeds all that is drawn.
            number: the number of the question in its request.
            key: the name of the key that the request came with.

        Raises:
            ApiError: the model cannot do it.
        """
        self._model, self._question, self._body, self._key = model, question, body, key
        self._seed, self._number = seed, number
        self.read_tokens, self.drawn_tokens = len(question.ids), 0
        self.is_ranked = body.drawn > body.n or bool(body.weights or body.dimensions)
        if self.is_ranked and model.scorer is None:
            raise ApiError(
                400, "This server ranks no answers: it was started without a reward model (--reward).", "no_reward", param="best_of"
            )
        model.source.check(body)
        self._combination = model.scorer.combination(body.dimensions, body.weights) if self.is_ranked and model.scorer else None

    @property
    def streams_directly(self) -> bool:
        """Whether text can be sent while it is drawn: no rule checks answers, and nothing ranks them."""
        return self._model.output_rules is None and not self.is_ranked

    async def refusal(self) -> SentAnswer | None:
        """Return what is sent in place of all answers if the question breaks a rule, else None."""
        rules = self._model.input_rules
        if rules is None:
            return None
        sent = self._question.sent  # who asks does not answer for what was added
        last = Completion(sent.text)
        (findings,) = await rules.findings(sent, [last])
        is_refused = any(finding.is_broken for finding in findings)
        if self._model.audit is not None:
            self._model.audit.write(self._question.prompt.id, "input", last.text, findings, "refused" if is_refused else "passed")
        return self._refused() if is_refused else None

    async def stream(self) -> AsyncIterator[TextDelta | tuple[int, SentAnswer]]:
        """Yield texts as they are drawn, and each answer with its number when it is whole. Raises as `answers`."""
        found: dict[int, DrawnAnswer] = {}
        with self._draw(DrawPlan(self._body.n, self._seeds(0), streams=True)) as draw:
            async for one in draw.events():
                if isinstance(one, TextDelta):
                    yield one
                else:
                    found[one.sample] = one
                    yield one.sample, _choice(one)
        self._count(draw)
        self._keep([found[k] for k in sorted(found)])

    async def answers(self) -> list[SentAnswer]:
        """Return the answers: drawn, checked and ranked.

        Raises:
            ApiError: the prompt leaves no room, or the other server failed.
            PalateError: the model failed.
        """
        kept, attempt = list[DrawnAnswer](), 0
        settings, wanted = self._model.filters, self._body.drawn
        while True:
            with self._draw(DrawPlan(wanted, self._seeds(attempt))) as draw:
                found = await drawn_answers(draw)
            self._count(draw)
            kept += await self._passed(found)
            missing, attempt = self._body.n - len(kept), attempt + 1
            if missing <= 0 or settings.on_breach == "refuse" or attempt > settings.attempts:
                break
            wanted = missing
        ranked = await self._ranked(kept) if self.is_ranked else [(one, _choice(one)) for one in kept]
        sent = ranked[: self._body.n]
        self._keep([answer for answer, _ in sent])
        return [*(choice for _, choice in sent), *[self._refused()] * (self._body.n - len(sent))]

    async def _passed(self, found: Sequence[DrawnAnswer]) -> list[DrawnAnswer]:
        """Return the answers that keep all rules, and record what was decided."""
        rules = self._model.output_rules
        if rules is None:
            return list(found)
        findings = await rules.findings(self._question.prompt, self._completions(found))
        kept = []
        for answer, own in zip(found, findings, strict=True):
            is_broken = any(finding.is_broken for finding in own)
            if self._model.audit is not None:
                self._model.audit.write(self._question.prompt.id, "output", answer.text, own, "dropped" if is_broken else "passed")
            if not is_broken:
                kept.append(answer)
        return kept

    async def _ranked(self, kept: Sequence[DrawnAnswer]) -> list[tuple[DrawnAnswer, SentAnswer]]:
        """Return the answers, the best first. One that was cut comes after all that end, and one without a score after both."""
        assert self._model.scorer is not None
        assert self._combination is not None
        if not kept:
            return []
        found = await self._model.scorer.scores(self._question.prompt, self._completions(kept), self._combination)
        scored = [(one, replace(_choice(one), score=own.score, scores=own.scores)) for one, own in zip(kept, found, strict=True)]
        return sorted(scored, key=lambda pair: (pair[1].score is None, pair[1].finish != "stop", -(pair[1].score or 0.0)))

    def _draw(self, plan: DrawPlan) -> OpenDraw:
        return self._model.source.draw(self._question, self._body, plan)

    def _seeds(self, attempt: int) -> tuple[int, int]:
        return (self._seed if attempt == 0 else derive_seed(self._seed, "again", attempt), self._number)

    def _count(self, draw: OpenDraw) -> None:
        self.read_tokens = draw.read_tokens
        self.drawn_tokens += draw.drawn_tokens

    def _completions(self, found: Sequence[DrawnAnswer]) -> list[Completion]:
        return self._model.source.completions(self._question, found, self._model.name)

    def _refused(self) -> SentAnswer:
        return SentAnswer(self._model.filters.refusal, "content_filter")

    def _keep(self, sent: Sequence[DrawnAnswer]) -> None:
        """Record what was sent. People judge that text, so an answer with hidden special tokens is kept without its tokens."""
        if self._model.inferences is not None and sent:
            kept = [
                one if one.text.strip() == answer.text.strip() else Completion(answer.text, stop=one.stop, policy=one.policy)
                for one, answer in zip(self._completions(sent), sent, strict=True)
            ]
            self._model.inferences.write(self._question.prompt, kept, self._model.name, self._key)


def _choice(answer: DrawnAnswer) -> SentAnswer:
    return SentAnswer(answer.text, answer.finish, answer.ids, answer.logprobs)
