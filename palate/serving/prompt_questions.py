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
    """A prompt with its tokens.

    Attributes:
        prompt: the prompt.
        ids: its tokens.
        is_chat: whether the answer is an assistant's turn.
    """

    prompt: Prompt
    ids: Ids
    is_chat: bool


def chat_question(tokenizer: PreTrainedTokenizerBase, messages: Sequence[object], name: str) -> PromptQuestion:
    """Return the question of a chat; `name` identifies it.

    Raises:
        ApiError: a message cannot be read, the last one is not a turn to answer, or the chat template refuses them.
    """
    prompt = chat_prompt(messages, name)
    return PromptQuestion(prompt, _ids(tokenizer, prompt, "messages"), is_chat=True)


def chat_prompt(messages: Sequence[object], name: str) -> Prompt:
    """Return the prompt of a chat. Raises ApiError where it cannot be read."""
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
    given = [body.prompt] if isinstance(body.prompt, str) or isinstance(body.prompt[0], int) else body.prompt
    questions = []
    for number, one in enumerate(given):
        own = f"{name}-{number}" if len(given) > 1 else name
        if isinstance(one, str):
            prompt = Prompt(own, (Message("text", one),))
            questions.append(PromptQuestion(prompt, _ids(tokenizer, prompt, "prompt"), is_chat=False))
            continue
        ids = tuple(one)
        if not all(0 <= token < vocabulary for token in ids):
            raise _of_field("prompt", f"a token id is not one of this model, which has 0 to {vocabulary - 1}")
        text = cast("str", tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        questions.append(PromptQuestion(Prompt(own, (Message("text", text),)), ids, is_chat=False))
    return questions


def _ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, field: str) -> Ids:
    try:
        return prompt_ids(tokenizer, prompt)
    except DataError as error:
        raise _of_field(field, str(error)) from error


def _of_field(field: str, reason: str) -> ApiError:
    return ApiError(400, f"{field}: {reason}.", "invalid_value", param=field)
