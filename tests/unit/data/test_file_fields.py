"""A field that a file lacks is an error of the file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from palate.core import DataError
from palate.data.files import read_json, write_json
from palate.data.jsonl import read_rows, write_rows


def test_a_field_that_a_file_lacks_is_named_with_its_place(tmp_path: Path) -> None:
    file, rows = tmp_path / "summary.json", tmp_path / "metrics.jsonl"
    write_json(file, {"curve": {"n": [1]}, "list": [{"a": 1}]})
    write_rows(rows, [{"step": 0, "kl": 1.5}, {"step": 1}])
    found = read_json(file)
    assert isinstance(found, dict)
    for holder in (found, found["curve"], found["list"][0]):
        with pytest.raises(DataError) as error:
            holder["kl"]
        assert str(error.value) == (
            f"{file}: there is no 'kl'. Was it changed, or written by another version of Palate? Make the file again."
        )
    read = [row for _, row in read_rows(rows)]
    assert read[0]["kl"] == 1.5
    with pytest.raises(KeyError, match=f"{rows}:2: there is no 'kl'"):
        read[1]["kl"]
    assert read[1].get("kl") is None
    assert pickle.loads(pickle.dumps(read)) == json.loads(json.dumps(read)) == [{"step": 0, "kl": 1.5}, {"step": 1}]
