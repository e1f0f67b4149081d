"""`palate inspect` from the command line: every kind, marks without colour, JSON, and what two splits share."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from palate.cli import main
from palate.cli.inspection import Viewer, inspect
from palate.cli.inspection_page import show
from palate.data.jsonl import write_rows
from palate.testing import byte_tokenizer, chat_tokenizer, shared_data, tiny_policy, word_tokenizer

CHAT = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    word_tokenizer().save_pretrained("words")
    chat = word_tokenizer()
    chat.chat_template = CHAT
    chat.save_pretrained("chat")


def output_of(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> str:
    assert main(["inspect", *words.split()]) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


PAIR = {"prompt": "the cook", "chosen": " has rice", "rejected": " no"}


def test_rows_are_marked_without_colour_and_long_lines_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("a.jsonl"), [{**PAIR, "prompt": "the cook" + " rice" * 60}])
    out = output_of(capsys, "a.jsonl --model words").splitlines()
    assert out[0] == "a.jsonl:1  123 + 5 + 3 tokens"
    assert out[1] == "the cook" + " rice" * 60
    assert out[2:4] == ["chosen: « has rice<eos>»", "rejected: « no<eos>»"]
    assert any(line.startswith("legend: prompt  «learned»  ⟦masked") for line in out)
    assert "\x1b" not in "".join(out)


def test_in_a_terminal_the_parts_have_colours() -> None:
    write_rows(Path("a.jsonl"), [PAIR])
    page = io.StringIO()
    show(*inspect(Path("a.jsonl"), Viewer("words"), 1, None), Console(file=page, force_terminal=True, color_system="standard", width=200))
    cyan, green = "\x1b[36m", "\x1b[32m"
    assert f"{cyan}the cook" in page.getvalue()
    assert f"{green} has rice" in page.getvalue()


def test_tools_are_prompt_calls_are_learned_and_results_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    chat = word_tokenizer()
    chat.chat_template = (
        "{% for t in tools or [] %}{{ t.name }}{% endfor %}{% for m in messages %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ ' ' + c.name }}{% endfor %}{{ eos_token }}{% endfor %}"
    )
    chat.save_pretrained("tools")
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "salt", "arguments": {}}]}
    turns = [{"role": "user", "content": " the"}, call, {"role": "tool", "content": " rice"}, {"role": "assistant", "content": " no"}]
    write_rows(Path("a.jsonl"), [{"messages": turns, "tools": [{"name": "cook"}]}])
    out = output_of(capsys, "a.jsonl --model tools")
    assert "cook the<eos>" in out
    assert "« salt<eos>»⟦ rice<eos>⟧« no<eos>»" in out


def test_turns_between_learned_ones_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, ("the", "rice", "no", "salt"), strict=True)]
    write_rows(Path("a.jsonl"), [{"messages": turns}])
    assert "the<eos>\ncompletion: «rice<eos>»⟦no<eos>⟧«salt<eos>»\n" in output_of(capsys, "a.jsonl --model chat")


def test_what_the_template_does_to_rows_is_noted_and_an_answer_that_it_rewrites_is_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("forgetful", "thoughtless"):
        chat_tokenizer(name).save_pretrained(name)
    said = ("one?", "<think>hm</think>yes", "two?", "<think>ha</think>no")
    turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, said, strict=True)]
    write_rows(Path("a.jsonl"), [{"messages": turns}] * 2)
    out = output_of(capsys, "a.jsonl --model forgetful")
    assert "completion, part 1 of 2: «<think>hm</think>yes<|close|>»\ncompletion, part 2 of 2: ⟦yes<|close|>\n" in out
    assert "note: 2 x the chat template rewrites earlier answers; first a.jsonl:1: 1 of them are learned as the last" in out
    note = "2 x the chat template leaves out words of an answer that is learned; first a.jsonl:1: 'think think hm' (3 words)"
    assert f"note: {note}" in output_of(capsys, "a.jsonl --model thoughtless")
    found = json.loads(output_of(capsys, "a.jsonl --model thoughtless --json"))
    assert (found["remarks"], found["pairs"]) == ([note], None)


def test_what_would_steer_a_terminal_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    byte_tokenizer().save_pretrained("bytes")
    write_rows(Path("a.jsonl"), [{"prompt": "a\x1b[2Jb"}])
    assert "a\N{REPLACEMENT CHARACTER}[2Jb\n" in output_of(capsys, "a.jsonl --model bytes")


def test_the_statistics_are_those_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [PAIR, {**PAIR, "chosen": " no", "rejected": " salt today"}, {**PAIR, "chosen": ""}, {**PAIR, "rejected": " has rice "}, PAIR]
    write_rows(Path("a.jsonl"), rows)
    out = output_of(capsys, "a.jsonl --model words --rows 0")
    for line in (
        "a.jsonl: 3 preferences (no limit of tokens)",
        "rows that repeat an earlier row: 1 (a.jsonl:5 = a.jsonl:1)",
        "rows whose prompt an earlier row has: 2 (a.jsonl:2 = a.jsonl:1, a.jsonl:5 = a.jsonl:1)",
        "longer wins: 66.7% by tokens, 66.7% by characters",
        "rows with an empty side or equal sides: 40.0% (dropped)",
        "dropped: 1 x empty completion; first a.jsonl:3: empty completion",
    ):
        assert line in out
    assert "legend" not in out
    found = json.loads(output_of(capsys, "a.jsonl --model words --json"))
    assert (found["rows"], found["kind"], found["max_tokens"]) == (3, "preferences", None)
    assert found["pairs"]["longer_wins_tokens"] == pytest.approx(2 / 3)
    assert found["prompt_tokens"]["median"] == 3
    assert found["dropped"] == {"empty completion": 1, "the two sides are equal": 1}
    assert found["overlap"] is None


def test_prompts_in_two_splits_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("a.jsonl"), [PAIR, {**PAIR, "prompt": "rice"}])
    write_rows(Path("b.jsonl"), [{**PAIR, "prompt": "salt"}, {**PAIR, "rejected": " salt"}])
    out = output_of(capsys, "a.jsonl --model words --also b.jsonl")
    assert "prompts that are in b.jsonl too: 1 (a.jsonl:1 = b.jsonl:2)\nwhole rows that are in it too: 0\n" in out
    assert "no prompt is in a.jsonl too" not in output_of(capsys, "a.jsonl --model words --also a.jsonl")
    write_rows(Path("b.jsonl"), [{**PAIR, "prompt": "salt"}])
    assert "no prompt is in b.jsonl too" in output_of(capsys, "a.jsonl --model words --also b.jsonl")


@pytest.mark.parametrize(
    ("row", "kind", "text"),
    [
        ({"text": "the cook has rice"}, "texts", "the\ncompletion: « cook has rice<eos>»"),
        ({"prompt": "the cook"}, "prompts", "a.jsonl:1  3 tokens\nthe cook\n"),
        ({"prompt": "the cook", "completion": " has"}, "demonstrations", "the cook\ncompletion: « has<eos>»"),
        ({"prompt": "the cook", "completion": " has", "label": False}, "unpaired", "a.jsonl:1  3 + 3 tokens, undesirable"),
        (PAIR, "demonstrations", "the cook\ncompletion: « has rice<eos>»"),
    ],
)
def test_every_kind_is_shown(row: dict[str, object], kind: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("a.jsonl"), [row])
    if row is not PAIR:
        assert text in output_of(capsys, "a.jsonl --model words")
    assert text in output_of(capsys, f"a.jsonl --model words --kind {kind}")


def test_the_limit_is_the_models_unless_another_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_policy().save(Path("model"))
    write_rows(Path("a.jsonl"), [PAIR, {**PAIR, "prompt": "the cook" * 50}])
    assert json.loads(output_of(capsys, "a.jsonl --model model --json"))["max_tokens"] == 128
    out = output_of(capsys, "a.jsonl --model model --max-tokens 7", code=3)
    assert out.startswith("palate: a.jsonl: no row can be used: 2 x too long; the first, a.jsonl:1, says: too long: 8 tokens, 7 allowed")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("nowhere.jsonl --model words", 3, "nowhere.jsonl: no such file"),
        ("a.jsonl --model ./nowhere", 2, "no model at ./nowhere"),
        ("a.jsonl", 2, "--model"),
        ("a.jsonl --model words --limit 0", 2, "--limit is 0; give 1 or more"),
        ("a.jsonl --model words --kind pairs", 2, "--kind"),
        ("a.jsonl --model words --kind texts", 3, "no `text`"),
    ],
)
def test_mistakes_are_one_message(words: str, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("a.jsonl"), [PAIR])
    out = output_of(capsys, words, code)
    assert text in out
    assert out.count("\n") == 1


def test_real_pairs_through_a_real_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    data, model = shared_data("hh-rlhf/harmless-base_half.jsonl"), shared_data("models/stories260K-hf")
    found = json.loads(output_of(capsys, f"{data} --model {model} --limit 60 --json"))
    assert (found["rows"] + sum(found["dropped"].values()), found["repeated_rows"]["count"]) == (61, 0)
    assert found["dropped"] == {"too long": found["dropped"]["too long"], "empty completion": 1}


def test_columns_that_nobody_names_are_proposed_and_shown_as_they_would_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("a.jsonl"), [{"task": "the cook", "reply": " has rice"}])
    out = output_of(capsys, "a.jsonl --model words").splitlines()
    assert out[2] == "completion: « has rice<eos>»"
    assert "Write it in the stage's settings, if it is right:" in out[-2]
    assert out[-1] == "columns: {prompt: task, completion: reply}"
    assert json.loads(output_of(capsys, "a.jsonl --model words --json"))["proposed"] == out[-1]
    assert "make no known shape" not in output_of(capsys, "a.jsonl --model words --columns prompt=task completion=reply")
    assert "the row has the columns task, reply" not in output_of(capsys, "a.jsonl --model words --columns prompt=tsk", 3)
