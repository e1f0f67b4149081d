"""Completions of the same prompts during training, for people who watch: when, of what, and that nothing else changes."""

from pathlib import Path
from typing import Any

import pytest

from palate.data.jsonl import read_rows
from palate.runs.run import Run
from palate.stages.online.examples import PROMPTS, Examples
from tests.unit.stages.online.toy import ITERATIONS, configured, killed_and_resumed, trained


def shown(run: Run) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(run.directory / "examples.jsonl")]


def test_the_same_prompts_are_completed_from_the_start_to_the_end(data: Path, tmp_path: Path) -> None:
    run, _ = trained(configured(data), tmp_path)
    rows = shown(run)
    assert [row["step"] for row in rows] == [step for step in range(ITERATIONS + 1) for _ in range(PROMPTS)]
    assert {len({row["prompt"] for row in rows if row["id"] == name}) for name in {row["id"] for row in rows}} == {1}
    assert len({row["id"] for row in rows}) == PROMPTS
    first, last = ([row["completion"] for row in rows if row["step"] == step] for step in (0, ITERATIONS))
    assert first != last


def test_a_long_run_has_few_moments(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = trained(configured(data, iterations=20), tmp_path)
    assert list(dict.fromkeys(row["step"] for row in shown(run))) == [0, 3, 6, 9, 12, 15, 18, 20]


def test_held_out_prompts_are_shown_where_there_are_some(data: Path, tmp_path: Path) -> None:
    held_out = data / "prompts.jsonl"
    other = tmp_path / "held_out.jsonl"
    other.write_text("".join(held_out.read_text().splitlines(keepends=True)[-2:]))
    run, _ = trained(configured(data, iterations=1, held_out={"prompts": str(other)}, keep={"kind": "best_reward"}), tmp_path / "runs")
    wanted = [row["prompt"] for _, row in read_rows(other)]
    assert [row["prompt"] for row in shown(run)[:2]] == wanted


def test_a_run_that_was_killed_has_the_rows_of_one_that_was_not(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, _ = trained(configured(data, iterations=5), tmp_path / "straight")
    resumed, _ = killed_and_resumed(configured(data, iterations=5), tmp_path / "killed", 2, monkeypatch)
    files = [(run.directory / "examples.jsonl").read_bytes() for run in (straight, resumed)]
    assert files[0] == files[1]


@pytest.mark.parametrize("sampler", [{}, {"asynchronous": 1, "correction": {}}])
def test_training_is_the_same_without_them(sampler: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = configured(data, iterations=4, **({"sampler": sampler} if sampler else {}))
    _, rows = trained(stage, tmp_path / "with")
    monkeypatch.setattr(Examples, "write", lambda self, iteration: None)
    _, alone = trained(stage, tmp_path / "without")
    assert rows == alone
