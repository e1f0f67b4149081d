"""What is proposed for columns that make no shape: the line can be pasted, and it reads the row as meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from palate.cli.inspection import columns_of
from palate.data.formats import RowKind, UnknownShapeError, format_of_file, propose
from palate.data.formats.proposals import shape_text

TALK = [{"speaker": "A", "text": "soup?"}, {"speaker": "B", "text": "leeks"}]

COMPLETE: list[tuple[dict[str, object], str, RowKind]] = [
    ({"task": "Name a dish.", "reply": "Leek soup."}, "{prompt: task, completion: reply}", "demonstrations"),
    ({"userQuery": "soup?", "botAnswer": "a leek"}, "{kind: question_answer, question: userQuery, answer: botAnswer}", "demonstrations"),
    ({"instruction": "soup?", "context": "b", "response": "c"}, "{kind: alpaca, input: context, output: response}", "demonstrations"),
    (
        {"instruction": "soup?", "input": "b", "better": "c", "worse": "d"},
        "{kind: llama_factory, chosen: better, rejected: worse}",
        "preferences",
    ),
    ({"question": "soup?", "good": "x", "bad": "y"}, "{kind: question_answer, chosen: good, rejected: bad}", "preferences"),
    ({"post": "a b", "winner": "x y", "loser": "y z"}, "{prompt: post, chosen: winner, rejected: loser}", "preferences"),
    (
        {"opening words": "soup?", "model_answer": "x", "kto_tag": True},
        '{prompt: "opening words", completion: model_answer, label: kto_tag}',
        "unpaired",
    ),
    ({"question": "soup?", "response": "a", "id": 3}, "{kind: question_answer, answer: response}", "demonstrations"),
    ({"chat": [{"role": "user", "content": "soup?"}, {"role": "assistant", "content": "a"}]}, "{messages: chat}", "demonstrations"),
    ({"chat": '[{"role": "user", "content": "soup?"}]'}, "{messages: chat}", "demonstrations"),
    ({"dialog": TALK}, "{kind: sharegpt, messages: dialog, role: speaker, content: text, user: A, assistant: B}", "demonstrations"),
    ({"body": "Once there was", "url": "x"}, "{text: body}", "texts"),
    ({"query": "soup?"}, "{prompt: query}", "prompts"),
]


@pytest.mark.parametrize(("row", "line", "kind"), COMPLETE)
def test_the_line_reads_the_row(row: dict[str, object], line: str, kind: RowKind, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    with pytest.raises(UnknownShapeError) as caught:
        format_of_file(path)
    proposal = propose(caught.value.row)
    assert (proposal.line, proposal.missing) == (f"columns: {line}", ())
    assert format_of_file(path, columns_of(proposal.words)).kind == kind
    pasted = yaml.safe_load(proposal.line)["columns"]
    words = [value if name == "kind" else f"{name}={value}" for name, value in pasted.items()]
    assert columns_of(words) == columns_of(proposal.words)


@pytest.mark.parametrize(
    ("row", "lacking", "line"),
    [
        ({"question": "soup?", "good": "x"}, "`rejected`", "{kind: question_answer, chosen: good, rejected: COLUMN}"),
        ({"a": "two words", "b": "or three"}, "`prompt` or `completion`", "{prompt: COLUMN, completion: COLUMN}"),
        ({"rater": "anna"}, "`prompt` or `completion`", "{prompt: COLUMN, completion: COLUMN}"),
    ],
)
def test_what_nobody_can_know_is_left_open(row: dict[str, object], lacking: str, line: str) -> None:
    first, nearest, remedy = shape_text("a.jsonl:1", row).splitlines()
    assert first == f"a.jsonl:1: the row has the columns {', '.join(row)}, which do not make a known shape."
    assert nearest.endswith(f", and no column seems to hold {lacking}.")
    assert f"columns: {line}" in remedy
    assert remedy.startswith("Name the column in place of COLUMN and write this line")
