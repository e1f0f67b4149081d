"""From a question to the answers that are sent: check the question, draw, check the answers, rank them, and keep what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from palate.core import Completion, ConfigError, DataError, RunError, derive_seed
from palate.models.causal import CausalPolicy
from palate.samplers.continuous import ContinuousSampler
from palate.samplers.draw_requests import DrawRequest
from palate.serving.answer_scores import AnswerScorer
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import DrawBody
from palate.serving.audit_log import AuditLog, InferenceLog
from palate.serving.content_rules import ContentRules
from palate.serving.drawing import Drawing, DrawnAnswer, Outbox, TextDelta, TextSettings
from palate.serving.prompt_questions import PromptQuestion
from palate.serving.replies import SentAnswer
from palate.text.ends import special_ids
from palate.text.sampled_texts import completions_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        sampler: draws for all requests.
        outbox: brings what is drawn to the event loop.
        scorer: ranks answers; None without a reward model.
        input_rules: rules that questions must keep.
        output_rules: rules that answers must keep.
        filters: what happens to a text that breaks one.
        audit: keeps every decision.
        inferences: keeps every answer.
    """

    name: str
    sampler: ContinuousSampler
    outbox: Outbox
    scorer: AnswerScorer | None = None
    input_rules: ContentRules | None = None
    output_rules: ContentRules | None = None
    filters: FilterSettings = FilterSettings()
    audit: AuditLog | None = None
    inferences: InferenceLog | None = None

    @property
    def policy(self) -> CausalPolicy:
        """The model."""
        return self.sampler.policy

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.policy.tokenizer

    @property
    def vocabulary(self) -> int:
        """Number of token ids that the model has."""
        size: int = self.policy.module.get_input_embeddings().num_embeddings
        return size

    def close_models(self) -> None:
        """End the threads of the model and of the reward model."""
        self.sampler.close()
        if self.scorer is not None:
            self.scorer.close()

    def close(self) -> None:
        """End threads and programs, and write everything to the disk."""
        self.close_models()
        for part in (self.input_rules, self.output_rules, self.audit, self.inferences):
            if part is not None:
                part.close()


@dataclass(frozen=True)
class Answers:
    """The answers to one question, and the tokens of all that were drawn for it."""

    choices: list[SentAnswer]
    drawn_tokens: int


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
        self.is_ranked = body.drawn > body.n or bool(body.weights or body.dimensions)
        ends = model.policy.end_ids
        if self.is_ranked and model.scorer is None:
            raise ApiError(
                400, "This server ranks no answers: it was started without a reward model (--reward).", "no_reward", param="best_of"
            )
        if body.drawn > model.sampler.slots:
            field = "best_of" if body.best_of else "n"
            message = f"{field} is {body.drawn}, and this server draws {model.sampler.slots} completions at a time. Ask for fewer."
            raise ApiError(400, message, "invalid_value", param=field)
        if foreign := [token for token in body.stop_token_ids if token not in ends]:
            message = f"stop_token_ids: {foreign[0]} is not an end of this model. Use stop, with texts."
            raise ApiError(400, message, "invalid_value", param="stop_token_ids")
        self._combination = model.scorer.combination(body.dimensions, body.weights) if self.is_ranked and model.scorer else None
        hidden = ends | (special_ids(model.tokenizer) if body.skip_special_tokens else frozenset())
        self._texts = TextSettings(question.is_chat, hidden, body.stops)

    @property
    def streams_directly(self) -> bool:
        """Whether text can be sent while it is drawn: no rule checks answers, and nothing ranks them."""
        return self._model.output_rules is None and not self.is_ranked

    async def refusal(self) -> SentAnswer | None:
        """Return what is sent in place of all answers if the question breaks a rule, else None."""
        rules = self._model.input_rules
        if rules is None:
            return None
        last = Completion(self._question.prompt.text)
        (findings,) = await rules.findings(self._question.prompt, [last])
        is_refused = any(finding.is_broken for finding in findings)
        if self._model.audit is not None:
            self._model.audit.write(self._question.prompt.id, "input", last.text, findings, "refused" if is_refused else "passed")
        return self._refused() if is_refused else None

    async def stream(self) -> AsyncIterator[TextDelta | tuple[int, SentAnswer]]:
        """Yield texts as they are drawn, and each answer with its number when it is whole. Raises as `answers`."""
        found: dict[int, DrawnAnswer] = {}
        with self._drawing(self._body.n, self._stream(0), replace(self._texts, streams=True)) as drawing:
            async for one in drawing.events():
                if isinstance(one, TextDelta):
                    yield one
                else:
                    found[one.sample] = one
                    yield one.sample, _choice(one)
        self._keep([found[k] for k in sorted(found)])

    async def answers(self) -> Answers:
        """Return the answers: drawn, checked and ranked.

        Raises:
            ApiError: the prompt leaves no room, or the model failed.
        """
        kept, drawn, attempt = list[DrawnAnswer](), 0, 0
        settings, wanted = self._model.filters, self._body.drawn
        while True:
            with self._drawing(wanted, self._stream(attempt), self._texts) as drawing:
                found = await drawing.answers()
            drawn += sum(len(one.tokens.ids) for one in found)
            kept += await self._passed(found)
            missing, attempt = self._body.n - len(kept), attempt + 1
            if missing <= 0 or settings.on_breach == "refuse" or attempt > settings.attempts:
                break
            wanted = missing
        ranked = await self._ranked(kept) if self.is_ranked else [(one, _choice(one)) for one in kept]
        sent = ranked[: self._body.n]
        self._keep([answer for answer, _ in sent])
        return Answers([*(choice for _, choice in sent), *[self._refused()] * (self._body.n - len(sent))], drawn)

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

    def _drawing(self, n: int, stream: tuple[int, int], texts: TextSettings) -> Drawing:
        model, body = self._model, self._body
        sampling = body.sampling(model.sampler.context if self._question.is_chat else 16)
        request = DrawRequest(self._question.ids, n, sampling, stream, likeliest=body.likeliest)
        try:
            return Drawing(model.sampler, model.outbox, model.tokenizer, request, texts)
        except DataError as error:
            raise ApiError(400, str(error), "context_length_exceeded", param="messages" if texts.is_chat else "prompt") from error
        except ConfigError as error:
            raise ApiError(400, str(error), "invalid_value") from error
        except RunError as error:
            raise ApiError(503, str(error), "closing", kind="server_error") from error

    def _stream(self, attempt: int) -> tuple[int, int]:
        return (self._seed if attempt == 0 else derive_seed(self._seed, "again", attempt), self._number)

    def _completions(self, found: Sequence[DrawnAnswer]) -> list[Completion]:
        """Return the answers as completions. One that a stop text ended has its text alone."""
        conversation, trunk, tokenizer = self._question.prompt.conversation, self._question.ids, self._model.tokenizer
        return [
            Completion(one.text, stop="eos")
            if one.is_stopped
            else completions_of(tokenizer, conversation, trunk, [one.tokens], policy=self._model.name)[0]
            for one in found
        ]

    def _refused(self) -> SentAnswer:
        return SentAnswer(self._model.filters.refusal, "content_filter")

    def _keep(self, sent: Sequence[DrawnAnswer]) -> None:
        """Record what was sent."""
        if self._model.inferences is not None and sent:
            self._model.inferences.write(self._question.prompt, self._completions(sent), self._model.name, self._key)


def _choice(answer: DrawnAnswer) -> SentAnswer:
    return SentAnswer(answer.text, answer.finish, answer.tokens.ids, answer.drawn)
