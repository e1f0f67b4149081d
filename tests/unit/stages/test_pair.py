"""Best against worst: who is paired, who is left out, and what is mixed in."""

import json
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Prompt, TrainingError
from palate.data.formats import sample_row
from palate.data.jsonl import read_rows, write_rows
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.record import RunPlan, read_record
from palate.runs.run import open_run
from palate.stages.pair import Pair
from palate.testing import tiny_policy

TEXTS = ("rice and beans", "no salt", "please make beans", "salt for the guests today")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A reward model and samples of three prompts: different ones, one that was cut off, and all alike."""
    scalar_from(tiny_policy(), ("overall",), seed=0).save(tmp_path / "reward")
    groups = [
        [Completion(text) for text in TEXTS],
        [Completion(TEXTS[0]), Completion(TEXTS[1], stop="length")],
        [Completion(TEXTS[0])] * 2,
    ]
    write_rows(tmp_path / "samples.jsonl", [sample_row(asked(k), group) for k, group in enumerate(groups)])
    write_rows(tmp_path / "human.jsonl", [{"prompt": f"the cook {k}", "chosen": "rice", "rejected": "salt"} for k in range(9)])
    return tmp_path


def asked(k: int) -> Prompt:
    return Prompt(f"p{k}", (Message("text", ("what can we make ", "so ", "please ")[k]),))


def paired(home: Path, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    stage = Pair(str(home / "samples.jsonl"), str(home / "reward"), **settings)
    stage.check()
    run = open_run(home / "runs", RunPlan("pair", "pair", {key: str(value) for key, value in settings.items()}))
    with run.active():
        stage.run(run)
    rows: Any = [row for _, row in read_rows(run.directory / "preferences.jsonl")]
    return rows, json.loads((run.directory / "summary.json").read_text())


def scores(home: Path, k: int, texts: tuple[str, ...]) -> list[float]:
    reward = LearnedReward(load_scalar(home / "reward"))
    return [float(score or 0) for score in reward.score([asked(k)], [[Completion(text) for text in texts]])["score"][0]]


def test_the_best_is_chosen_and_the_worst_rejected(home: Path) -> None:
    rows, summary = paired(home, missing_eos_reward=-50.0)
    own = scores(home, 0, TEXTS)
    assert len(set(own)) == len(TEXTS)
    assert (rows[0]["chosen"], rows[0]["rejected"]) == (TEXTS[own.index(max(own))], TEXTS[own.index(min(own))])
    assert rows[0]["margin"] == pytest.approx(max(own) - min(own), abs=1e-5)
    assert (rows[1]["chosen"], rows[1]["rejected"]) == (TEXTS[0], TEXTS[1])  # cut off
    assert (summary["prompts"], summary["pairs"], summary["replayed"]) == (3, 2, 0)


def test_a_cut_off_completion_has_the_reward_of_one(home: Path) -> None:
    rows, _ = paired(home, missing_eos_reward=50.0)
    assert (rows[1]["chosen"], rows[1]["rejected"]) == (TEXTS[1], TEXTS[0])


def test_too_small_a_gap_makes_no_pair(home: Path) -> None:
    own = scores(home, 0, TEXTS)
    rows, _ = paired(home, missing_eos_reward=-50.0, min_gap=max(own) - min(own) + 1e-3)
    assert [row["chosen"] for row in rows] == [TEXTS[0]]
    with pytest.raises(DataError, match="Sample more"):
        paired(home, min_gap=1e6)


@pytest.mark.parametrize(("share", "count"), [(0.5, 2), (0.75, 6), (0.9, 9)])
def test_the_share_of_replayed_pairs_is_that_of_what_is_written(home: Path, share: float, count: int) -> None:
    rows, summary = paired(home, missing_eos_reward=-50.0, replay=str(home / "human.jsonl"), replay_share=share)
    old = [row for row in rows if row["chosen"] == "rice"]
    assert (len(rows), len(old), summary["replayed"]) == (2 + count, count, count)
    assert len({row["prompt"] for row in old}) == count


def test_a_share_of_nothing_and_nothing_of_a_file_are_refused(home: Path) -> None:
    for settings in ({"replay_share": 0.2}, {"replay": "human.jsonl"}):
        with pytest.raises(ConfigError, match="need each other"):
            Pair("s", "r", **settings).check()  # type: ignore[arg-type]


def test_a_reward_model_near_chance_makes_no_pairs(home: Path) -> None:
    ReportCard(0.5, 1000, 1.0, 0.5).write(home / "reward")
    with pytest.raises(TrainingError, match="near chance"):
        paired(home)
    ReportCard(0.9, 1000, 0.01, 0.5).write(home / "reward")
    with pytest.raises(TrainingError, match="hardly tells completions apart"):
        paired(home)
    paired(home, min_spread=0.001, missing_eos_reward=-50.0)


def test_prompts_without_a_clear_pair_are_recorded_and_replayed_pairs_are_drawn_from_the_seed(home: Path) -> None:
    drawn = []
    for seed in (1, 2):
        stage = Pair(str(home / "samples.jsonl"), str(home / "reward"), missing_eos_reward=-50.0, replay=str(home / "human.jsonl"),
                     replay_share=0.6)  # fmt: skip
        run = open_run(home / "runs", RunPlan("pair", "pair", seed=seed))
        with run.active():
            stage.run(run)
        record = read_record(run.directory)
        assert record is not None
        assert sum(record.dropped["prompts without a clear pair"].values()) == 1
        drawn.append([row["prompt"] for _, row in read_rows(run.directory / "preferences.jsonl") if row["chosen"] == "rice"])
    assert len(drawn[0]) == 3
    assert drawn[0] != drawn[1]
