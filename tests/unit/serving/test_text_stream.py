"""Text while it is drawn: the parts are the whole, without half characters and without stop texts."""

from __future__ import annotations

import random

import pytest

from palate.serving.text_stream import TextStream, whole_text
from palate.testing import byte_tokenizer, word_tokenizer

BYTES = byte_tokenizer()
TEXTS = ("plain words", "naïve café 你好 \U0001f372!", "  white space \n\n inside  \n", "\U0001f372" * 3, "")


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(BYTES(text, add_special_tokens=False).input_ids)


def streamed(text: str, *, is_chat: bool = False, stops: tuple[str, ...] = (), trunk: str = "ab") -> tuple[list[str], TextStream]:
    stream = TextStream(BYTES, ids_of(trunk), is_chat=is_chat, stops=stops)
    parts = []
    for token in ids_of(text):
        parts.append(stream.push(token))
        if stream.is_stopped:
            break
    return [*parts, stream.end()], stream


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("together", [2, 3, 100])
def test_tokens_that_are_pushed_together_give_the_same_text(text: str, is_chat: bool, together: int) -> None:
    ids, stream = ids_of(text), TextStream(BYTES, ids_of("ab"), is_chat=is_chat)
    parts = [stream.push(*ids[at : at + together]) for at in range(0, len(ids), together)]
    parts.append(stream.end())
    assert "".join(parts) == stream.text == (text.strip() if is_chat else text)
    assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_the_parts_are_the_whole_text(text: str, is_chat: bool) -> None:
    parts, stream = streamed(text, is_chat=is_chat)
    expected = text.strip() if is_chat else text
    assert "".join(parts) == stream.text == expected
    assert whole_text(BYTES, ids_of("ab"), ids_of(text), is_chat=is_chat) == expected
    assert not any("\ufffd" in part for part in parts)


def test_a_character_that_never_ends_is_shown_as_such() -> None:
    stream = TextStream(BYTES, ids_of("x"), is_chat=False)
    first, *_ = ids_of("\U0001f372")
    assert [stream.push(ids_of("a")[0]), stream.push(first), stream.end()] == ["a", "", "\ufffd"]


@pytest.mark.parametrize("stops", [("END",), ("D now", "END"), ("N", "END now")])
def test_a_stop_text_ends_it_and_is_never_shown(stops: tuple[str, ...]) -> None:
    text = "go ENENDED END now E"
    at = min(text.find(stop) for stop in stops if stop in text)
    parts, stream = streamed(text, stops=stops)
    assert "".join(parts) == stream.text == text[:at]
    assert stream.is_stopped


def test_the_beginning_of_a_stop_text_is_shown_when_it_does_not_come() -> None:
    parts, stream = streamed("a EN b E", stops=("END",))
    assert "".join(parts) == "a EN b E"
    assert parts[2:4] == ["", ""]
    assert not stream.is_stopped


def test_random_texts_and_stops() -> None:
    rng = random.Random(3)
    for _ in range(300):
        text = "".join(rng.choice("ab \n\u00e9") for _ in range(rng.randrange(30)))
        stops = tuple("".join(rng.choice("ab \n\u00e9") for _ in range(rng.randrange(1, 5))) for _ in range(rng.randrange(3)))
        found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
        parts, stream = streamed(text, stops=stops)
        assert "".join(parts) == stream.text == (text[: _first_end(text, stops)] if found else text)
        chat, chat_stream = streamed(text, stops=stops, is_chat=True)
        assert "".join(chat) == chat_stream.text == chat_stream.text.strip()


def _first_end(text: str, stops: tuple[str, ...]) -> int:
    """Where the stop text begins that is whole first."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return len(text)


def test_hidden_tokens_have_no_text() -> None:
    words = word_tokenizer()
    ids = tuple(words("rice and", add_special_tokens=False).input_ids)
    stream = TextStream(words, (), is_chat=False, hidden=frozenset(words.all_special_ids))
    assert "".join(stream.push(token) for token in (1, *ids[:2], 2, *ids[2:])) == "rice and"
    assert whole_text(words, (), (1, *ids, 2), is_chat=False, hidden=frozenset(words.all_special_ids)) == "rice and"
