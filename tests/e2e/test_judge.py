"""`palate judge`: pages open, somebody judges, and the reward model learns from it."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from palate.cli import main
from palate.data.jsonl import read_rows, write_rows
from palate.models.scalar import load_scalar, scalar_from
from palate.runs.record import RunPlan, read_record
from palate.runs.run import Run, open_run
from palate.testing import tiny_policy, word_tokenizer
from tests.support.waiting import LIMIT_SECONDS, ended, wait_until
from tests.support.warm_python import OWN, executable
from tests.unit.raters.test_people import judges, states

TEXTS = ("make salt", "make rice and beans", "for two guests today please")


def many_words(completion: str) -> dict[str, float]:
    """A truth that likes words."""
    return {"overall": float(len(completion.split()))}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """What `palate judge` needs of a pipeline: samples, judgments, a reward model."""
    prompts = [f"the {one} and the {other}" for one in ("rice", "beans", "salt", "cook") for other in ("rice", "beans", "salt")]
    pairs = [{"prompt": f"{text} please", "chosen": " for two", "rejected": " for today"} for text in prompts]
    shown = [{"text": text, "stop": "eos", "tokens": 2} for text in TEXTS]
    written = {
        "sample": lambda run: write_rows(
            run.directory / "samples.jsonl", [{"id": str(k), "prompt": text, "completions": shown} for k, text in enumerate(prompts)]
        ),
        "collect": lambda run: [write_rows(run.directory / f"{name}.jsonl", pairs) for name in ("preferences", "held_out")],
        "reward": lambda run: scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(run.directory / "model"),
    }
    for stage, write in written.items():
        run: Run = open_run(
            tmp_path,
            RunPlan(stage, stage, {"dimensions": ["overall"], "from": {"kind": "simulated", "gold": "tests.e2e.test_judge:many_words"}}),
        )
        with run.active():
            write(run)
    return tmp_path


@pytest.mark.slow
def test_somebody_judges_and_the_reward_model_learns(runs: Path) -> None:
    command = [executable(), "-m", "palate", "judge", str(runs), "--pairs", "6"]
    told = (runs / "told.txt").open("w+")
    warm = {**os.environ, OWN: executable()}  # the rating server that it starts, too
    process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, start_new_session=True, env=warm)
    try:
        database, output = runs / "ratings.db", (runs / "told.txt").read_text

        def asks() -> re.Match[str] | None:
            assert process.poll() is None, output()
            link = re.search(r"http://\S+/judge/\S+(?=\s)", output())
            return link if database.exists() and any(one.items for one in states(database)) else None

        with urlopen(wait_until(asks, output).group(), timeout=LIMIT_SECONDS) as page:
            text = page.read().decode()
            assert "Compare 6 pairs" in text
            assert "What you compare" in text  # the guidelines of any pipeline: this one is not the kitchen
        judges(database, ["ann"], 100)
        assert ended(process) == 0, output()
    finally:
        with contextlib.suppress(ProcessLookupError):  # it is over, with the server that it started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shown = (runs / "told.txt").read_text()
    assert "The reward model before and after" in shown
    assert "palate use" in shown
    assert re.search(r"^You agree with the truth on \d of 6 pairs \(95 %: ", shown, flags=re.MULTILINE)
    assert re.search(r"^The reward model moved towards your answer on \d of 6 pairs", shown, flags=re.MULTILINE)
    assert "questions wait for people" not in shown  # the page is open already
    page_text = (runs / "judged-by-you.html").read_text()
    assert page_text.count("Estimate that your answer is the better one: ") == 6
    assert "You agree with the truth on " in page_text
    rows = [row for _, row in read_rows(runs / "reward-refreshed" / "rescored.jsonl")]
    assert len(rows) == 6
    assert all(0 < row["before"] < 1 and 0 < row["after"] < 1 and row["before"] != row["after"] for row in rows)
    record = read_record(runs / "judged-by-you")
    assert record is not None
    assert record.status == "done"
    assert load_scalar(runs / "reward-refreshed" / "model").heads == ("overall",)


def test_what_cannot_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(tmp_path)]) == 2
    assert "does not hold a finished run of stage sample" in capsys.readouterr().err
    assert main(["judge", str(tmp_path), "--pairs", "4"]) == 2
    assert "give 5 or more" in capsys.readouterr().err
