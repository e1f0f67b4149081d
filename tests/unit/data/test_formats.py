from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from palate.core import Completion, Conversation, DataError, Demonstration, Message, Preference, Prompt
from palate.data.formats import (
    count_dropped,
    dropped_summary,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_samples,
    read_texts,
)
from palate.data.jsonl import write_rows

SYSTEM, USER, ANSWER = Message("system", "be kind"), Message("user", "soup?"), Message("assistant", "leeks")
CHAT = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "soup?"}]
YES, NO = [{"role": "assistant", "content": "leeks"}], [{"role": "assistant", "content": "mud"}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def write(file: Path, *rows: Mapping[str, object]) -> Path:
    write_rows(file, rows)
    return file


def test_texts_become_one_learned_message(file: Path) -> None:
    table = read_texts(write(file, {"text": "Once upon", "prompt": "not this"}))
    assert table.rows == [Demonstration((Message("text", "Once upon"),), (0,), f"{file}:1")]


@pytest.mark.parametrize(
    ("row", "conversation", "learned"),
    [
        ({"text": "Once"}, (Message("text", "Once"),), (0,)),
        ({"prompt": "2+2=", "completion": " 4"}, (Message("text", "2+2="), Message("text", " 4")), (1,)),
        ({"prompt": CHAT, "completion": YES}, (SYSTEM, USER, ANSWER), (2,)),
        ({"prompt": CHAT, "completion": "leeks"}, (SYSTEM, USER, ANSWER), (2,)),
        ({"prompt": "soup?", "completion": YES}, (USER, ANSWER), (1,)),
        ({"prompt": [*CHAT, *YES, CHAT[1]], "completion": NO}, (SYSTEM, USER, ANSWER, USER, Message("assistant", "mud")), (4,)),
        ({"prompt": CHAT, "completion": [*YES, CHAT[1], *YES]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (2, 4)),
        ({"prompt": "\n\nHuman: soup?\n\nAssistant:", "completion": " leeks\n"}, (USER, ANSWER), (1,)),
        ({"messages": [*CHAT, *YES, CHAT[1], *YES]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (2, 4)),
        ({"messages": [*CHAT, *YES, CHAT[1], *YES], "learned": [4]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (4,)),
        ({"messages": [*CHAT, {**YES[0], "weight": 0}, CHAT[1], {**YES[0], "weight": 1}]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (4,)),
        ({"messages": [*CHAT, {**YES[0], "train": False}, CHAT[1], *YES]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (4,)),
        ({"prompt": CHAT, "completion": [{**YES[0], "weight": 0}, CHAT[1], *YES]}, (SYSTEM, USER, ANSWER, USER, ANSWER), (4,)),
        (
            {"messages": [*CHAT, {**YES[0], "reasoning_content": "hm", "thinking": None, "reasoning": ""}]},
            (SYSTEM, USER, Message("assistant", "leeks", '{"reasoning_content": "hm"}')),
            (2,),
        ),
        ({"messages": [*YES, *CHAT, *YES]}, (ANSWER, SYSTEM, USER, ANSWER), (3,)),
        ({"messages": [*CHAT, *YES, CHAT[1]]}, (SYSTEM, USER, ANSWER, USER), (2,)),
        ({"conversations": [{"from": "human", "value": "soup?"}, {"from": "gpt", "value": "leeks"}]}, (USER, ANSWER), (1,)),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "so"}, {"type": "text", "text": "up?"}]}, *YES]},
            (USER, ANSWER),
            (1,),
        ),
        ({"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, (Message("text", "2+2="), Message("text", " 4")), (1,)),
        ({"chosen": [*CHAT, *YES], "rejected": [*CHAT, *NO]}, (SYSTEM, USER, ANSWER), (2,)),
    ],
)
def test_demonstrations_of_every_shape(file: Path, row: Mapping[str, object], conversation: Conversation, learned: tuple[int, ...]) -> None:
    assert read_demonstrations(write(file, row)).rows == [Demonstration(conversation, learned, f"{file}:1")]


@pytest.mark.parametrize(
    ("row", "prompt", "chosen", "rejected"),
    [
        ({"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, (Message("text", "2+2="),), " 4", " 5"),
        ({"prompt": CHAT, "chosen": YES, "rejected": NO}, (SYSTEM, USER), "leeks", "mud"),
        ({"prompt": CHAT, "chosen": "leeks", "rejected": "mud"}, (SYSTEM, USER), "leeks", "mud"),
        ({"prompt": CHAT, "chosen": [*CHAT, *YES], "rejected": [*CHAT, *NO]}, (SYSTEM, USER), "leeks", "mud"),
        ({"prompt": "soup?", "chosen": YES, "rejected": NO}, (USER,), "leeks", "mud"),
        ({"prompt": "soup?", "chosen": [CHAT[1], *YES], "rejected": [CHAT[1], *NO], "messages": [1]}, (USER,), "leeks", "mud"),
        ({"chosen": [*CHAT, *YES], "rejected": [*CHAT, *NO]}, (SYSTEM, USER), "leeks", "mud"),
        ({"chosen": "The sky is green.", "rejected": "The sky is grey."}, (Message("text", "The sky is"),), " green.", " grey."),
        ({"chosen": "The sky is", "rejected": "The sky"}, (Message("text", "The"),), " sky is", " sky"),
        ({"chosen": "The sky a", "rejected": "The sky  b"}, (Message("text", "The sky"),), " a", "  b"),
        ({"chosen": "\n\nHuman: soup?\n\nAssistant: leeks", "rejected": "\n\nHuman: soup?\n\nAssistant: mud"}, (USER,), "leeks", "mud"),
        (
            {
                "chosen": "\n\nHuman: soup?\n\nAssistant: a\n\nHuman: b\n\nAssistant: a",
                "rejected": "\n\nHuman: soup?\n\nAssistant: a\n\nHuman: b\n\nAssistant: a\n\nAssistant: c",
            },
            (USER, Message("assistant", "a"), Message("user", "b")),
            "a",
            "a\n\nc",
        ),
        ({"prompt": "\n\nHuman: soup?\n\nAssistant:", "chosen": " leeks", "rejected": " mud"}, (USER,), "leeks", "mud"),
    ],
)
def test_preferences_of_every_shape(file: Path, row: Mapping[str, object], prompt: Conversation, chosen: str, rejected: str) -> None:
    (preference,) = read_preferences(write(file, row)).rows
    assert (preference.prompt.conversation, preference.chosen, preference.rejected) == (prompt, Completion(chosen), Completion(rejected))
    assert (preference.probability, preference.margin, preference.weight, preference.dimension) == (1.0, 0.0, 1.0, "overall")


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "2+2="}, (Message("text", "2+2="),)),
        ({"prompt": CHAT}, (SYSTEM, USER)),
        ({"prompt": "\n\nHuman: soup?\n\nAssistant: leeks\n\nHuman: soup?\n\nAssistant:"}, (USER, ANSWER, USER)),
        ({"prompt": "2+2=", "completion": " 4"}, (Message("text", "2+2="),)),
        ({"prompt": CHAT, "completion": YES}, (SYSTEM, USER)),
        ({"chosen": [*CHAT, *YES], "rejected": [*CHAT, *NO]}, (SYSTEM, USER)),
        ({"messages": [*CHAT, *YES, CHAT[1], *YES]}, (SYSTEM, USER, ANSWER, USER)),
        ({"messages": [*CHAT, *YES, CHAT[1]]}, (SYSTEM, USER, ANSWER, USER)),
        ({"messages": CHAT}, (SYSTEM, USER)),
    ],
)
def test_prompts_of_every_shape(file: Path, row: Mapping[str, object], prompt: Conversation) -> None:
    assert read_prompts(write(file, row)).rows == [Prompt("a.jsonl:1", prompt, {}, f"{file}:1")]


def test_further_columns_of_a_prompt_are_its_fields_and_columns_with_a_meaning_are_not(file: Path) -> None:
    write(
        file,
        {"id": 7, "prompt": "2+2=", "completion": "4", "answer": 4, "level": None},
        {"prompt": "a", "chosen": "b", "rejected": "c", "weight": 2, "x": "y"},
    )
    first, second = read_prompts(file).rows
    assert (first.id, first.fields) == ("7", {"answer": 4})
    assert (second.id, second.fields) == ("a.jsonl:2", {"x": "y"})
    assert read_preferences(file).rows[0].prompt.fields == {"x": "y"}


def test_columns_under_fields_are_the_users_whatever_their_names(file: Path) -> None:
    held = {"prompt": "mine", "weight": "heavy", "fields": 3, "id": 9}
    write(file, {"prompt": "2+2=", "fields": held, "answer": 4}, {"prompt": "3+3=", "fields": "no object"})
    first, second = read_prompts(file).rows
    assert (first.id, first.text, first.fields) == ("a.jsonl:1", "2+2=", {**held, "answer": 4})
    assert second.fields == {"fields": "no object"}
    table = read_prompts(write(file, {"prompt": "a", "x": 1, "fields": {"x": 1}}, {"prompt": "b", "x": 1, "fields": {"x": 2}}))
    assert [row.fields for row in table.rows] == [{"x": 1}]
    assert dropped_summary(table) == "1 x a column stands in the row and in `fields` with two values (a.jsonl:2)"


def test_votes_of_a_pair_are_not_columns_of_the_user_unless_they_are_something_else(file: Path) -> None:
    pair = {"prompt": "a", "chosen": "b", "rejected": "c", "probability": 0.75}
    table = read_preferences(
        write(
            file,
            {**pair, "votes": [1, 0.5], "raters": ["ann", "bob"]},
            {**pair, "votes": [1]},
            {**pair, "rater": "ann"},
            {**pair, "votes": 17},
            *(
                {**pair, **wrong}
                for wrong in ({"votes": [2]}, {"votes": ["yes"]}, {"votes": [1, 0], "raters": ["ann"]}, {"votes": [1], "raters": [3]})
            ),
        )
    )
    assert [row.votes for row in table.rows] == [(("ann", 1.0), ("bob", 0.5)), (("", 1.0),), (("ann", 0.75),), ()]
    assert [row.prompt.fields for row in table.rows] == [{}, {}, {}, {"votes": 17}]
    assert len(table.dropped) == 4


SAMPLES = [
    ({"prompt": "Once", "completions": [{"text": " a"}, {"text": ""}]}, [" a", ""]),
    ({"prompt": "Once", "completions": [" a", " b"]}, [" a", " b"]),
    ({"prompt": "Once", "completion": " a"}, [" a"]),
    ({"prompt": "Once", "completion": " a", "label": False}, [" a"]),
    ({"prompt": CHAT, "completions": [YES, NO]}, ["leeks", "mud"]),
    ({"messages": [*CHAT, *YES]}, ["leeks"]),
]


@pytest.mark.parametrize(("row", "texts"), SAMPLES)
def test_samples_of_every_shape_say_what_is_not_known(file: Path, row: Mapping[str, object], texts: list[str]) -> None:
    ((prompt, completions),) = read_samples(write(file, row)).rows
    assert [completion.text for completion in completions] == texts
    assert {(completion.stop, completion.ids, completion.tokenizer) for completion in completions} == {("unknown", (), "")}
    assert prompt.conversation in ((Message("text", "Once"),), (SYSTEM, USER))
    assert prompt.fields == {}


def test_completions_of_one_prompt_belong_together_and_other_rows_are_said(file: Path) -> None:
    table = read_samples(
        write(
            file,
            {"prompt": "Once", "completion": " a", "answer": 1},
            {"prompt": "Once", "completion": " b", "answer": 2},
            {"prompt": "Once", "completions": [" c"], "answer": 1},
            {"prompt": "Once", "completions": []},
            {"prompt": "Once", "chosen": " a", "rejected": " b"},
            {"prompt": "Once", "completions": [{"text": " a", "ids": [1]}]},
            {"prompt": "Once", "completions": [{"text": " a", "stop": "maybe"}]},
        )
    )
    assert [(prompt.fields["answer"], [one.text for one in group]) for prompt, group in table.rows] == [(1, [" a", " c"]), (2, [" b"])]
    told = [row.kind for row in table.dropped]
    assert told[:3] == ["no completion", "no completions of a prompt", "token ids without `tokenizer`"]
    assert told[3].startswith("`completions[0].stop` is 'maybe'; it can be eos, length, unknown, stop")


def test_completions_that_are_no_texts_are_a_column_of_the_user(file: Path) -> None:
    (prompt,) = read_prompts(write(file, {"prompt": "Once", "completions": 3})).rows
    assert prompt.fields == {"completions": 3}
    (other,) = read_prompts(write(file, {"prompt": "Once", "completions": [" a"], "score": 1})).rows
    assert other.fields == {"score": 1}


def test_prompt_ids_are_unique_and_equal_prompts_stay(file: Path) -> None:
    write(file, *[{"prompt": "same", "id": name} for name in ("a", "a", "a#2", "a", 1, "1")], {"prompt": "same"})
    table = read_prompts(file)
    assert [prompt.id for prompt in table.rows] == ["a", "a#2", "a#2#2", "a#3", "1", "1#2", "a.jsonl:7"]
    assert table == read_prompts(file)


def test_what_a_pair_says_beside_its_sides_is_kept(file: Path) -> None:
    row = {
        "prompt": "a",
        "chosen": "b",
        "rejected": "c",
        "probability": 0.75,
        "margin": -1,
        "weight": 0,
        "dimension": "honest",
        "judgments": ["j1", "j2"],
    }
    (preference,) = read_preferences(write(file, row)).rows
    assert preference == Preference(
        Prompt("a.jsonl:1", (Message("text", "a"),), {}, f"{file}:1"),
        Completion("b"),
        Completion("c"),
        0.75,
        -1.0,
        0.0,
        "honest",
        ("j1", "j2"),
    )


def test_limit_counts_rows_kept(file: Path) -> None:
    write(file, {"prompt": ""}, {"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    table = read_prompts(file, limit=2)
    assert [prompt.text for prompt in table.rows] == ["a", "b"]
    assert [row.source for row in table.dropped] == [f"{file}:1"]
    with pytest.raises(ValueError, match="limit is 0"):
        read_prompts(file, limit=0)


GOOD = {"prompt": "a", "chosen": "b", "rejected": "c"}
TALK = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "a", "chosen": "b"}, "no `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "no `rejected`"),
        ({"prompt": "a", "completion": "b"}, "no `chosen` and `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty completion"),
        ({"prompt": "a", "chosen": "b", "rejected": "b\n"}, "the two sides are equal"),
        ({"chosen": "b c", "rejected": "b c"}, "the two sides are equal"),
        ({"chosen": [*TALK, *YES], "rejected": [*TALK, *YES]}, "the two sides are equal"),
        ({"prompt": TALK, "chosen": YES, "rejected": YES}, "the two sides are equal"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "empty `prompt`"),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "empty `prompt`"),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "`prompt` is not a list of messages"),
        ({"prompt": "a", "chosen": 3, "rejected": "c"}, "one side is a string, the other a list of messages"),
        ({"prompt": "a", "chosen": 3, "rejected": 4}, "`chosen` is not a list of messages"),
        ({"prompt": "a", "chosen": "b", "rejected": "c \udc00"}, "`rejected` is not valid Unicode"),
        ({"chosen": "one", "rejected": "two"}, "the sides share no prompt"),
        ({"chosen": YES, "rejected": NO}, "the sides share no prompt"),
        ({"chosen": [*TALK, *YES, *TALK, *YES], "rejected": [*TALK, *NO]}, "the sides differ in more than the last assistant turn"),
        ({"prompt": TALK, "chosen": [*YES, *TALK], "rejected": NO}, "a side is not one assistant turn"),
        ({"prompt": [*TALK, *YES], "chosen": YES, "rejected": NO}, "the prompt does not end with a turn to answer"),
        ({**GOOD, "probability": 1.3}, "`probability` is outside 0 to 1"),
        ({**GOOD, "probability": -0.1}, "`probability` is outside 0 to 1"),
        ({**GOOD, "probability": "high"}, "`probability` is not a number"),
        ({**GOOD, "probability": True}, "`probability` is not a number"),
        ({**GOOD, "weight": -1}, "`weight` is outside 0 to inf"),
        ({**GOOD, "dimension": 3}, "`dimension` is not a string"),
        ({**GOOD, "judgments": "j1"}, "`judgments` is not a list of strings"),
        ({**GOOD, "id": 1.5}, "`id` is not a string or a whole number"),
        ({"prompt": [{"role": "user"}], "chosen": "b", "rejected": "c"}, "a message without text"),
        ({"prompt": [{"role": "cook", "content": "b"}], "chosen": "b", "rejected": "c"}, "unknown role"),
        ({"prompt": ["hello"], "chosen": "b", "rejected": "c"}, "a message is not a mapping"),
        ({"prompt": [{"role": "user", "content": " "}], "chosen": "b", "rejected": "c"}, "empty turn"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "b", "rejected": "c"}, "a message part that is not text"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: b"}, "empty completion"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rejected": "\n\nHuman: a\n\nAssistant: b"},
            "the sides differ in more than the last assistant turn",
        ),
        ({"surprise": 1}, "no known columns"),
        ({"prompt": None, "chosen": None}, "null in every column that counts"),
    ],
)
def test_an_unusable_pair_is_dropped_with_its_row_and_reason(file: Path, row: Mapping[str, object], kind: str) -> None:
    file.write_text("\n".join(json.dumps(each) for each in (GOOD, row, GOOD)))
    table = read_preferences(file)
    assert len(table.rows) == 2
    assert [(dropped.source, dropped.kind) for dropped in table.dropped] == [(f"{file}:2", kind)]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "a"}, "no completion"),
        ({"prompt": "a", "completion": ""}, "empty completion"),
        ({"prompt": "a", "completion": 3}, "`completion` is not a list of messages"),
        ({"completion": "b"}, "no `prompt`"),
        ({"prompt": TALK, "completion": TALK}, "no assistant turn to learn from"),
        ({"messages": TALK}, "no assistant turn to learn from"),
        ({"messages": YES}, "no turn before the assistant turn"),
        ({"messages": []}, "empty `messages`"),
        ({"messages": "hello"}, "`messages` is not a list of messages"),
        ({"messages": [*TALK, {"role": "assistant", "content": ""}]}, "empty completion"),
        ({"messages": [*TALK, *YES], "learned": [0]}, "`learned` is not a list of assistant turns"),
        ({"messages": [*TALK[:1], {**YES[0], "weight": 0}]}, "no assistant turn to learn from"),
        ({"messages": [*TALK[:1], {**YES[0], "weight": 0.5}]}, "a message's `weight` is neither 0 nor 1"),
        ({"messages": [*TALK[:1], {**YES[0], "thinking": ["hm"]}]}, "`thinking` is not the text of an assistant's thoughts"),
        ({"messages": [{**TALK[0], "thinking": "hm"}, *YES]}, "`thinking` is not the text of an assistant's thoughts"),
        ({"messages": [*TALK, *YES], "learned": [[1]]}, "`learned` is not a list of assistant turns"),
        ({"text": " "}, "empty `text`"),
        ({"text": ["a"]}, "`text` is not a string"),
    ],
)
def test_an_unusable_demonstration_is_dropped_with_its_row_and_reason(file: Path, row: Mapping[str, object], kind: str) -> None:
    file.write_text("\n".join(json.dumps(each) for each in ({"text": "fine"}, row)))
    assert [(dropped.source, dropped.kind) for dropped in read_demonstrations(file).dropped] == [(f"{file}:2", kind)]


def test_texts_are_no_prompts_and_other_rows_no_texts(file: Path) -> None:
    write(file, {"text": "a"}, {"prompt": "b"})
    assert [dropped.kind for dropped in read_prompts(file).dropped] == ["no prompt"]
    assert [dropped.kind for dropped in read_texts(file).dropped] == ["no `text`"]


def test_the_summary_counts_by_kind_and_names_the_first_rows(file: Path) -> None:
    write(file, GOOD, {**GOOD, "probability": 2}, *[{**GOOD, "chosen": ""}] * 5, {**GOOD, "probability": 3})
    table = read_preferences(file)
    assert (
        dropped_summary(table)
        == "5 x empty completion (a.jsonl:3, a.jsonl:4, a.jsonl:5, ...); 2 x `probability` is outside 0 to 1 (a.jsonl:2, a.jsonl:8)"
    )
    assert [(kind.reason, kind.count) for kind in count_dropped(table.dropped)] == [
        ("empty completion", 5),
        ("`probability` is outside 0 to 1", 2),
    ]
    assert dropped_summary(read_preferences(file, limit=1)) == ""


def test_a_first_row_with_unknown_columns_stops_the_reading(file: Path) -> None:
    write(file, {"query": "a", "reply": "b"}, {"prompt": "a"})
    with pytest.raises(DataError, match=r"a\.jsonl:1: the row has the columns query, reply, which do not make a known shape\.") as caught:
        read_prompts(file)
    assert str(caught.value).splitlines()[1:] == [
        "The nearest shape is a prompt with its completion.",
        "Write this line in the stage's settings, if that is what they hold: "
        "columns: {kind: question_answer, question: query, answer: reply} (docs/data.md shows every shape)",
    ]


def test_a_file_without_a_usable_row_says_why_and_what_is_needed(file: Path) -> None:
    write(file, {"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(
        DataError,
        match=r"none of its 2 rows can be used: 2 x no completion \(a\.jsonl:1.*columns: prompt\. Demonstrations need a completion",
    ):
        read_demonstrations(file)
    file.write_text("\n")
    with pytest.raises(DataError, match=r"a\.jsonl: holds no row"):
        read_demonstrations(file)
