"""Damaged files give an exchange or one error that says where; `python -m benchmarks.fuzz` reads more of them."""

from __future__ import annotations

from pathlib import Path

from palate.data.containers import read_container
from palate.data.exchange import READABLE, read_exchange
from tests.support.fuzz import fuzz, good_files


def test_damaged_files_are_read_whole_or_refused_with_the_place(tmp_path: Path) -> None:
    counts = fuzz(1000, 7, tmp_path)
    assert counts["error"] > 300
    assert counts["valid"] + counts["dropped"] > 80


def test_the_good_files_are_of_every_shape(tmp_path: Path) -> None:
    files = good_files(tmp_path)
    assert all(read_exchange(file).votes or file.name in {"items.jsonl", "samples.jsonl"} for file in files)
    shapes = [next(shape.name for shape in READABLE if shape.fits(next(read_container(file)).row)) for file in files]
    assert set(shapes) == {shape.name for shape in READABLE}
