"""Argilla's own classes read our records and write them back. Its server, which needs Elasticsearch, has no part in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from palate.data.exchange import read_exchange, write_exchange
from tests.support.fuzz import sample
from tests.support.waiting import LIMIT_SECONDS

PYTHON = os.environ.get("PALATE_ARGILLA_PYTHON")
THROUGH = """
import sys
from argilla.records._io import JsonIO
JsonIO.to_json(JsonIO._records_from_json(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
def test_records_go_through_its_classes_and_come_back(tmp_path: Path, ties: bool) -> None:
    if PYTHON is None:
        pytest.skip("Argilla is not installed: set PALATE_ARGILLA_PYTHON to the Python of an environment that has `argilla`")
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    write_exchange(sample(ties=ties), ours, "argilla")
    place = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    words = [PYTHON, "-c", THROUGH, ours, theirs]
    done = subprocess.run(words, env=place, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    sent, found = read_exchange(ours), read_exchange(theirs)
    assert (found.items, found.votes, found.raters) == (sent.items, sent.votes, sent.raters)
    assert len(found.votes) == 9
