"""The page about exchange says what the code does: every shape has a section, its example is read, its losses are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.data.containers import read_container
from palate.data.exchange import READABLE, WRITABLE, read_exchange

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("shape", READABLE, ids=lambda shape: shape.name)
def test_the_example_of_a_shape_is_read_in_it(tmp_path: Path, shape: object) -> None:
    name = next(one.name for one in READABLE if one is shape)
    ending, rows = re.findall(r"```(jsonl|json|csv)\n(.*?)```", SECTIONS[name], re.DOTALL)[0]
    file = tmp_path / f"a.{ending}"
    file.write_text(rows, encoding="utf-8")
    assert next(one.name for one in READABLE if one.fits(next(read_container(file)).row)) == name
    found = read_exchange(file)
    assert found.votes or name in {"items", "samples"}
    assert not found.dropped


@pytest.mark.parametrize("shape", WRITABLE, ids=lambda shape: shape.name)
def test_what_a_shape_loses_is_told(shape: object) -> None:
    name, loses = next((one.name, one.loses) for one in WRITABLE if one is shape)
    assert loses in SECTIONS[name]
    assert ("Not kept: " in SECTIONS[name]) == bool(loses)


def test_the_table_names_what_is_read_and_written() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (yes|no) \| (yes|no) \|", PAGE, re.MULTILINE)
    assert {name for name, is_read, _ in rows if is_read == "yes"} == {shape.name for shape in READABLE}
    assert {name for name, _, is_written in rows if is_written == "yes"} == {shape.name for shape in WRITABLE}
