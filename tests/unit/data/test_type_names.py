"""Names of types that users of other projects know: each reads a row as that project's own documentation writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.inspection import columns_of
from palate.core import Message
from palate.data.formats import read_demonstrations, read_preferences, read_unpaired, type_named
from palate.data.formats.further_kinds import (
    ALPACA_KINDS,
    LLAMA_FACTORY_KINDS,
    QUESTION_ANSWER_KINDS,
    RECOGNISED_KINDS,
    SHAREGPT_KINDS,
)

USER, ANSWER, WORSE, SYSTEM = Message("user", "soup?"), Message("assistant", "leeks"), "tin", Message("system", "Be brief.")
ASKED = [{"role": "user", "content": "soup?"}]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("leeks", "tin"))
SHARED = [{"from": "human", "value": "soup?"}, {"from": "gpt", "value": "leeks"}]
WHOLE = {"chosen": [*ASKED, GOOD], "rejected": [*ASKED, BAD]}
SIDES = {"chosen": "leeks", "rejected": "tin"}

DEMONSTRATIONS: dict[str, dict[str, object]] = {
    "alpaca": {"instruction": "soup?", "input": "", "output": "leeks"},
    "sharegpt": {"conversations": SHARED},
    "openai": {"messages": [*ASKED, GOOD]},
    "chat_template": {"messages": [*ASKED, GOOD]},
    "pygmalion": {"conversations": [{"role": "human", "value": "soup?"}, {"role": "gpt", "value": "leeks"}]},
    "jeopardy": {"question": "soup?", "category": "food", "answer": "leeks"},
    "oasst": {"INSTRUCTION": "soup?", "RESPONSE": "leeks"},
    "gpteacher": {"instruction": "soup?", "input": "", "response": "leeks"},
    "alpaca_chat.load_qa": {"question": "soup?", "answer": "leeks"},
    "alpaca_chat.load_camel_ai": {"message_1": "soup?", "message_2": "leeks"},
    "creative_acr.load_answer": {"instruction": "soup?", "revision": "leeks"},
    "question_answer": {"question": "soup?", "answer": "leeks"},
}

PAIRS: dict[str, dict[str, object]] = {
    "llama_factory": {"instruction": "soup?", "input": "", **SIDES},
    "chat_template.default": {"messages": ASKED, "chosen": GOOD, "rejected": BAD},
    "chat_template.argilla": {"prompt": "soup?", **WHOLE},
    "chat_template.argilla_chat": WHOLE,
    "bradley_terry.chat_template": {"input": "soup?", **SIDES},
} | {
    f"{template}.{name}": row
    for template in ("chatml", "llama3")
    for name, row in {
        "argilla": {"instruction": "soup?", "chosen_response": "leeks", "rejected_response": "tin"},
        "argilla_chat": WHOLE,
        "icr": {"input": "soup?", **SIDES},
        "intel": {"question": "soup?", **SIDES},
        "prompt_pairs": {"prompt": "soup?", **SIDES},
        "ultra": {"prompt": "soup?", **WHOLE},
    }.items()
}

LABELLED: dict[str, dict[str, object]] = {
    "chatml.argilla": {"instruction": "soup?", "completion": "leeks"},
    "llama3.intel": {"question": "soup?", "completion": "leeks"},
    "chatml.prompt_pairs": {"prompt": "soup?", "completion": "leeks"},
}


def written(folder: Path, row: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_a_demonstration(name: str, tmp_path: Path) -> None:
    (row,) = read_demonstrations(written(tmp_path, DEMONSTRATIONS[name]), columns=type_named(name)).rows
    assert (row.conversation, row.learned) == ((USER, ANSWER), (1,))


def test_texts_and_what_stands_before_a_question(tmp_path: Path) -> None:
    for name, given, turns in (
        ("completion", {"text": "a story"}, (Message("text", "a story"),)),
        ("pretrain", {"text": "a story"}, (Message("text", "a story"),)),
        ("metharme", {"prompt": "soup?", "generation": "leeks"}, (Message("text", "soup?"), Message("text", "leeks"))),
        ("context_qa", {"article": "a", "question": "b", "answer": "leeks"}, (Message("user", "a\n\nb"), ANSWER)),
        ("context_qa.load_v2", {"context": "a", "question": "b", "answer": "leeks"}, (Message("user", "a\n\nb"), ANSWER)),
        (
            "alpaca_w_system.load_open_orca",
            {"system_prompt": "Be brief.", "question": "soup?", "response": "leeks"},
            (SYSTEM, USER, ANSWER),
        ),
    ):
        (row,) = read_demonstrations(written(tmp_path, given), columns=type_named(name)).rows
        assert row.conversation == turns, name


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_alone_and_under_a_system_text(name: str, tmp_path: Path) -> None:
    for given, before in ((PAIRS[name], ()), ({"system": "Be brief.", **PAIRS[name]}, (SYSTEM,))):
        (row,) = read_preferences(written(tmp_path, given), columns=type_named(name)).rows
        assert (row.prompt.conversation, row.chosen.text, row.rejected.text) == ((*before, USER), "leeks", WORSE)


@pytest.mark.parametrize("name", LABELLED)
def test_the_same_name_reads_labelled_completions(name: str, tmp_path: Path) -> None:
    (row,) = read_unpaired(written(tmp_path, {**LABELLED[name], "label": False}), columns=type_named(name)).rows
    assert (row.prompt.conversation, row.completion.text, row.desirable) == ((USER,), "leeks", False)


def test_a_name_is_a_kind_of_the_setting_whose_columns_can_differ() -> None:
    assert columns_of(["chatml.intel"]) == type_named("chatml.intel")
    assert columns_of(["oasst", "answer=REPLY"]) == columns_of(["question_answer", "question=INSTRUCTION", "answer=REPLY"])


def test_every_name_is_tested_here_and_stands_on_the_page() -> None:
    tables = (RECOGNISED_KINDS, ALPACA_KINDS, SHAREGPT_KINDS, LLAMA_FACTORY_KINDS, QUESTION_ANSWER_KINDS)
    names = {name for table in tables for name in table}
    texts = {"completion", "pretrain", "metharme", "context_qa", "context_qa.load_v2", "alpaca_w_system.load_open_orca"}
    assert names - DEMONSTRATIONS.keys() - PAIRS.keys() - texts == {"user_defined.default"}
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in page] == []
