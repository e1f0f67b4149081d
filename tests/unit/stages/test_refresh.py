"""Stage refresh: new judgments move the model, old ones are not forgotten, and the comparison says both."""

import json
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Preference, Prompt
from palate.data.formats import read_samples
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.label_curve import nested_shares
from palate.evaluation.rater_report import read_curve
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.refresh import Refresh
from palate.testing import tiny_policy, word_tokenizer
from palate.training.optimizer import AdamW

GUESTS = ("rice", "beans", "salt", "cook", "guests", "today")


def pair(number: int, chosen: str, rejected: str, dimension: str = "overall") -> dict[str, Any]:
    first, second = GUESTS[number % 6], GUESTS[number // 6 % 6]
    return {
        "prompt": f"the {first} and the {second} {'please ' * (number // 36)}",
        "chosen": chosen,
        "rejected": rejected,
        "dimension": dimension,
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A reward model that knows nothing; new judges like salt, old ones like two."""
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(tmp_path / "reward")
    write_rows(tmp_path / "new.jsonl", [pair(k, " make salt", " make rice") for k in range(60)])
    write_rows(tmp_path / "old.jsonl", [pair(k, " for two", " for today") for k in range(60, 120)])
    write_rows(tmp_path / "held.jsonl", [pair(k, " for two", " for today") for k in range(120, 140)])
    shown = [{"text": text, "stop": "eos", "tokens": 2} for text in ("make salt", "make rice", "for two")]
    write_rows(tmp_path / "samples.jsonl", [{"id": str(k), "prompt": f"the {GUESTS[k]}", "completions": shown} for k in range(6)])
    return tmp_path


def refreshed(home: Path, name: str = "run", **settings: Any) -> tuple[Path, dict[str, Any]]:
    stage = Refresh(
        str(home / "reward"), str(home / "new.jsonl"), str(home / "samples.jsonl"),
        **{"held_out": (str(home / "held.jsonl"),), "epochs": 4, "prompts_per_step": 8, "optimizer": AdamW(lr=5e-3), **settings},
    )  # fmt: skip
    stage.check()
    run = open_run(home / name, RunPlan("refresh", "refresh", {"settings": repr(settings)}, seed=1))
    with run.active():
        stage.run(run)
    return run.directory, json.loads((run.directory / "summary.json").read_text())


def test_it_learns_the_new_keeps_the_old_and_leaves_the_former_model_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {name: value.clone() for name, value in load_scalar(home / "reward").state_dict().items()}
    directory, summary = refreshed(home, replay=(str(home / "old.jsonl"),))
    new, old = summary["tests"]["new"], summary["tests"]["old"]
    assert new["after"]["accuracy"] == 1.0
    assert new["change"]["accuracy"] == pytest.approx(new["after"]["accuracy"] - new["before"]["accuracy"])
    assert old["after"]["accuracy"] == 1.0
    assert new["after"]["n"] == 12
    assert summary["prompts"] == 48 + 48
    assert 0 < summary["scale"]["best_changed"] <= 1
    assert "The reward model before and after" in capsys.readouterr().out
    assert all(value.equal(weights[name]) for name, value in load_scalar(home / "reward").state_dict().items())
    model = load_scalar(directory / "model")
    samples = read_samples(home / "samples.jsonl").rows
    scores = LearnedReward(model).score([prompt for prompt, _ in samples], [group for _, group in samples])["score"]
    flat = [score for group in scores for score in group if score is not None]
    assert sum(flat) / len(flat) == pytest.approx(0, abs=1e-4)
    assert ReportCard.read_from(str(directory / "model")) is not None


def test_a_model_that_reads_the_likelihood_goes_on_reading_it(home: Path) -> None:
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0, reads_likelihood=True).save(home / "reward")
    directory, summary = refreshed(home, curve=())
    before, after = (load_scalar(path).likelihood for path in (home / "reward", directory / "model"))
    assert before is not None
    assert after is not None
    assert not before.raw.any()
    assert float(after.raw.detach().abs().max()) > 1e-3
    assert summary["tests"]["new"]["after"]["accuracy"] == 1.0


def test_the_curve_is_measured_on_nested_shares_and_the_page_says_what_it_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory, summary = refreshed(home, replay=(str(home / "old.jsonl"),), curve=(0.25, 0.0625))
    curve = read_curve(directory)
    assert [(one.labels, one.pairs) for one in curve] == [(3, 12), (12, 12), (48, 12)]
    assert curve[-1].accuracy == summary["tests"]["new"]["after"]["accuracy"]
    metrics = [row for _, row in read_rows(directory / "metrics.jsonl")]
    assert len(metrics) == 48, "the metrics are those of the whole model: 4 epochs of 96 prompts in steps of 8"
    said = " ".join(capsys.readouterr().out.split())
    assert "Doubling the labels from 48 to 96 is expected to give" in said
    assert "Put it in use: the gain on new judgments is real" in said
    assert f"palate use {directory.parent}/reward {directory}" in said
    page = (directory / "refresh.html").read_text()
    for told in ("Better on the new judgments", "How many more labels", summary["curve"]["text"], "Best before", "palate use"):
        assert told in page
    assert "<script" not in page


def test_a_curve_can_be_left_out_and_is_where_labels_are_few(home: Path) -> None:
    directory, summary = refreshed(home, curve=(), epochs=1)
    assert "curve" not in summary
    assert not (directory / "curve.jsonl").exists()
    assert "How many more labels" not in (directory / "refresh.html").read_text()
    assert [len({p.prompt.conversation for p in part}) for part in nested_shares(preferences(10), (0.01, 0.5, 0.99), 0)] == [5]


def test_shares_are_nested() -> None:
    parts = nested_shares(preferences(40), (0.5, 0.1, 0.25), 7)
    chosen = [{p.prompt.conversation for p in part} for part in parts]
    assert list(map(len, chosen)) == [4, 10, 20]
    assert chosen[0] < chosen[1] < chosen[2]
    assert [p.prompt.id for p in parts[2]] == sorted((p.prompt.id for p in parts[2]), key=int), "in the order given"


def preferences(count: int) -> list[Preference]:
    sides = Completion("a"), Completion("b")
    return [Preference(Prompt(str(k), (Message("user", f"question {k}"),)), *sides) for k in range(count)]


def test_what_cannot_be_learned_from(home: Path) -> None:
    with pytest.raises(ConfigError, match="held_out_share must lie between"):
        refreshed(home, held_out_share=1.0)
    write_rows(home / "new.jsonl", [pair(k, " make salt", " make rice", "funny") for k in range(5)])
    with pytest.raises(DataError, match="has the heads overall"):
        refreshed(home, "strange")
    write_rows(home / "new.jsonl", [pair(0, " make salt", " make rice")])
    with pytest.raises(DataError, match="Judge more"):
        refreshed(home, "single")
