"""Ratings, ranks and labels become pairs and thumbs: whose margin, whose dimension, and what is dropped for which reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from palate.core import DataError, Message, Preference
from palate.data.formats import (
    dropped_summary,
    format_of_file,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_unpaired,
    stream_demonstrations,
    unpaired_row,
)
from palate.data.formats.dropped import Dropped
from palate.data.jsonl import write_rows

USER = (Message("user", "soup?"),)
Row = Mapping[str, object]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def write(file: Path, *rows: Row) -> Path:
    write_rows(file, rows)
    return file


def steer(response: str, helpful: float, correct: float = 2, verbose: float = 0, prompt: str = "soup?") -> Row:
    return {"prompt": prompt, "response": response, "helpfulness": helpful, "correctness": correct, "verbosity": verbose}


def told(rows: list[Preference]) -> list[tuple[str, str, float]]:
    return [(row.chosen.text, row.rejected.text, row.margin) for row in rows]


def test_ratings_of_one_prompt_are_paired_wherever_they_stand_with_the_difference_as_margin(file: Path) -> None:
    write(file, steer("leeks", 3, 4), steer("x", 1, prompt="stew?"), steer("mud", 0, 1), steer("peas", 2, 2))
    table = read_preferences(file)
    assert told(table.rows) == [("leeks", "mud", 3.0), ("leeks", "peas", 1.5), ("peas", "mud", 1.5)]
    assert {row.prompt.conversation for row in table.rows} == {USER}
    assert [row.prompt.source for row in table.rows] == [f"{file}:3", f"{file}:4", f"{file}:4"]
    assert len({row.prompt.id for row in table.rows}) == 3
    assert {row.dimension for row in table.rows} == {"overall"}
    assert dropped_summary(table) == "1 x no other rated completion of this prompt (a.jsonl:2)"


def test_one_axis_decides_when_it_is_named(file: Path) -> None:
    write(file, steer("leeks", 3, 4, 0), steer("mud mud", 0, 1, 4))
    assert told(read_preferences(file, dimension="verbosity").rows) == [("mud mud", "leeks", 4.0)]
    assert {row.dimension for row in read_preferences(file, dimension="verbosity").rows} == {"verbosity"}
    with pytest.raises(DataError, match="no rating `coherence`: there are helpfulness, correctness, verbosity, mean"):
        read_preferences(file, dimension="coherence")


def test_equal_ratings_and_equal_completions_make_no_pair(file: Path) -> None:
    write(file, steer("leeks", 3), steer("mud", 3), steer("leeks ", 1))
    table = read_preferences(file)
    assert told(table.rows) == [("mud", "leeks ", 1.0)]
    assert [(row.source, row.kind) for row in table.dropped] == [
        (f"{file}:2", "both sides are rated alike"),
        (f"{file}:3", "the two sides are equal"),
    ]


def test_a_limit_counts_pairs(file: Path) -> None:
    write(file, steer("leeks", 3), steer("mud", 0), steer("peas", 1))
    assert len(read_preferences(file, limit=2).rows) == 2


def test_helpsteer2_marks_earlier_turns_in_its_prompt(file: Path) -> None:
    prompt = "soup?\n<extra_id_1>Assistant\nWhich?\n<extra_id_1>User\nany"
    write(file, steer("leeks", 3, prompt=prompt), steer("mud", 0, prompt="soup?\n<extra_id_1>Assistant\nyes"))
    table = read_demonstrations(file)
    turns = (*USER, Message("assistant", "Which?"), Message("user", "any"), Message("assistant", "leeks"))
    assert [row.conversation for row in table.rows] == [turns]
    assert dropped_summary(table) == "1 x the prompt does not end with a turn to answer (a.jsonl:2)"


def note(**ratings: str) -> Row:
    return {dimension: {"Rating": rating, "Rationale": "so"} for dimension, rating in ratings.items()}


def test_feedback_is_rated_by_the_mean_of_its_annotations_or_else_the_overall_score(file: Path) -> None:
    completions: list[Row] = [
        {"response": "mud", "overall_score": 9.0, "annotations": note(helpfulness="1", honesty="2")},
        {"response": "leeks", "overall_score": 1.0, "annotations": note(helpfulness="5", honesty="N/A")},
        {"response": "peas", "overall_score": 3.0},
        {"response": "air"},
    ]
    write(file, {"instruction": "soup?", "completions": completions, "source": "us"})
    table = read_preferences(file)
    assert told(table.rows) == [("leeks", "mud", 3.5), ("peas", "mud", 1.5), ("leeks", "peas", 2.0)]
    assert {row.prompt.fields["source"] for row in table.rows} == {"us"}
    assert dropped_summary(table) == "1 x no rating `mean` (a.jsonl:1)"
    assert told(read_preferences(file, dimension="overall_score").rows)[0] == ("mud", "leeks", 8.0)
    assert told(read_preferences(file, dimension="helpfulness").rows) == [("leeks", "mud", 4.0)]
    (best,) = read_demonstrations(file).rows
    assert best.conversation == (*USER, Message("assistant", "leeks"))


@pytest.mark.parametrize(
    "names", [("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen-rating", "rejected-rating")]
)
def test_binarized_feedback_has_the_difference_of_its_scores_as_margin(file: Path, names: tuple[str, str]) -> None:
    def row(chosen: float, rejected: float, **more: float) -> Row:
        return {"prompt": "soup?", "chosen": "leeks", "rejected": "mud", names[0]: chosen, names[1]: rejected, **more}

    table = read_preferences(write(file, row(8, 2.5), row(8, 2, margin=0.25), row(3, 3), row(2, 3)))
    assert [row.margin for row in table.rows] == [5.5, 0.25]
    assert [dropped.kind for dropped in table.dropped] == ["both sides are rated alike", "the chosen side is rated lower"]


def message(text: str, role: str, *replies: Row, **more: object) -> Row:
    return {"text": text, "role": role, "replies": list(replies), **more}


def test_a_tree_gives_pairs_wherever_replies_are_ranked(file: Path) -> None:
    again = message("and now?", "prompter", message("salt", "assistant", rank=1), message("oil", "assistant", rank=0), rank=0)
    tree = message(
        "soup?",
        "prompter",
        message("leeks", "assistant", again, rank=0),
        message("mud", "assistant", rank=2),
        message("spam", "assistant", rank=1, deleted=True),
        message("unranked", "assistant", rank=None),
    )
    write(file, {"message_tree_id": "t", "prompt": tree}, {"prompt": message("alone", "prompter")})
    table = read_preferences(file)
    assert told(table.rows) == [("leeks", "mud", 0.0), ("oil", "salt", 0.0)]
    assert table.rows[1].prompt.conversation == (*USER, Message("assistant", "leeks"), Message("user", "and now?"))
    assert dropped_summary(table) == "1 x no ranked replies (a.jsonl:2)"
    assert [row.conversation[-1].text for row in read_demonstrations(file).rows] == ["leeks", "oil"]
    assert [prompt.conversation for prompt in read_prompts(file).rows] == [USER]


def flat(name: str, parent: str | None, text: str, **more: object) -> Row:
    role = "prompter" if text.endswith("?") else "assistant"
    return {"message_id": name, "parent_id": parent, "message_tree_id": "1", "text": text, "role": role, "lang": "en", **more}


FLAT = [
    flat("1", None, "soup?", rank=None),
    flat("2", "1", "mud", rank=1),
    flat("3", "1", "leeks", rank=0, review_result=True, deleted=False),
    flat("4", "1", "spam", rank=2, review_result=False),
    flat("5", "4", "more spam?"),
    flat("6", "5", "yes"),
    flat("7", "3", "and now?"),
    flat("8", "7", "salt", rank=None),
    flat("9", "3", "why?"),
    flat("a", "9", "gone", rank=0, deleted=True),
    flat("b", "9", "taste", rank=1),
]


@pytest.mark.parametrize("step", [1, -1])
def test_messages_one_by_one_make_the_trees_they_were_in_any_order(file: Path, step: int) -> None:
    table = read_preferences(write(file, *FLAT[::step]))
    assert told(table.rows) == [("leeks", "mud", 0.0)]
    assert table.rows[0].prompt.conversation == USER
    assert table.rows[0].prompt.fields == {"lang": "en"}
    assert table.rows[0].prompt.source == f"{file}:{1 if step == 1 else len(FLAT)}"
    answers = [row.conversation[-1].text for row in read_demonstrations(file).rows]
    assert (answers if step == 1 else sorted(answers)) == (["leeks", "salt", "taste"])
    threads = {row.conversation[-1].text: len(row.conversation) for row in read_demonstrations(file).rows}
    assert threads == {"leeks": 2, "salt": 4, "taste": 4}


def test_messages_without_their_thread_are_told(file: Path) -> None:
    rows = [*FLAT, flat("1", None, "soup?"), flat("x", "nowhere", "hm"), flat("y", "x", "well?"), flat("z", None, "gone?", deleted=True)]
    table = read_preferences(write(file, *rows))
    assert [(row.source.rpartition(":")[2], row.kind) for row in table.dropped] == [
        ("12", "a message that stands in the file twice"),
        ("15", "the first message is deleted or was rejected"),
        ("13", "a message whose thread does not begin in the file"),
        ("14", "a message whose thread does not begin in the file"),
    ]


PLAIN, CHAT = {"prompt": "2+2=", "completion": " 4"}, {"prompt": [{"role": "user", "content": "soup?"}]}
YES = [{"role": "assistant", "content": "leeks"}]


def test_thumbs_are_plain_or_conversational(file: Path) -> None:
    rows: list[Row] = [
        {**PLAIN, "label": True, "id": "p", "source": "us"},
        {**CHAT, "completion": YES, "label": False, "weight": 2},
        {**PLAIN, "label": 3},
        {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"},
        {"prompt": "\n\nHuman: soup?\n\nAssistant:", "completion": " leeks\n", "label": True},
    ]
    table = read_unpaired(write(file, *rows))
    assert [(row.completion.text, row.desirable, row.weight) for row in table.rows] == [
        (" 4", True, 1.0),
        ("leeks", False, 2.0),
        ("leeks", True, 1.0),
    ]
    assert [row.prompt.conversation for row in table.rows] == [(Message("text", "2+2="),), USER, USER]
    assert [row.id for row in table.rows] == ["p", "a.jsonl:2", "a.jsonl:5"]
    assert table.rows[0].prompt.fields == {"source": "us"}
    assert dropped_summary(table) == "1 x `label` is not true or false (a.jsonl:3); 1 x no `label` of true or false (a.jsonl:4)"


def test_thumbs_written_are_read(file: Path) -> None:
    rows = read_unpaired(
        write(file, {**PLAIN, "label": True, "source": "us"}, {**CHAT, "completion": YES, "label": False, "weight": 2})
    ).rows
    again = read_unpaired(write(file.with_name("b.jsonl"), *map(unpaired_row, rows))).rows
    assert [unpaired_row(row) for row in again] == [unpaired_row(row) for row in rows]
    assert [row.prompt.conversation for row in again] == [row.prompt.conversation for row in rows]


def test_only_desirable_thumbs_are_demonstrations(file: Path) -> None:
    table = read_demonstrations(write(file, {**PLAIN, "label": True}, {**PLAIN, "label": False}))
    assert [row.source for row in table.rows] == [f"{file}:1"]
    assert dropped_summary(table) == "1 x an undesirable completion is not imitated (a.jsonl:2)"


def test_labels_and_ratings_of_a_table_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,label\n2+2=, 4,True\n2+2=, 5,false\n")
    assert [row.desirable for row in read_unpaired(tmp_path / "a.csv").rows] == [True, False]
    (tmp_path / "b.csv").write_text("prompt,response,helpfulness\nsoup?,leeks,4\nsoup?,mud,1\n")
    assert told(read_preferences(tmp_path / "b.csv").rows) == [("leeks", "mud", 3.0)]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "soup?", "response": " ", "helpfulness": 1}, "empty `response`"),
        ({"prompt": "soup?", "response": "x", "helpfulness": "four"}, "`helpfulness` is not a number"),
        ({"instruction": "soup?", "completions": []}, "`completions` is not a list of completions"),
        ({"instruction": "soup?", "completions": ["x"]}, "`completions` is not a list of completions"),
        ({"prompt": message("soup?", "cook")}, "unknown role"),
        ({"prompt": {**message("soup?", "prompter"), "replies": "none"}}, "`replies` is not a list of messages"),
        ({**CHAT, "completion": [*YES, CHAT["prompt"]], "label": True}, "a message is not a mapping"),
        ({**CHAT, "completion": " ", "label": True}, "empty completion"),
        ({"completion": "x", "label": True}, "no `prompt`"),
    ],
)
def test_what_cannot_be_used_is_dropped_with_its_row_and_reason(file: Path, row: Row, kind: str) -> None:
    table = read_prompts(write(file, PLAIN, row))
    assert [(dropped.source, dropped.kind) for dropped in table.dropped] == [(f"{file}:2", kind)]


def test_turns_of_system_and_tools_are_kept_and_calls_are_not_lost_in_silence(file: Path) -> None:
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "soup?"},
        {"role": "assistant", "content": "look"},
        {"role": "tool", "content": "leeks: 2"},
        {"role": "assistant", "content": "leeks"},
    ]
    old = [*turns[:2], {**turns[2], "function_call": {"name": "look", "arguments": "{}"}}, *turns[3:]]
    table = read_demonstrations(write(file, {"messages": turns}, {"messages": old}))
    assert [[turn.role for turn in row.conversation] for row in table.rows] == [["system", "user", "assistant", "tool", "assistant"]]
    assert dropped_summary(table) == "1 x `function_call` is not read (a.jsonl:2)"


def test_a_stream_gives_rows_and_dropped_ones_in_the_order_of_the_file(file: Path) -> None:
    rows = stream_demonstrations(write(file, {"text": "one"}, {"text": ""}, {"text": "two"}))
    assert [isinstance(row, Dropped) for row in rows] == [False, True, False]


def test_the_shape_of_a_file_is_that_of_its_first_row_that_has_one(file: Path) -> None:
    file.write_text('nonsense\n{"text": "one"}\n')
    assert format_of_file(file).name == "text"
    with pytest.raises(DataError, match="holds no row"):
        format_of_file(write(file))
