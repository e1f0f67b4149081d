"""What a request asks: its prompt as a conversation, and the token ids that the sampler continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from palate.core import DataError, Message, Prompt
from palate.data.cells import InvalidRow
from palate.data.conversations import check_is_unanswered, conversation
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import TextBody
from palate.text.chat_text import Ids
from palate.text.spans import prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PromptQuestion:
    """A prompt as the model gets it.

    Attributes:
        prompt: the prompt.
        ids: its tokens; () where another server makes them.
        is_chat: whether the answer is an assistant's turn.
        before: the prompt as the client sent it, where something was added to it.
    """

    prompt: Prompt
    ids: Ids
    is_chat: bool
    before: Prompt | None = None

    @property
    def sent(self) -> Prompt:
        """The prompt as the client sent it."""
        return self.prompt if self.before is None else self.before


def chat_question(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> PromptQuestion:
    """Return the question of a chat. Raises ApiError where the chat template refuses it."""
    return PromptQuestion(prompt, _ids(tokenizer, prompt, "messages"), is_chat=True)


def chat_prompt(messages: Sequence[object], name: str) -> Prompt:
    """Return the prompt of a chat; `name` identifies it. Raises ApiError where it cannot be read, or its last turn cannot be answered."""
    try:
        turns = conversation(messages, "messages")
        check_is_unanswered(turns)
    except InvalidRow as error:
        raise _of_field("messages", error.reason) from error
    if turns[0].role == "text":
        raise _of_field("messages", "the role `text` is not a chat's; use user, assistant, system or tool")
    return Prompt(name, turns)


def text_questions(tokenizer: PreTrainedTokenizerBase, body: TextBody, name: str, vocabulary: int) -> list[PromptQuestion]:
    """Return the questions of `/v1/completions`; token ids are taken as they are.

    Raises:
        ApiError: a prompt is empty, or holds an id that the model does not have.
    """
    questions = []
    for own, one in given_prompts(body, name):
        if isinstance(one, str):
            prompt = text_prompt(own, one)
            questions.append(PromptQuestion(prompt, _ids(tokenizer, prompt, "prompt"), is_chat=False))
            continue
        ids = tuple(one)
        if not all(0 <= token < vocabulary for token in ids):
            raise _of_field("prompt", f"a token id is not one of this model, which has 0 to {vocabulary - 1}")
        text = cast("str", tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        questions.append(PromptQuestion(text_prompt(own, text), ids, is_chat=False))
    return questions


def text_prompt(name: str, text: str) -> Prompt:
    """Return a prompt of plain text."""
    return Prompt(name, (Message("text", text),))


def given_prompts(body: TextBody, name: str) -> list[tuple[str, str | list[int]]]:
    """Return the prompts of `/v1/completions`, texts or token ids, each with a name of its own."""
    given = [body.prompt] if isinstance(body.prompt, str) or isinstance(body.prompt[0], int) else body.prompt
    names = [f"{name}-{number}" for number in range(len(given))] if len(given) > 1 else [name]
    return list(zip(names, cast("list[str | list[int]]", given), strict=True))


def _ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, field: str) -> Ids:
    try:
        return prompt_ids(tokenizer, prompt)
    except DataError as error:
        raise _of_field(field, str(error)) from error


def _of_field(field: str, reason: str) -> ApiError:
    return ApiError(400, f"{field}: {reason}.", "invalid_value", param=field)
