"""`palate collect --from people` on the command line: it says what to type, waits, stops at Ctrl-C, and goes on."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from palate.cli import main
from palate.runs.record import read_record
from tests.support.waiting import ended, wait_until
from tests.support.warm_python import executable
from tests.unit.raters.test_people import judges
from tests.unit.stages.test_collect import THREE, rows, samples


@pytest.mark.slow
def test_it_says_what_to_type_waits_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    given, database, told = samples(tmp_path / "given", THREE, prompts=2), tmp_path / "runs" / "ratings.db", tmp_path / "told.txt"
    words = ["collect", "--samples", given, "--from", "people", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "runs" / "mine")]
    words += ["--from.poll_seconds", "3600"]
    with told.open("w") as out:
        process = subprocess.Popen([executable(), "-m", "palate", *words], stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: "Ctrl-C" in told.read_text() or process.poll() is not None, told.read_text)
            os.kill(process.pid, signal.SIGINT)
            assert ended(process) == 130, told.read_text()  # long before it looks again
        finally:
            process.kill()
            process.wait()
    assert f"palate label --ratings {database}" in told.read_text()
    assert "6 questions wait" in told.read_text()
    record = read_record(tmp_path / "runs" / "mine")
    assert record is not None
    assert record.status == "interrupted"
    judges(database, ["ann"], 100)
    assert main(words) == 0
    assert len(rows(tmp_path / "runs" / "mine", "judgments")) == 6
