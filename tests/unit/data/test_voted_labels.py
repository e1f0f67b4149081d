"""The quick reader of labels says what the reader of all shapes says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Completion, DataError, Message, Preference, Prompt
from palate.data.formats import read_preferences
from palate.data.jsonl import write_rows
from palate.data.judgment_rows import voted_preference_row
from palate.data.voted_labels import read_voted_labels

CHAT = Prompt("chat", (Message("system", "Be short."), Message("user", "Fire or ice?")), {"table": 3, "wish": "sour"})
TOOLS = Prompt("tools", (Message("user", "How warm?", '{"tools": [{"name": "oven"}]}'),))
PLAIN = Prompt("plain", (Message("text", "Once upon"),))
TURNS = Prompt("turns", (Message("text", "\n\nHuman: Hi\n\nAssistant:"),))


def preferences(prompt: Prompt) -> list[Preference]:
    sides = Completion("fire", (5, 6), stop="eos", tokenizer="t"), Completion(" ice", (7,), stop="eos", tokenizer="t")
    return [Preference(prompt, *sides, 0.8, dimension=dimension) for dimension in ("helpful", "honest")]


def test_it_reads_what_the_reader_of_all_shapes_reads(tmp_path: Path) -> None:
    made = [one for prompt in (CHAT, TOOLS, PLAIN, TURNS) for one in preferences(prompt)]
    made.append(replace(made[0], chosen=Completion(""), probability=0.5, dimension="harmless"))
    rows = [voted_preference_row(f"{one.prompt.id}/{k}", one, [1.0, 0.5], ["r1", "r2"]) for k, one in enumerate(made)]
    write_rows(tmp_path / "preferences.jsonl", rows[:-1])
    slow = read_preferences(tmp_path / "preferences.jsonl").rows
    quick = list(read_voted_labels(tmp_path / "preferences.jsonl"))
    assert [(one.prompt.content, one.chosen, one.rejected, one.probability, one.dimension) for one in quick] == [
        (one.prompt.content, one.chosen.text, one.rejected.text, one.probability, one.dimension) for one in slow
    ]
    assert len({id(one.prompt) for one in quick}) == 4, "a prompt is read once"
    assert quick[0].prompt.content[0] == CHAT.conversation
    write_rows(tmp_path / "preferences.jsonl", rows[-1:])
    assert [one.chosen for one in read_voted_labels(tmp_path / "preferences.jsonl")] == [""]


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"prompt": 3, "chosen": "a", "rejected": "b", "probability": 0.7, "dimension": "x"}])
def test_what_is_not_a_label_is_named_with_its_place(tmp_path: Path, row: dict[str, object]) -> None:
    write_rows(tmp_path / "preferences.jsonl", [row])
    with pytest.raises(DataError, match=r"preferences\.jsonl:1: not a label of a run of collect.*Run collect again"):
        list(read_voted_labels(tmp_path / "preferences.jsonl"))
