from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.core import Completion, Conversation, DataError, Demonstration, Message, Preference, Prompt
from palate.data.formats import demonstration_row, preference_row, prompt_row, read_demonstrations, read_preferences, read_prompts
from palate.data.jsonl import write_rows

USER, ANSWER = Message("user", "soup?"), Message("assistant", "leeks")

few = settings(max_examples=40)  # each example waits for the disk
LOOKS_LIKE_TURNS = [
    *("\n\nHuman: soup?\n\nAssistant:", "Human: soup?", "\r\n\r\nHuman: soup?", "8.0", "007", "true", "null", "NaN", "[1, 2]", "a\r\nb\rc"),
    *(
        '[{"role": "user", "content": "soup?"}]',
        "[{'from': 'human', 'value': 'soup?'}]",
        '{"role": "user", "content": "x"}',
        "a\x00b",
        "\ufeffa",
    ),
]
"""Plain texts that could be taken for turns, numbers, missing values or the ends of lines."""

plain = st.sampled_from(LOOKS_LIKE_TURNS) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda text: bool(text.strip())
)
context = st.lists(st.builds(Message, st.sampled_from(["user", "tool"]), plain), min_size=1, max_size=2).map(tuple)
chat = st.tuples(
    st.lists(st.builds(Message, st.just("system"), st.text(st.characters(codec="utf-8"), max_size=4)), max_size=1).map(tuple), context
).map(lambda parts: parts[0] + parts[1])
prompt = st.one_of(plain.map(lambda text: (Message("text", text),)), chat)
names = ["answer", "prompt", "completions", "weight", "id", "fields", "sampled", "text", "votes", "messages", "tools"]
fields = st.dictionaries(st.sampled_from(names), st.integers() | plain, max_size=3)


def answered(conversation: Conversation, text: str) -> Conversation:
    return (*conversation, Message("text" if conversation[0].role == "text" else "assistant", text))


@st.composite
def demonstrations(draw: st.DrawFn) -> Demonstration:
    if draw(st.booleans()):
        return Demonstration((Message("text", draw(plain)),), (0,))
    conversation = answered(draw(prompt), draw(plain))
    if conversation[0].role == "text":
        return Demonstration(conversation, (1,))
    for _ in range(draw(st.integers(0, 2))):
        conversation = answered((*conversation, *draw(context)), draw(plain))
    answers = [i for i, turn in enumerate(conversation) if turn.role == "assistant"]
    return Demonstration(conversation, tuple(sorted(draw(st.sets(st.sampled_from(answers), min_size=1)))))


@st.composite
def preferences(draw: st.DrawFn) -> Preference:
    chosen, rejected = draw(plain), draw(plain)
    if chosen.strip() == rejected.strip():
        rejected += "x"
    numbers = draw(st.floats(0, 1)), draw(st.floats(-9, 9)), draw(st.floats(0, 9))
    asked = Prompt(draw(plain), draw(prompt), draw(fields))
    return Preference(asked, Completion(chosen), Completion(rejected), *numbers, draw(plain), tuple(draw(st.lists(plain, max_size=2))))


def without_source(rows: Sequence[Prompt]) -> list[tuple[object, ...]]:
    return [(row.id, row.conversation, row.fields) for row in rows]


@few
@given(rows=st.lists(demonstrations(), min_size=1, max_size=3))
def test_demonstrations_written_are_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Demonstration]) -> None:
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write_rows(file, map(demonstration_row, rows))
    table = read_demonstrations(file)
    assert [(row.conversation, row.learned) for row in table.rows] == [(row.conversation, row.learned) for row in rows]


@few
@given(rows=st.lists(st.builds(Prompt, plain, prompt, fields), min_size=1, max_size=3, unique_by=lambda row: row.id))
def test_prompts_written_are_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Prompt]) -> None:
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write_rows(file, map(prompt_row, rows))
    assert without_source(read_prompts(file).rows) == without_source(rows)


@few
@given(rows=st.lists(preferences(), min_size=1, max_size=3, unique_by=lambda row: row.prompt.id))
def test_preferences_written_are_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Preference]) -> None:
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write_rows(file, map(preference_row, rows))
    table = read_preferences(file)
    assert without_source([row.prompt for row in table.rows]) == without_source([row.prompt for row in rows])
    assert [preference_row(row) for row in table.rows] == [preference_row(row) for row in rows]


def test_what_no_shape_can_hold_is_not_written() -> None:
    with pytest.raises(DataError, match="Learn only answers"):
        demonstration_row(Demonstration((USER, ANSWER), (0,)))
    with pytest.raises(DataError, match="Learn only answers"):
        demonstration_row(Demonstration((Message("text", "a"), Message("text", "b")), (0, 1)))
