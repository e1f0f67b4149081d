"""Best of n: the best of each prompt is kept, and what ended can be learned from."""

import json
from pathlib import Path

import pytest

from palate.core import Sampling
from palate.data.jsonl import read_rows
from palate.data.samples import read_samples
from palate.models.load import load_policy
from palate.models.scalar import scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
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
    run = ran(Rerank(str(home / "base"), str(home / "reward"), str(home / "prompts.jsonl"), n=8, sampling=sampling), home, "rerank")
    best = read_samples(str(run.directory))
    shown = [row for _, row in read_rows(run.directory / "demonstrations.jsonl")]
    finished = [(prompt.text, group[0].text) for prompt, group in best if group[0].stop == "eos"]
    assert 0 < len(finished) < len(best)
    assert [(row["prompt"], row["completion"]) for row in shown] == finished
    curve = json.loads((run.directory / "summary.json").read_text())["curve"]
    assert curve["n"] == [1, 2, 4, 8]
    assert curve["score"] == sorted(curve["score"])
    scores = [row["score"] for _, row in read_rows(run.directory / "samples.jsonl")]
    assert sum(scores) / len(scores) == pytest.approx(curve["score"][-1])
    taught = ran(SFT(str(home / "base"), str(run.directory), epochs=2), home, "sft")
    assert load_policy(taught.directory / "model").path == "packed"
