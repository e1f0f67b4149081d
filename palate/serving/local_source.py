"""Answers of the model in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palate.core import Completion, ConfigError, DataError, Prompt, RunError
from palate.samplers.continuous import ContinuousSampler
from palate.samplers.draw_requests import DrawRequest, SamplerLoad
from palate.serving.answer_sources import DrawnAnswer, DrawPlan
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import DrawBody, TextBody
from palate.serving.drawing import Drawing, Outbox, TextSettings
from palate.serving.prompt_questions import PromptQuestion, chat_question, text_questions
from palate.text.ends import special_ids
from palate.text.sampled_texts import completions_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USUAL_TOKENS = 16
"""Most tokens of a plain completion where the request does not say, as at OpenAI."""


@dataclass(frozen=True)
class LocalSource:
    """A model of this process. See `AnswerSource`.

    Attributes:
        sampler: draws for all requests.
        outbox: brings what is drawn to the event loop.
    """

    sampler: ContinuousSampler
    outbox: Outbox

    @property
    def load(self) -> SamplerLoad:
        """See `AnswerSource.load`."""
        return self.sampler.load

    @property
    def facts(self) -> Mapping[str, object]:
        """See `AnswerSource.facts`."""
        return {"max_model_len": self.sampler.context}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.sampler.policy.tokenizer

    def chat_question(self, prompt: Prompt) -> PromptQuestion:
        """See `AnswerSource.chat_question`."""
        return chat_question(self.tokenizer, prompt)

    def text_questions(self, body: TextBody, name: str) -> list[PromptQuestion]:
        """See `AnswerSource.text_questions`."""
        vocabulary: int = self.sampler.policy.module.get_input_embeddings().num_embeddings
        return text_questions(self.tokenizer, body, name, vocabulary)

    def check(self, body: DrawBody) -> None:
        """See `AnswerSource.check`."""
        if body.drawn > self.sampler.slots:
            field = "best_of" if body.best_of else "n"
            message = f"{field} is {body.drawn}, and this server draws {self.sampler.slots} completions at a time. Ask for fewer."
            raise ApiError(400, message, "invalid_value", param=field)
        if foreign := [token for token in body.stop_token_ids if token not in self.sampler.policy.end_ids]:
            message = f"stop_token_ids: {foreign[0]} is not an end of this model. Use stop, with texts."
            raise ApiError(400, message, "invalid_value", param="stop_token_ids")

    def draw(self, question: PromptQuestion, body: DrawBody, plan: DrawPlan) -> Drawing:
        """See `AnswerSource.draw`."""
        hidden = self.sampler.policy.end_ids | (special_ids(self.tokenizer) if body.skip_special_tokens else frozenset())
        texts = TextSettings(question.is_chat, hidden, body.stops, plan.streams)
        sampling = body.sampling(self.sampler.context if question.is_chat else USUAL_TOKENS)
        request = DrawRequest(question.ids, plan.n, sampling, plan.seed, likeliest=body.likeliest)
        self.outbox.open()
        try:
            return Drawing(self.sampler, self.outbox, self.tokenizer, request, texts)
        except DataError as error:
            raise ApiError(400, str(error), "context_length_exceeded", param="messages" if question.is_chat else "prompt") from error
        except ConfigError as error:
            raise ApiError(400, str(error), "invalid_value") from error
        except RunError as error:
            raise ApiError(503, str(error), "closing", kind="server_error") from error

    def completions(self, question: PromptQuestion, answers: Sequence[DrawnAnswer], policy: str) -> list[Completion]:
        """See `AnswerSource.completions`. One that a stop text ended has its text alone."""
        conversation, trunk = question.prompt.conversation, question.ids
        return [
            Completion(one.text, stop="eos", policy=policy)
            if one.is_stopped or one.tokens is None
            else completions_of(self.tokenizer, conversation, trunk, [one.tokens], policy=policy)[0]
            for one in answers
        ]

    async def fault(self) -> str:
        """See `AnswerSource.fault`."""
        return ""

    def close(self) -> None:
        """See `AnswerSource.close`."""
        self.sampler.close()
