"""`palate init` writes a pipeline for the data and the model that it saw, and the pipeline runs as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from palate.cli import main
from palate.cli.inspection import Viewer, inspect
from palate.cli.starter import Start, starter
from palate.data.jsonl import write_rows
from palate.testing import tiny_policy, word_tokenizer

ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "demonstrations": lambda k: {"prompt": f"make rice for {'two ' * (k % 3)}please", "completion": " the cook has rice today"},
    "preferences": lambda k: {"prompt": f"salt {'and beans ' * (k % 5)}please", "chosen": " the cook has salt", "rejected": " no"},
    "unpaired": lambda k: {"prompt": f"make {'rice ' * (k % 4)}", "completion": " please", "label": k % 2 == 0},
    "prompts": lambda k: {"prompt": f"make {'rice ' * (k % 4)}please"},
    "texts": lambda k: {"text": f"the cook has {'rice ' * (k % 4)}today"},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "model")
    for kind, row in ROWS.items():
        write_rows(tmp_path / f"{kind}.jsonl", [row(k) for k in range(24)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "stages"),
    [
        ("demonstrations", ["sft", "samples", "judged"]),
        ("preferences", ["sft", "reward", "direct", "eval-start", "eval-direct", "report"]),
        ("unpaired", ["direct", "eval-start", "eval-direct", "report"]),
        ("prompts", ["samples", "judged"]),
    ],
)
def test_stages_follow_what_the_data_hold(home: Path, kind: str, stages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", f"{kind}.jsonl", "--model", "model", "--out", "new/mine.yaml"]) == 0
    assert f"wrote new/mine.yaml: {', '.join(stages)}\n" in capsys.readouterr().out
    text = (home / "new" / "mine.yaml").read_text()
    assert f"# {kind}.jsonl holds 24 rows of {kind}. The model has 0.0 million parameters." in text
    written = yaml.safe_load(text)
    assert list(written["stages"]) == stages
    assert written["inputs"] == {"data": f"{kind}.jsonl", "model": "model"}
    assert written["stages"].get("report", {}).get("reference") in {None, "start" if kind == "unpaired" else "SFT"}
    assert main(["run", "new/mine.yaml", "--dry-run"]) == 0


@pytest.mark.slow
def test_what_it_writes_for_judgments_runs_to_the_report(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(home / "test.jsonl", [{**ROWS["preferences"](k), "prompt": f"{'beans ' * k}today"} for k in range(1, 6)])
    assert main(["init", "preferences.jsonl", "--model", "model", "--held-out", "test.jsonl"]) == 0
    written = yaml.safe_load((home / "pipeline.yaml").read_text())
    assert written["stages"]["reward"]["held_out"] == "$held_out"
    assert written["stages"]["eval-start"]["prompts"] == "$held_out"
    assert written["stages"]["report"]["reference"] == "SFT"
    assert main(["run", "pipeline.yaml"]) == 0
    assert "Open the page: file://" in capsys.readouterr().out


def test_columns_and_shared_prompts_are_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": f"make {'rice ' * k}", "good": " please", "bad": " no"} for k in range(6)]
    write_rows(home / "odd.jsonl", rows)
    write_rows(home / "more.jsonl", rows[:2])
    words = ["--columns", "prompt=question", "chosen=good", "rejected=bad", "--held_out", "more.jsonl"]
    assert main(["init", "odd.jsonl", "--model", "model", *words]) == 0
    assert "2 prompts of more.jsonl are in odd.jsonl too" in capsys.readouterr().out
    written = yaml.safe_load((home / "pipeline.yaml").read_text())
    assert written["stages"]["direct"]["columns"] == {"prompt": "question", "chosen": "good", "rejected": "bad"}


def test_columns_that_nobody_names_are_proposed_and_what_is_written_reads_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(home / "odd.jsonl", [{"post": f"make {'rice ' * k}please", "winner": " the cook", "loser": " no"} for k in range(6)])
    assert main(["init", "odd.jsonl", "--model", "model", "--out", "odd.yaml"]) == 0
    assert "The file says what they probably hold: columns: {prompt: post, chosen: winner, rejected: loser}" in capsys.readouterr().out
    stages = yaml.safe_load((home / "odd.yaml").read_text())["stages"]
    assert stages["reward"]["columns"] == {"prompt": "post", "chosen": "winner", "rejected": "loser"}
    write_rows(home / "odd.jsonl", [{"post": "make rice", "winner": " the cook"}])
    assert main(["init", "odd.jsonl", "--model", "model", "--out", "no.yaml"]) == 3
    assert "no column seems to hold `rejected`" in capsys.readouterr().err
    assert not (home / "no.yaml").exists()


def test_large_models_train_an_adapter_with_other_rates(home: Path) -> None:
    inspection, _ = inspect(home / "preferences.jsonl", Viewer("model"), 0, None)
    small, middle, large = (
        yaml.safe_load(starter(Start(inspection, "model", size, None, (), "mine")))["stages"] for size in (10**6, 10**8, 8 * 10**9)
    )
    rates = [stages["sft"]["optimizer"]["lr"] for stages in (small, middle, large)]
    assert rates == [1e-3, 2e-5, 1e-4]
    assert ["adapters" in stages["direct"] for stages in (small, middle, large)] == [False, False, True]


def test_nothing_is_overwritten_or_half_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "pipeline.yaml").write_text("mine")
    assert main(["init", "prompts.jsonl", "--model", "model"]) == 2
    assert "pipeline.yaml is there already. Name another file with --out" in capsys.readouterr().err
    assert (home / "pipeline.yaml").read_text() == "mine"
    assert main(["init", "texts.jsonl", "--model", "model", "--out", "a.yaml"]) == 2
    assert "texts.jsonl holds texts. Alignment starts from demonstrations, prompts or judgments" in capsys.readouterr().err
    assert main(["init", "prompts.jsonl", "--model", "nowhere", "--out", "a.yaml"]) != 0
    assert main(["init", "nothing.jsonl", "--model", "model", "--out", "a.yaml"]) != 0
    assert not (home / "a.yaml").exists()
