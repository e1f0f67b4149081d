"""The page about data says what the code does: its example rows are read, and every reason to drop a row stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.core import DataError
from palate.data import formats
from palate.data.jsonl import parse_object

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"### ([^\n]+)\n(.*?)(?=\n##)", PAGE, re.DOTALL)
TOGETHER = ("Ratings (HelpSteer)", "Unpaired preferences", "Messages one by one (OASST)")
"""Sections whose example rows say something only together."""
EXAMPLES = [
    (title, rows)
    for title, body in SECTIONS
    for block in re.findall(r"```jsonl\n(.*?)```", body, re.DOTALL)
    for rows in ([tuple(block.splitlines())] if title in TOGETHER else [(line,) for line in block.splitlines()])
]
RATED = ("read_preferences", "read_demonstrations", "read_prompts")
READERS = {
    "Transcripts (HH)": RATED,
    "Preferences": RATED,
    "Best of K (RewardBench 2)": RATED,
    "Unpaired preferences": ("read_unpaired", "read_demonstrations", "read_prompts", "read_samples"),
    "Ratings (HelpSteer)": RATED,
    "Feedback (UltraFeedback)": RATED,
    "Message trees (OASST)": RATED,
    "Messages one by one (OASST)": RATED,
    "Prompt and completion": ("read_demonstrations", "read_prompts", "read_samples"),
    "Messages": ("read_demonstrations", "read_prompts", "read_samples"),
    "Instruction and output (Alpaca)": ("read_demonstrations", "read_prompts", "read_samples"),
    "Pairs of LLaMA-Factory": RATED,
    "Question and answer": ("read_demonstrations", "read_prompts", "read_samples"),
    "Prompts": ("read_prompts",),
    "Samples": ("read_samples", "read_prompts"),
    "Texts": ("read_texts", "read_demonstrations"),
}


FURTHER_COLUMNS = ("Your own columns", "Token ids and cut completions")
"""Sections about columns that rows of several shapes have."""


@pytest.mark.parametrize(("title", "block"), [example for example in EXAMPLES if example[0] not in FURTHER_COLUMNS])
def test_every_example_is_read_by_the_readers_named_and_by_no_other(tmp_path: Path, title: str, block: tuple[str, ...]) -> None:
    for line in block:
        parse_object(line)
    (tmp_path / "a.jsonl").write_text("\n".join(block), encoding="utf-8")
    for reader in (
        formats.read_texts,
        formats.read_demonstrations,
        formats.read_prompts,
        formats.read_samples,
        formats.read_preferences,
        formats.read_unpaired,
    ):
        if reader.__name__ in READERS[title]:
            assert reader(tmp_path / "a.jsonl").rows
        else:
            with pytest.raises(DataError):
                reader(tmp_path / "a.jsonl")


@pytest.mark.parametrize("block", [block for title, block in EXAMPLES if title in FURTHER_COLUMNS])
def test_further_columns_are_read_beside_those_of_a_shape(tmp_path: Path, block: tuple[str, ...]) -> None:
    (line,) = block
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    (prompt,) = formats.read_prompts(tmp_path / "a.jsonl").rows
    row = parse_object(line)
    assert prompt.fields == {**row.get("fields", {}), **({"answer": 4} if "answer" in row else {})}
    if "sampled" in row:
        (demonstration,) = formats.read_demonstrations(tmp_path / "a.jsonl").rows
        assert demonstration.sampled is not None
        assert demonstration.sampled.stop == ("eos" if "chosen" in row else "length")


def test_every_shape_has_an_example() -> None:
    assert {title for title, _ in EXAMPLES} == set(READERS) | set(FURTHER_COLUMNS)
    assert len(READERS) == len(formats.SHAPES) + 4  # messages one by one, and three types of rows, become rows of another shape first


def test_every_reason_to_drop_a_row_is_on_the_page() -> None:
    data = ROOT / "palate" / "data"  # what other tools' judgments are dropped for is docs/exchange.md's
    sources = [
        data / "conversations.py",
        data / "containers.py",
        data / "jsonl.py",
        *(data / "formats").glob("*.py"),
        ROOT / "palate" / "text" / "spans.py",
        *(ROOT / "palate" / "text" / name for name in ("template.py", "chat_text.py")),
    ]
    pattern = re.compile(r'(?:InvalidRow|Unusable|Dropped)\(\s*(?:[\w\[\].]+, )?f?"((?:\{[^}]*\}|[^":])+)')
    raised = [reason for file in sources for reason in pattern.findall(file.read_text(encoding="utf-8"))]
    assert len(raised) > 40
    missing = [reason for reason in raised if not re.search(re.sub(r"\\\{.*?\\\}", ".+?", re.escape(reason)), PAGE)]
    assert not missing
