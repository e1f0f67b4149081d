"""Tools from row to tokens: written by a real template, calls learned with the end of their turn, results read only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from palate.core import Comparison, Completion, Demonstration, Judgment, Message
from palate.data.formats import (
    demonstration_row,
    dropped_summary,
    preference_row,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_samples,
    read_unpaired,
    sample_row,
    unpaired_row,
)
from palate.data.jsonl import write_rows
from palate.raters.people import People
from palate.stages.collect import Collect
from palate.text.spans import Unusable, demonstration_tree, preference_tree, prompt_ids
from palate.training.comparisons import judged_prompts
from palate.training.unpaired import rated_prompts
from tests.unit.text.conftest import CHATML, bpe
from tests.unit.text.test_spans import LONG, learned_text

QWEN = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n' }}{% endif %}"
    "{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}"
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\\n' + m.content }}{% endif %}"
    "{% for call in m.tool_calls %}{% if call.function is defined %}{% set call = call.function %}{% endif %}"
    "{{ '\\n<tool_call>\\n' + {'name': call.name, 'arguments': call.arguments} | tojson + '\\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}"
    "{% elif m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""As Qwen writes tools: schemas in the system turn, results of neighbouring calls in one turn of the user."""

OWN_END = (
    "{% for t in tools or [] %}{{ '<|user|>' + t | tojson }}{% endfor %}{% for m in messages %}"
    "{% if m.tool_calls %}{{ '<|assistant|>' + m.tool_calls[0].function.arguments | tojson + '<|call|>' }}"
    "{% elif m.role == 'assistant' %}{{ '<|assistant|>' + m.content + eos_token }}{% else %}{{ '<|user|>' + m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""A call is closed by a token of its own, as gpt-oss and Llama 3.1 do."""

SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "stock",
        "description": "What is in the larder.",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}},
    },
}


def call(item: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "stock", "arguments": {"item": item}}}


def said(item: str) -> str:
    return f'<tool_call>\n{{"name": "stock", "arguments": {{"item": "{item}"}}}}\n</tool_call>'


TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is there soup?"},
    {"role": "assistant", "content": "", "tool_calls": [call("leeks"), call("potatoes")]},
    {"role": "tool", "name": "stock", "content": "2"},
    {"role": "tool", "name": "stock", "content": "5"},
    {"role": "assistant", "content": "There is."},
    {"role": "user", "content": "And salt?"},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [call("salt")]},
]


@pytest.fixture(scope="module")
def qwen() -> PreTrainedTokenizerFast:
    tokenizer = bpe(chat_template=QWEN, eos="<|im_end|>")
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    return tokenizer


def alone(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, Any]]) -> tuple[int, ...]:
    """The conversation as transformers alone tokenises it, up to the last end of a turn."""
    ids = tokenizer.apply_chat_template(turns, tools=[SCHEMA], return_dict=False)
    return tuple(ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)])


def test_calls_are_learned_and_tools_and_results_are_not(tmp_path: Path, qwen: PreTrainedTokenizerFast) -> None:
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS, "tools": [SCHEMA]}])
    (row,) = read_demonstrations(tmp_path / "a.jsonl").rows
    assert row.learned == (2, 5, 7)
    tree = demonstration_tree(qwen, row, LONG)
    assert tree.trunk + tree.branches[0].ids == alone(qwen, TURNS)
    assert learned_text(qwen, tree) == [
        f"{said('leeks')}\n{said('potatoes')}<|im_end|>",
        "There is.<|im_end|>",
        f"Let me look.\n{said('salt')}<|im_end|>",
    ]
    trunk = qwen.decode(tree.trunk)
    assert trunk.startswith("<|im_start|>system\nBe brief.\n")
    assert "What is in the larder." in trunk
    assert trunk.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("role", ["chosen", "rejected"])
def test_a_side_of_a_preference_may_call(tmp_path: Path, qwen: PreTrainedTokenizerFast, role: str) -> None:
    calling, talking = [TURNS[2]], [{"role": "assistant", "content": "Surely."}]
    sides = {role: calling, "rejected" if role == "chosen" else "chosen": talking}
    write_rows(tmp_path / "a.jsonl", [{"prompt": TURNS[:2], **sides, "tools": json.dumps([SCHEMA])}])
    preferences = read_preferences(tmp_path / "a.jsonl").rows
    ((judged,), reasons) = judged_prompts(preferences, qwen, LONG)
    assert not reasons
    whole = {name: judged.tree.trunk + branch.ids for name, branch in zip(("chosen", "rejected"), judged.tree.branches, strict=True)}
    assert whole == {name: alone(qwen, [*TURNS[:2], *turns]) for name, turns in sides.items()}
    assert all(all(branch.learned) for branch in judged.tree.branches)


def test_sides_that_differ_in_calls_alone_are_two(tmp_path: Path, qwen: PreTrainedTokenizerFast) -> None:
    sides = [[{"role": "assistant", "content": "Look.", "tool_calls": [call(item)]}] for item in ("leeks", "salt")]
    rows = [{"prompt": TURNS[:2], "chosen": sides[0], "rejected": side, "tools": [SCHEMA]} for side in sides]
    write_rows(tmp_path / "a.jsonl", rows)
    table = read_preferences(tmp_path / "a.jsonl")
    assert dropped_summary(table) == "1 x the two sides are equal (a.jsonl:1)"
    ((judged,), _) = judged_prompts(table.rows, qwen, LONG)
    assert len({branch.ids for branch in judged.tree.branches}) == 2


def test_a_thumb_may_call_and_prompts_with_other_tools_are_other_prompts(tmp_path: Path, qwen: PreTrainedTokenizerFast) -> None:
    row = {"prompt": TURNS[:2], "completion": [TURNS[2]], "label": True}
    other = {**SCHEMA, "function": {**SCHEMA["function"], "description": "Another."}}
    write_rows(tmp_path / "a.jsonl", [{**row, "tools": [SCHEMA]}, {**row, "tools": [other]}])
    rated, reasons = rated_prompts(read_unpaired(tmp_path / "a.jsonl").rows, qwen, LONG)
    assert len(rated) == 2
    assert not reasons
    assert rated[0].tree.trunk + rated[0].tree.branches[0].ids == alone(qwen, TURNS[:3])


def test_a_prompt_hands_its_tools_to_the_sampler(tmp_path: Path, qwen: PreTrainedTokenizerFast) -> None:
    write_rows(tmp_path / "a.jsonl", [{"prompt": TURNS[:2], "tools": [SCHEMA]}])
    (prompt,) = read_prompts(tmp_path / "a.jsonl").rows
    expected = qwen.apply_chat_template(TURNS[:2], tools=[SCHEMA], add_generation_prompt=True, return_dict=False)
    assert prompt_ids(qwen, prompt) == tuple(expected)


def test_arguments_as_json_text_become_a_mapping_and_nulls_of_parquet_go(tmp_path: Path, qwen: PreTrainedTokenizerFast) -> None:
    exact = [*TURNS[:2], {**TURNS[2], "tool_calls": [call("leeks")]}]
    text = {"type": "function", "function": {"name": "stock", "arguments": '{"item": "leeks"}'}}
    filled = {"type": "function", "function": {"name": "stock", "arguments": {"item": "leeks", "shelf": None}}, "id": None}
    rows = [{"messages": [*TURNS[:2], {"role": "assistant", "content": None, "tool_calls": [one]}]} for one in (text, filled)]
    write_rows(tmp_path / "a.jsonl", [{**row, "tools": [{**SCHEMA, "strict": None}]} for row in rows])
    for row in read_demonstrations(tmp_path / "a.jsonl").rows:
        tree = demonstration_tree(qwen, row, LONG)
        assert tree.trunk + tree.branches[0].ids == alone(qwen, exact)


def test_a_call_that_ends_with_a_token_of_its_own_ends_there() -> None:
    tokenizer = bpe(chat_template=OWN_END)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|call|>"]})
    calls = Message("assistant", "", json.dumps({"tool_calls": [call("leeks")]}))
    turns = (Message("user", "soup?"), calls, Message("tool", "2"), Message("assistant", "yes"))
    tree = demonstration_tree(tokenizer, Demonstration(turns, (1, 3)), LONG)
    assert learned_text(tokenizer, tree) == ['{"item": "leeks"}<|call|>', "yes</s>"]
    last = demonstration_tree(tokenizer, Demonstration(turns[:2], (1,)), LONG)
    assert learned_text(tokenizer, last) == ['{"item": "leeks"}<|call|>']


@pytest.mark.parametrize("template", [CHATML, None])
def test_what_a_template_would_leave_out_is_refused(template: str | None) -> None:
    tokenizer = bpe(chat_template=template)
    ask = Message("user", "soup?", json.dumps({"tools": [SCHEMA]}))
    calls = Message("assistant", "", json.dumps({"tool_calls": [call("leeks")]}))
    with pytest.raises(Unusable, match="does not write `tools`"):
        prompt_ids(tokenizer, (ask,))
    with pytest.raises(Unusable, match="does not write `tool_calls`"):
        preference_tree(tokenizer, (Message("user", "soup?"),), (calls, "no"), LONG)


def test_the_template_for_tools_is_taken_where_there_are_two() -> None:
    tokenizer = bpe(chat_template=None, eos="<|im_end|>")
    tokenizer.chat_template = {"default": CHATML, "tool_use": QWEN}
    plain, ask = Message("user", "soup?"), Message("user", "soup?", json.dumps({"tools": [SCHEMA]}))
    assert "larder" in tokenizer.decode(prompt_ids(tokenizer, (ask,)))
    assert tokenizer.decode(prompt_ids(tokenizer, (plain,))) == "<|im_start|>user\nsoup?<|im_end|>\n<|im_start|>assistant\n"


def test_arguments_that_a_template_cannot_join_to_text_are_the_rows_fault() -> None:
    tokenizer = bpe(
        chat_template="{% for m in messages %}{{ m.content + (m.tool_calls[0].function.arguments if m.tool_calls else '') }}{% endfor %}"
    )
    calls = Message("assistant", "", json.dumps({"tool_calls": [call("leeks")]}))
    with pytest.raises(Unusable, match="refuses the conversation"):
        demonstration_tree(tokenizer, Demonstration((Message("user", "soup?"), calls), (1,)), LONG)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"tools": ["stock"]}, "`tools` is not a list of functions"),
        ({"tools": "none"}, "`tools` is not a list of functions"),
        ({"messages": [TURNS[1], {**TURNS[2], "tool_calls": {"name": "stock"}}]}, "`tool_calls` is not a list of calls"),
        ({"messages": [TURNS[1], {**TURNS[2], "tool_calls": [{"function": {}}]}]}, "a call without the name of its function"),
        (
            {"messages": [TURNS[1], {**TURNS[2], "tool_calls": [{"name": "stock", "arguments": "leeks"}]}]},
            "the arguments of a call are not a JSON object",
        ),
        ({"messages": [{**TURNS[1], "tool_calls": [call("salt")]}, TURNS[5]]}, "tools are called by another turn than the assistant's"),
    ],
)
def test_what_cannot_be_read_is_dropped_with_its_reason(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    write_rows(tmp_path / "a.jsonl", [{"messages": TURNS}, {"messages": TURNS, **row}])
    assert [dropped.kind for dropped in read_demonstrations(tmp_path / "a.jsonl").dropped] == [kind]


def test_rows_with_tools_written_are_read(tmp_path: Path) -> None:
    tools = {"tools": [SCHEMA]}
    write_rows(tmp_path / "d.jsonl", [{"messages": TURNS, **tools}])
    write_rows(tmp_path / "p.jsonl", [{"prompt": TURNS[:2], "chosen": [TURNS[2]], "rejected": [TURNS[5]], **tools}])
    write_rows(tmp_path / "t.jsonl", [{"prompt": TURNS[:2], "completion": [TURNS[2]], "label": True, **tools}])
    rows = [
        *map(demonstration_row, read_demonstrations(tmp_path / "d.jsonl").rows),
        *map(preference_row, read_preferences(tmp_path / "p.jsonl").rows),
        *map(unpaired_row, read_unpaired(tmp_path / "t.jsonl").rows),
    ]
    read = (read_demonstrations, read_preferences, read_unpaired)
    for row, reader, name in zip(rows, read, "dpt", strict=True):
        write_rows(tmp_path / "again.jsonl", [row])
        (first,), (again,) = reader(tmp_path / f"{name}.jsonl").rows, reader(tmp_path / "again.jsonl").rows
        assert (demonstration_row(again) if isinstance(again, Demonstration) else again.prompt.conversation) == (
            demonstration_row(first) if isinstance(first, Demonstration) else first.prompt.conversation
        )
        assert "tools" in row


def test_what_stages_hand_to_each_other_keeps_tools(tmp_path: Path) -> None:
    write_rows(tmp_path / "q.jsonl", [{"prompt": TURNS[:4], "tools": [SCHEMA]}])
    (prompt,) = read_prompts(tmp_path / "q.jsonl").rows
    write_rows(tmp_path / "samples.jsonl", [sample_row(prompt, [Completion("yes"), Completion("no")])])
    ((again, _),) = read_samples(tmp_path / "samples.jsonl").rows
    assert again.conversation == prompt.conversation
    judged = Judgment("c", "r", ((0,), (1,)))
    ask = Comparison("c", again, (Completion("yes"), Completion("no"))), "overall"
    (row,) = Collect("samples", People())._preference_rows(ask, [judged])
    write_rows(tmp_path / "preferences.jsonl", [row])
    assert read_preferences(tmp_path / "preferences.jsonl").rows[0].prompt.conversation == prompt.conversation
