"""Several endings of one conversation have the ids that each has when it is tokenised whole, and the beginning is tokenised once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from palate.core import Completion, Conversation, DataError, Message
from palate.testing.templates import TEMPLATES, chat_tokenizer
from palate.testing.tokenizers import word_tokenizer
from palate.text import endings as module
from palate.text import template
from palate.text.chat_text import Ids, encode
from palate.text.endings import ids_with_endings
from palate.text.spans import prompt_ids, whole_ids

CHAT = (Message("system", "You judge."), Message("user", "Which is better, A or B?"))
PLAIN = (Message("text", "<|open|> the soup is cold . <|user|> Answer:"),)
BARE = (Message("text", "the soup is cold . Answer:"),)
ENDINGS = [("A", "B"), (" A", " B", " neither"), ("yes", " no"), ("<think>", "b"), ("open", "o"), ("A", ""), ("A", "so <|close|> ends")]


def whole(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, begun: str) -> Callable[[str], Ids]:
    prompt = prompt_ids(tokenizer, conversation)
    return lambda ending: whole_ids(tokenizer, conversation, prompt, Completion(begun + ending, stop="length"))[0]


def each_whole(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, begun: str, endings: tuple[str, ...]) -> object:
    """The same by tokenising each whole, or why that is refused."""
    try:
        return list(map(whole(tokenizer, conversation, begun), endings))
    except DataError as error:
        return str(error)


def together(tokenizer: PreTrainedTokenizerFast, conversation: Conversation, begun: str, endings: tuple[str, ...]) -> object:
    try:
        return ids_with_endings(tokenizer, conversation, begun, endings, whole(tokenizer, conversation, begun))
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_each_whole(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    for endings in ENDINGS:
        for conversation, begun in ((CHAT, ""), (CHAT, "The better one is"), (PLAIN, ""), (BARE, "")):
            assert together(tokenizer, conversation, begun, endings) == each_whole(tokenizer, conversation, begun, endings)


def test_a_template_that_trims_its_turns_is_followed() -> None:
    """Here the first ending alone, " A", would show nothing of what happens to "B"."""
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template).replace("m.content", "m.content | trim")
    for endings in ((" A", "B"), (" A", " B"), ("A", "B ")):
        assert together(tokenizer, CHAT, "", endings) == each_whole(tokenizer, CHAT, "", endings)


def test_words_of_a_tokenizer_of_words() -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<guest>"]})
    conversation = (Message("text", "the soup <guest> the"),)
    endings = (" soup", " cold", " nonsense")
    assert together(tokenizer, conversation, "", endings) == each_whole(tokenizer, conversation, "", endings)


@pytest.mark.parametrize("conversation", [(*CHAT[:1], Message("user", "so " * 400)), (Message("text", "so " * 400 + "<|user|> is"),)])
def test_the_beginning_is_tokenised_once(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, read = chat_tokenizer(), list[str]()

    def counted(of: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
        read.append(text)
        return encode(of, text)

    one = whole(tokenizer, conversation, "")
    ids_with_endings(tokenizer, conversation, "", ("1", "2"), one)  # what depends on the template alone is kept
    for place in (module, template):
        monkeypatch.setattr(place, "encode", counted)
    ids_with_endings(tokenizer, conversation, "", tuple("123456789"), one)
    assert sum("so so" in text for text in read) == 1
    assert len(read) == 11


def test_a_tokenizer_that_takes_white_space_before_its_tokens_is_not_split() -> None:
    """The space before the marker belongs to the marker, so what stands before it cannot be tokenised alone."""
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<guest>", lstrip=True, special=True)]})
    conversation = (Message("text", "the soup <guest> the"),)
    endings = (" soup", " cold")
    assert together(tokenizer, conversation, "", endings) == each_whole(tokenizer, conversation, "", endings)


def test_a_special_token_within_another_one_does_not_split_it() -> None:
    """The tokenizer reads the longer token, and the shorter one begins later in the text."""
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<<guest>", "guest>"]})
    conversation = (Message("text", "the soup <<guest> the"),)
    endings = (" soup", " cold")
    assert together(tokenizer, conversation, "", endings) == each_whole(tokenizer, conversation, "", endings)
