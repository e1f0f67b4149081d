"""Best of n: the best of each prompt is kept, and what ended can be learned from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Completion, ConfigError, DataError, Message, Prompt, Sampling, derive_seed
from palate.data.formats import read_prompts, read_samples, sample_row
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.model_costs import COSTS
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.rewards.learned import LearnedReward
from palate.runs.record import RunPlan, read_record
from palate.runs.run import Run, open_run
from palate.samplers.local import LocalSampler
from palate.stages.rerank import Rerank
from palate.stages.sft import SFT
from palate.testing import tiny_policy, word_tokenizer


def ran(stage: Rerank | SFT, folder: Path, name: str) -> Run:
    stage.check()
    run = open_run(folder, RunPlan(name, name, seed=1))
    with run.active():
        stage.run(run)
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "base")
    scalar_from(str(tmp_path / "base"), ("overall",), seed=0).save(tmp_path / "reward")
    prompts = [{"prompt": f"the cook has {one} and {other}"} for one in ("rice", "beans", "salt") for other in ("rice", "beans", "salt")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    return tmp_path


def test_best_of_n_distillation_is_rerank_and_then_sft(home: Path) -> None:
    sampling = Sampling(max_tokens=12)
    run = ran(Rerank(str(home / "base"), str(home / "prompts.jsonl"), str(home / "reward"), n=8, sampling=sampling), home, "rerank")
    best = read_samples(run.directory / "samples.jsonl").rows
    shown = [row for _, row in read_rows(run.directory / "demonstrations.jsonl")]
    finished = [(prompt.text, group[0].text) for prompt, group in best if group[0].stop == "eos"]
    assert 0 < len(finished) < len(best)
    assert [(row["prompt"], row["completion"]) for row in shown] == finished
    curve = json.loads((run.directory / "summary.json").read_text())["curve"]
    assert curve["n"] == [1, 2, 4, 8]
    assert curve["score"] == sorted(curve["score"])
    scores = [row["completions"][0]["score"] for _, row in read_rows(run.directory / "samples.jsonl")]  # type: ignore[index]
    assert sum(scores) / len(scores) == pytest.approx(curve["score"][-1])
    taught = ran(SFT(str(home / "base"), str(run.directory), epochs=2), home, "sft")
    assert load_policy(taught.directory / "model").path == "packed"


def longest(prompt: str, completion: str) -> dict[str, float]:
    """A truth that likes words."""
    return {"words": float(len(completion.split()))}


def test_the_best_of_each_prompts_own_completions_is_kept_and_what_was_cut_off_has_its_own_score(home: Path) -> None:
    sampling = Sampling(max_tokens=12)
    prompts = read_prompts(home / "prompts.jsonl").rows
    groups = LocalSampler(load_policy(home / "base")).generate(prompts, 4, sampling, derive_seed(1, "rerank"))
    scores = LearnedReward.load(str(home / "reward"), word_tokenizer()).score(prompts, groups)["score"]
    files = (str(home / "base"), str(home / "prompts.jsonl"), str(home / "reward"))
    pairs = [(score, one) for rated, group in zip(scores, groups, strict=True) for score, one in zip(rated, group, strict=True)]
    lowest = min(float(score or 0) for score, one in pairs if one.stop == "eos")
    for missing in (-100.0, 100.0):
        stage = Rerank(*files, n=4, sampling=sampling, missing_eos_reward=missing, gold="tests.unit.stages.test_rerank:longest")
        run = ran(stage, home / f"runs{missing:.0f}", "rerank")
        kept = [group[0].text for _, group in read_samples(run.directory / "samples.jsonl").rows]
        first = []
        for prompt_scores, group, text in zip(scores, groups, kept, strict=True):
            rated = [
                float(score or 0) if one.stop == "eos" else min(missing, lowest) for score, one in zip(prompt_scores, group, strict=True)
            ]
            assert text == group[rated.index(max(rated))].text
            first.append(rated)
        curve = json.loads((run.directory / "summary.json").read_text())["curve"]
        assert curve["score"][-1] == pytest.approx(sum(map(max, first)) / len(first), abs=1e-4)
        assert curve["gold"][-1] == pytest.approx(sum(len(text.split()) for text in kept) / len(kept), abs=0.75)
        per_prompt = [dict(row) for _, row in read_rows(run.directory / "curve.jsonl")]
        assert [row["id"] for row in per_prompt] == [prompt.id for prompt in prompts]
        for name in ("score", "gold"):
            columns = zip(*(row[name] for row in per_prompt), strict=True)  # type: ignore[misc]
            assert [sum(column) / len(prompts) for column in columns] == pytest.approx(curve[name])
        assert curve["gold"][0] == pytest.approx(sum(len(one.text.split()) for group in groups for one in group) / 36)


def test_completions_that_were_drawn_before_compete_as_those_of_the_model_do(home: Path) -> None:
    sampling = Sampling(max_tokens=12)
    prompts = read_prompts(home / "prompts.jsonl").rows
    groups = LocalSampler(load_policy(home / "base")).generate(prompts, 4, sampling, derive_seed(1, "rerank"))
    few = sample_row(Prompt("few", (Message("user", "the cook has tea"),)), groups[0][:3])
    (home / "drawn").mkdir()
    write_rows(home / "drawn" / "samples.jsonl", [*(sample_row(*row) for row in zip(prompts, groups, strict=True)), few])
    gold = "tests.unit.stages.test_rerank:longest"
    fresh = ran(
        Rerank(str(home / "base"), str(home / "prompts.jsonl"), str(home / "reward"), n=4, sampling=sampling, gold=gold), home, "fresh"
    )
    given = ran(Rerank(reward=str(home / "reward"), samples=str(home / "drawn"), n=4, gold=gold), home, "given")
    texts = [[group[0].text for _, group in read_samples(one.directory / "samples.jsonl").rows] for one in (fresh, given)]
    assert texts[0] == texts[1]
    curves = [json.loads((one.directory / "summary.json").read_text())["curve"] for one in (fresh, given)]
    assert curves[0]["gold"] == curves[1]["gold"]
    assert curves[0]["score"] == pytest.approx(curves[1]["score"], abs=1e-4)
    record = read_record(given.directory)
    assert record is not None
    assert record.dropped[str(home / "drawn")] == {"fewer than 4 completions": 1}
    wrote = [COSTS["rerank"](given.directory, replace(record, config={"n": 4, **more}))[3] for more in ({}, {"samples": "drawn"})]
    assert wrote[0] > 0
    assert wrote[1] == 0, "it wrote nothing itself"
    two = ran(Rerank(reward=str(home / "reward"), samples=str(home / "drawn"), n=2), home, "two")
    assert [row.text for _, (row,) in read_samples(two.directory / "samples.jsonl").rows][-1] in {one.text for one in groups[0][:2]}


@pytest.mark.parametrize(
    "settings", [{}, {"model": "m"}, {"prompts": "p"}, {"model": "m", "prompts": "p", "samples": "s"}, {"prompts": "p", "samples": "s"}]
)
def test_there_is_one_source_of_completions(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="either samples, or a model and prompts"):
        Rerank(reward="r", **settings).check()
    Rerank(reward="r", samples="s").check()


def test_samples_of_which_no_prompt_has_enough_are_refused(home: Path) -> None:
    write_rows(home / "one.jsonl", [sample_row(Prompt("a", (Message("user", "the cook has tea"),)), [Completion("tea")])])
    with pytest.raises(DataError, match="none of its 1 prompts has 4 completions"):
        ran(Rerank(reward=str(home / "reward"), samples=str(home / "one.jsonl"), n=4), home, "none")
