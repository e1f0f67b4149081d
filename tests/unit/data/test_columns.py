"""Which column holds what: recognised, or said by the setting `columns`; what is not read is named, and nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.inspection import columns_of
from palate.core import ConfigError, DataError, Message
from palate.data.formats import (
    Alpaca,
    ColumnTypes,
    LLaMAFactoryPreference,
    QuestionAnswer,
    Recognised,
    ShareGPT,
    dropped_summary,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_texts,
    read_unpaired,
)

USER, ANSWER, SYSTEM = Message("user", "soup?"), Message("assistant", "leeks"), Message("system", "Be brief.")
Row = dict[str, object]
TALK = json.dumps([{"role": "user", "content": "soup?"}, {"role": "assistant", "content": "leeks"}])
PAIR: Row = {"chosen": "leeks", "rejected": "tin"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (Alpaca(), {"instruction": "soup?", "input": "", "output": "leeks", "system": "Be brief.", "text": "### Instruction: soup?"}),
        (Alpaca(instruction="task", output="reply"), {"task": "soup?", "reply": "leeks", "system": "Be brief.", "output": "stock"}),
        (ShareGPT(), {"conversations": [{"from": "human", "value": "soup?"}, {"from": "gpt", "value": "leeks"}], "system": "Be brief."}),
        (
            ShareGPT("sharegpt", "talk", "speaker", "words", "guest", "cook"),
            {"talk": [{"speaker": "guest", "words": "soup?"}, {"speaker": "cook", "words": "leeks"}], "system": "Be brief."},
        ),
        (QuestionAnswer(), {"question": "soup?", "answer": "leeks", "system_prompt": "Be brief."}),
        (QuestionAnswer(question="ask", answer="reply", system="rules"), {"ask": "soup?", "reply": "leeks", "rules": "Be brief."}),
        (LLaMAFactoryPreference(), {"instruction": "soup?", **PAIR, "system": "Be brief."}),
        (
            LLaMAFactoryPreference(),
            {
                "conversations": [{"from": "human", "value": "soup?"}],
                "chosen": {"from": "gpt", "value": "leeks"},
                "rejected": {"from": "gpt", "value": "tin"},
                "system": "Be brief.",
            },
        ),
        (Recognised(), {"system": "Be brief.", "prompt": "soup?", "completion": "leeks"}),
        (Recognised(), {"system": "Be brief.", "prompt": [{"role": "user", "content": "soup?"}], **PAIR}),
        (Recognised(), {"system": "Be brief.", "prompt": "\n\nHuman: soup?\n\nAssistant:", "completion": " leeks"}),
        (Recognised(prompt="ask", completion="reply", system="rules"), {"ask": "soup?", "reply": "leeks", "rules": "Be brief."}),
        (Recognised(messages="talk", system="rules"), {"talk": TALK, "rules": "Be brief."}),
    ],
)  # fmt: skip
def test_a_conversation_is_put_together_of_its_columns(file: Path, columns: ColumnTypes, row: Row) -> None:
    table = read_demonstrations(write(file, row), columns=columns)
    assert not table.dropped, dropped_summary(table)
    assert [(read.conversation, read.learned) for read in table.rows] == [((SYSTEM, USER, ANSWER), (2,))]
    (prompt,) = read_prompts(file, columns=columns).rows
    assert prompt.conversation == (SYSTEM, USER)
    if columns == type(columns)():  # with the type's own names, the type is recognised
        assert read_demonstrations(file).rows[0].conversation == (SYSTEM, USER, ANSWER)
    if "chosen" in row:
        (pair,) = read_preferences(file, columns=columns).rows
        assert (pair.prompt.conversation, pair.chosen.text, pair.rejected.text) == ((SYSTEM, USER), "leeks", "tin")


def test_input_history_and_answers_of_other_forms(file: Path) -> None:
    history: Row = {
        "instruction": "And?",
        "input": "salt",
        "history": [["soup?", "leeks"]],
        "output": [{"role": "assistant", "content": "x"}],
    }
    (row,) = read_demonstrations(write(file, history)).rows
    assert row.conversation == (USER, ANSWER, Message("user", "And?\n\nsalt"), Message("assistant", "x"))
    assert row.learned == (3,)
    for wrong, kind in (([["a"]], "`history` is not a list of pairs"), ([["a", 3]], "`history` is not a string")):
        table = read_demonstrations(write(file, history, {**history, "history": wrong}))
        assert [dropped.kind for dropped in table.dropped] == [kind]


def test_an_answer_stays_a_field_and_a_system_text_does_not(file: Path) -> None:
    (prompt,) = read_prompts(write(file, {"question": "2+2?", "answer": "4", "system": "Be brief.", "level": 3})).rows
    assert prompt.fields == {"answer": "4", "level": 3}


def test_a_named_type_reads_its_own_columns_and_no_others(file: Path) -> None:
    row: Row = {
        "instruction": "soup?",
        "output": "leeks",
        "prompt": "no",
        "completion": "no",
        **PAIR,
        "conversations": TALK,
        "question": "salt?",
    }
    table = read_demonstrations(write(file, {**row, "answer": "no"}), columns=Alpaca())
    assert [read.conversation for read in table.rows] == [(USER, ANSWER)]
    assert sorted(table.further) == ["answer", "chosen", "completion", "conversations", "prompt", "question", "rejected"]
    (pair,) = read_preferences(file, columns=QuestionAnswer()).rows
    assert (pair.prompt.text, pair.chosen.text) == ("salt?", "leeks")
    assert read_demonstrations(file, columns=ShareGPT()).rows[0].conversation == (USER, ANSWER)


def test_what_is_no_answer_of_the_assistant_is_only_graded_by(file: Path) -> None:
    rows: list[Row] = [{"question": "2+2?", "answer": answer} for answer in (4, 4.5, ["4", "four"])]
    assert [row.fields for row in read_prompts(write(file, *rows)).rows] == [{"answer": 4}, {"answer": 4.5}, {"answer": ["4", "four"]}]
    with pytest.raises(DataError, match="3 x no completion"):
        read_demonstrations(file)


def test_a_row_with_an_empty_system_column_is_a_conversation_too(file: Path) -> None:
    rows = read_prompts(
        write(file, {"prompt": "soup?", "system": "Be brief."}, {"prompt": "soup?", "system": None}, {"prompt": "soup?"})
    ).rows
    assert [row.conversation for row in rows] == [(SYSTEM, USER), (USER,), (Message("text", "soup?"),)]


def test_two_system_texts_are_not_chosen_from(file: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "soup?"}, {"role": "assistant", "content": "leeks"}]
    rows: list[Row] = [
        {"messages": chat, "system": "Be brief."},
        {"messages": chat, "system": "Be long."},
        {"messages": chat[1:], "system": "Be brief.", "system_prompt": "Be long."},
        {"messages": chat[1:], "system": 3},
    ]
    table = read_demonstrations(write(file, *rows))
    assert [row.conversation for row in table.rows] == [(SYSTEM, USER, ANSWER)]
    assert [row.kind for row in table.dropped] == ["two system texts", "two system texts", "`system` is not a string"]


@pytest.mark.parametrize("name", ["query", "input", "context", "kitchen_note"])
def test_shared_words_are_no_prompt_beside_a_text_that_may_be_one(file: Path, name: str) -> None:
    pair: Row = {"chosen": "The answer is leeks", "rejected": "The answer is tin"}
    asked: Row = {name: "What is in soup?", **pair}
    with pytest.raises(DataError, match=rf"the prompt may be in another column: `{name}` holds .* set columns.prompt to {name}"):
        read_preferences(write(file, asked))
    (row,) = read_preferences(file, columns=Recognised(prompt=name)).rows
    assert row.prompt.conversation == (Message("text", "What is in soup?"),)
    (row,) = read_preferences(file, columns=Recognised(prompt="")).rows
    assert (row.prompt.conversation, row.chosen.text) == ((Message("text", "The answer is"),), " leeks")
    assert read_preferences(write(file, {**pair, "source": "an old set", "score": 3})).rows[0].prompt.text == "The answer is"


def test_columns_that_are_not_read_are_named_once(file: Path) -> None:
    rows: list[Row] = [
        {"id": "1", "instruction": "soup?", "output": "leeks", "text": "all of it", "source": "us", "empty": None},
        {"instruction": "soup?", "output": "leeks", "source": "us", "grade": 1},
    ]
    assert list(read_demonstrations(write(file, *rows)).further) == ["text", "source", "grade"]
    assert list(read_texts(file, limit=1).further) == ["instruction", "output", "source"]
    hidden = read_demonstrations(file, columns=Recognised(prompt="instruction", completion="output", text=""))
    assert list(hidden.further) == ["text", "source", "grade"]


def test_a_column_of_the_settings_that_no_row_has_is_an_error(file: Path) -> None:
    write(file, {"prompt": "soup?", "completion": "leeks"})
    said = "that `columns` names. The first row has prompt, completion."
    with pytest.raises(DataError, match=f"no row has the column 'systm' {said} Name one"):
        read_demonstrations(file, columns=Recognised(system="systm"))
    for typing_error in (Recognised(prompt="promt"), Recognised(prompt="prompt", completion="completions")):
        with pytest.raises(DataError, match=f"{said} Did you mean '(prompt|completion)'"):
            read_demonstrations(file, columns=typing_error)
    said = "a.jsonl:1: the first row does not have the column 'qestion' that `columns` names.*Did you mean 'question'"
    with pytest.raises(DataError, match=said):
        read_demonstrations(write(file, {"question": "soup?", "words": "leeks"}), columns=Recognised(prompt="qestion"))


def test_the_words_of_inspect_say_what_the_settings_say() -> None:
    assert columns_of([]) == Recognised()
    assert columns_of(["alpaca", "instruction=task"]) == Alpaca(instruction="task")
    assert columns_of(["prompt=ask", "label="]) == Recognised(prompt="ask", label="")
    with pytest.raises(ConfigError, match="--columns alpacca: columns has no kind 'alpacca'. Did you mean 'alpaca'"):
        columns_of(["alpacca"])


@pytest.mark.parametrize("values", [[1, 0], ["1", "0"], [1.0, 0.0], ["True", "false"], [True, 0]])
def test_a_column_of_ones_and_zeros_says_which_completion_is_wanted(file: Path, values: list[object]) -> None:
    rows: list[Row] = [{"prompt": "soup?", "completion": f"leeks {k}", "label": value} for k, value in enumerate(values)]
    assert [row.desirable for row in read_unpaired(write(file, *rows)).rows] == [True, False]
    assert [row.conversation[-1].text for row in read_demonstrations(file).rows] == ["leeks 0"]


@pytest.mark.parametrize("other", [2, -1, "bad", 0.5])
def test_ones_beside_other_values_are_no_labels_and_are_not_imitated(file: Path, other: object) -> None:
    rows: list[Row] = [{"prompt": "soup?", "completion": f"leeks {k}", "label": label} for k, label in enumerate((1, 0, other))]
    rows.append({"prompt": "soup?", "completion": "stock"})
    table = read_demonstrations(write(file, *rows))
    assert [row.conversation[-1].text for row in table.rows] == ["stock"]
    assert [row.kind for row in table.dropped] == ["`label` is not true or false"] * 3
    assert len(read_demonstrations(file, columns=Recognised(label="")).rows) == 4
    assert len(read_prompts(file).rows) == 4


@pytest.mark.parametrize(
    "written",
    [
        '[{"role": "user", "content": "soup?"}, {"role": "assistant", "content": "leeks"}]',
        "[{'role': 'user', 'content': 'soup?'}, {'content': 'leeks', 'role': 'assistant'}]",
        ' [ {"from": "human", "value": "soup?"}, {"from": "gpt", "value": "leeks"} ]',
    ],
)
def test_messages_written_as_text_are_messages(file: Path, written: str) -> None:
    assert read_demonstrations(write(file, {"messages": written})).rows[0].conversation == (USER, ANSWER)
    (pair,) = read_preferences(write(file, {"chosen": written, "rejected": written.replace("leeks", "tin")})).rows
    assert (pair.prompt.conversation, pair.chosen.text, pair.rejected.text) == ((USER,), "leeks", "tin")


def test_messages_that_cannot_be_read_are_not_learned_as_text(file: Path) -> None:
    printed = "[{'role': 'user', 'content': 'soup?'}\n {'role': 'assistant', 'content': 'leeks'}]"  # how numpy prints a list
    table = read_demonstrations(write(file, {"prompt": "soup?", "completion": printed}, {"prompt": "soup?", "completion": "leeks"}))
    assert len(table.rows) == 1
    assert table.dropped[0].reason.startswith("`completion` is a text that begins like a list or an object and is neither as JSON")


def test_a_plain_answer_that_is_a_list_of_something_else_stays_text(file: Path) -> None:
    for answer in ('[{"name": "stock", "arguments": {}}]', "[1, 2]", '{"role": "cook"}'):
        assert read_demonstrations(write(file, {"prompt": "soup?", "completion": answer})).rows[0].conversation[-1].text == answer
