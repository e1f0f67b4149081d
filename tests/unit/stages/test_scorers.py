"""Every stage that scores or compares with another model checks that it reads the same tokens and takes sequences as long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from palate.core import Completion, ConfigError, DataError, ModelError, Sampling
from palate.data.formats import read_prompts, read_samples
from palate.data.jsonl import read_rows
from palate.models.load import as_policy, built, without_dropout
from palate.models.scalar import scalar_from
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.direct import Direct
from palate.stages.evaluate import Evaluate
from palate.stages.pair import Pair
from palate.stages.rerank import Rerank
from palate.stages.reward import Reward
from palate.testing import tiny_config, tiny_policy, word_tokenizer

TEXT = "the cook has rice and beans but no salt so what can we make for two guests today please"
WORDS = TEXT.split()
SAMPLING = Sampling(max_tokens=8)


def ran(stage: Any, folder: Path, name: str) -> Run:
    stage.check()
    run = open_run(folder, RunPlan(name, name, seed=1))
    with run.active():
        stage.run(run)
    return run


def limited(family: str, tokens: int):
    """Return a tiny policy that takes `tokens` tokens."""
    tokenizer = word_tokenizer(WORDS)
    config = without_dropout(tiny_config(family, tokenizer))
    setattr(config, "n_positions" if family == "gpt2" else "max_position_embeddings", tokens)
    return as_policy(built(AutoModelForCausalLM.from_config, config, 1), tokenizer)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorers")
    tiny_policy("qwen3", word_tokenizer(WORDS)).save(folder / "policy")
    tiny_policy("llama", word_tokenizer(WORDS[::-1]), seed=3).save(folder / "reversed")
    scalar_from(tiny_policy("llama", word_tokenizer(WORDS[::-1]), seed=3), ("score",), seed=5).save(folder / "other")
    for family in ("gpt2", "llama"):
        scalar_from(limited(family, 20), ("score",), seed=2).save(folder / f"short-{family}")
        scalar_from(limited(family, 4), ("score",), seed=2).save(folder / f"tiny-{family}")
    limited("gpt2", 12).save(folder / "limited")
    prompts = [f"the cook has {one} and {two}" for one in ("rice", "beans", "salt") for two in ("rice", "no beans")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    pairs = [{"prompt": prompt, "chosen": " for two guests", "rejected": " no salt"} for prompt in prompts]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder


def path_of(home: Path, name: str) -> str:
    return str(home / name)


def test_a_reward_model_of_another_vocabulary_scores_texts(home: Path, tmp_path: Path) -> None:
    stage = Evaluate(path_of(home, "prompts.jsonl"), path_of(home, "policy"), reward=path_of(home, "other"), sampling=SAMPLING)
    run = ran(stage, tmp_path, "evaluate")
    reward, prompts = LearnedReward.load(path_of(home, "other")), read_prompts(home / "prompts.jsonl").rows
    rows = [row for _, row in read_rows(run.directory / "completions.jsonl")]
    ranked = ran(
        Rerank(path_of(home, "policy"), path_of(home, "prompts.jsonl"), path_of(home, "other"), n=2, sampling=SAMPLING), tmp_path, "r"
    )
    best = [row for _, row in read_rows(ranked.directory / "samples.jsonl")]
    for row, prompt in zip(rows, prompts, strict=True):
        (((score,),), *_) = reward.score([prompt], [[completion_of(row)]]).values()
        assert row["score"] == pytest.approx(score, abs=1e-4)
    for row, (prompt, (completion,)) in zip(best, read_samples(ranked.directory / "samples.jsonl").rows, strict=True):
        (((score,),), *_) = reward.score([prompt], [[completion]]).values()
        assert row["completions"][0]["score"] == pytest.approx(score if completion.stop == "eos" else -1.0, abs=1e-4)


def completion_of(row: dict[str, Any]):
    return Completion(row["text"], stop=row["stop"])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_completion_longer_than_the_reward_model_takes_has_no_score(family: str, home: Path, tmp_path: Path) -> None:
    short, prompts, policy = path_of(home, f"short-{family}"), path_of(home, "prompts.jsonl"), path_of(home, "policy")
    run = ran(Evaluate(prompts, policy, reward=short, sampling=SAMPLING), tmp_path, "evaluate")
    rows = [row for _, row in read_rows(run.directory / "completions.jsonl")]
    unscored = [row for row in rows if row["score"] is None]
    assert 0 < len(unscored) < len(rows)
    assert all(row["tokens"] > 20 - 13 for row in unscored)
    means = json.loads((run.directory / "summary.json").read_text())["means"]
    assert means["score"]["n"] == len(rows) - len(unscored)
    record = json.loads((run.directory / "run.json").read_text())
    assert record["dropped"][f"completions without a score by {short}"] == {"too long for the reward model": len(unscored)}
    ranked = ran(Rerank(policy, prompts, short, n=2, sampling=SAMPLING), tmp_path, "rerank")
    for stage in (
        Evaluate(prompts, policy, reward=path_of(home, f"tiny-{family}"), sampling=SAMPLING),
        Rerank(policy, prompts, path_of(home, f"tiny-{family}"), n=2, sampling=SAMPLING),
        Pair(str(ranked.directory), path_of(home, f"tiny-{family}")),
    ):
        with pytest.raises(DataError, match=r"cannot score \d+ of \d+ completions: too long for the reward model: \d+ tokens, it takes 4"):
            ran(stage, tmp_path, f"none-{stage.__class__.__name__}")


def test_a_reference_reads_the_tokens_of_the_policy(home: Path, tmp_path: Path) -> None:
    prompts, policy, pairs = path_of(home, "prompts.jsonl"), path_of(home, "policy"), path_of(home, "pairs.jsonl")
    for reference, message in (("reversed", "another vocabulary"), ("limited", "takes 12 tokens")):
        for stage in (
            Evaluate(prompts, policy, reference=path_of(home, reference), sampling=SAMPLING),
            Direct(policy, pairs, reference=path_of(home, reference)),
        ):
            with pytest.raises(ModelError, match=message):
                ran(stage, tmp_path, f"{reference}-{stage.__class__.__name__}")


@pytest.mark.parametrize("stage", [Direct, Reward])
def test_more_tokens_than_the_model_takes_are_refused(stage: Any, home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_tokens is 13, and the model takes 12"):
        ran(stage(path_of(home, "limited"), path_of(home, "pairs.jsonl"), max_tokens=13), tmp_path, "long")


def test_held_out_judgments_of_another_dimension_are_refused_before_training(home: Path, tmp_path: Path) -> None:
    rows = [row for _, row in read_rows(home / "pairs.jsonl")]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps({**row, "dimension": "taste"}) + "\n" for row in rows[:2]))
    stage = Reward(path_of(home, "policy"), path_of(home, "pairs.jsonl"), held_out=str(tmp_path / "held.jsonl"))
    with pytest.raises(DataError, match="about taste, and the model learns overall"):
        ran(stage, tmp_path, "reward")
    assert not (tmp_path / "reward" / "metrics.jsonl").exists()
    mixed = [{**row, "dimension": "taste" if k else "overall"} for k, row in enumerate(rows[:2])]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    run = ran(stage, tmp_path, "mixed")
    assert json.loads((run.directory / "run.json").read_text())["dropped"]["held-out judgments"] == {"the model does not learn taste": 1}
