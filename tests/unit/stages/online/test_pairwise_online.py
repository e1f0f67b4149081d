"""A judge that compares completions as the reward of stage `online`: the policy learns although the mean score cannot rise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.core import ConfigError
from palate.evaluation.report_sections import training_of
from tests.unit.stages.online.toy import LETTERS, alike, configured, killed_and_resumed, trained, weights

WINS: Mapping[str, Any] = {
    "kind": "pairwise", "model": {"kind": "function", "function": "tests.unit.stages.online.rewarding:more_letters"},
    "instructions": "helpful",
}  # fmt: skip


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base's own answers to all prompts."""
    out = tmp_path_factory.mktemp("start") / "run"
    words = [
        "--model",
        str(data / "base"),
        "--prompts",
        str(data / "prompts.jsonl"),
        "--sampling.max_tokens",
        "6",
        "--samples_per_prompt",
        "1",
    ]
    assert main(["sample", *words, "--out", str(out)]) == 0
    return str(out)


@pytest.mark.parametrize("score", ["win_rate", "bradley_terry"])
def test_a_policy_learns_from_wins_and_the_figure_that_rises_is_the_one_against_the_start(
    score: str, data: Path, start: str, tmp_path: Path
) -> None:
    rewards = {"wins": {**WINS, "score": score, "start": start}, "letters": {**LETTERS, "weight": 0}}
    stage = configured(data, preset="dr-grpo", rewards=rewards, method={"reduction": {"tokens": 6}})
    run, rows = trained(stage, tmp_path)
    level = 0.5 if score == "win_rate" else 0.0
    assert [row["score/mean"] for row in rows] == pytest.approx([level] * len(rows), abs=1e-5)
    before, after = (sum(row["win_rate/mean"] for row in part) / len(part) for part in (rows[:1], rows[-2:]))
    assert before < 0.65
    assert after > 0.8
    assert rows[-1]["win_rate/se"] < 0.2
    assert rows[-1]["score_letters/mean"] > 1.6 * rows[0]["score_letters/mean"]
    record = json.loads((run.directory / "run.json").read_text())
    record["config"] = {"prompts_per_iteration": 8, "samples_per_prompt": 4}
    (run.directory / "run.json").write_text(json.dumps(record))
    (shown,) = training_of({"online": str(run.directory)}, "online", None, {}).runs
    assert [point.proxy for point in shown.points] == [row["win_rate/mean"] for row in rows]
    assert all(point.reward is None for point in shown.points)
    assert training_of({"online": str(run.directory)}, "online", None, {}).proxy_name == "win rate over the start\u2019s answers"
    assert json.loads((run.directory / "summary.json").read_text())["uncalibrated"] == ["wins"]


def test_resumed_is_as_if_never_interrupted(data: Path, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = configured(
        data, preset="dr-grpo", rewards={"wins": {**WINS, "start": start}}, method={"reduction": {"tokens": 6}}, iterations=3
    )
    whole, rows = trained(stage, tmp_path / "whole")
    resumed, again = killed_and_resumed(stage, tmp_path / "killed", 1, monkeypatch)
    assert rows == again
    assert alike(weights(whole), weights(resumed))


def test_what_leaves_a_completion_alone_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"rewards.wins compares the completions of a prompt, and samples_per_prompt is 1"):
        configured(data, rewards={"wins": WINS}, samples_per_prompt=1).check()
    held_out = {"prompts": str(data / "prompts.jsonl")}
    with pytest.raises(ConfigError, match=r"rewards.wins needs others beside it"):
        configured(data, rewards={"wins": WINS}, keep="best_reward", held_out=held_out).check()
