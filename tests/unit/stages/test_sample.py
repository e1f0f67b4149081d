"""Stages sample, sft, pretrain and world: what they write, that seeds and limits reach it, and that a sample cut off goes on exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core import Interrupted, Sampling
from palate.data.jsonl import read_rows, write_rows
from palate.kitchen import Kitchen
from palate.models.load import Architecture, load_policy
from palate.runs.record import RunPlan, read_record
from palate.runs.run import Run, open_run
from palate.samplers.local import LocalSampler
from palate.stages import sample as module
from palate.stages.pretrain import Pretrain
from palate.stages.sample import Sample
from palate.stages.sft import SFT
from palate.stages.world import World
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training.fit import epochs_of
from palate.training.keep import Best
from palate.training.optimizer import AdamW

STILL = AdamW(lr=1e-12, warmup=0.0, decay="constant")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    write_rows(folder / "prompts.jsonl", [{"prompt": f"the cook has {word}", "number": k} for k, word in enumerate(WORDS[:8])])
    write_rows(folder / "demos.jsonl", [{"prompt": "the cook has", "completion": " rice" * k} for k in range(1, 7)])
    write_rows(folder / "texts.jsonl", [{"text": f"the cook has {word}"} for word in WORDS[:8]])
    return folder


def done(stage: Any, folder: Path, kind: str, seed: int = 1) -> Run:
    """The run of the stage; a second time it is resumed."""
    stage.check()
    run = open_run(folder, RunPlan(kind, kind, seed=seed))
    with run.active():
        stage.run(run)
    return run


def summary(run: Run) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run.directory / "summary.json").read_text())
    return told


def sampled(run: Run) -> list[dict[str, Any]]:
    return [dict(row) for _, row in read_rows(run.directory / "samples.jsonl")]


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all chunks, of three prompts each, that are sampled."""
    monkeypatch.setattr(module, "PROMPTS_PER_CHUNK", 3)
    found: list[int] = []
    generate = LocalSampler.generate

    def remembered(self: LocalSampler, prompts: Any, samples: int, sampling: Sampling, seed: int) -> Any:
        found.append(seed)
        return generate(self, prompts, samples, sampling, seed)

    monkeypatch.setattr(LocalSampler, "generate", remembered)
    return found


def test_a_sample_that_is_cut_off_goes_on_with_the_next_row(seeds: list[int], data: Path, tmp_path: Path) -> None:
    stage = Sample(str(data / "base"), str(data / "prompts.jsonl"), samples_per_prompt=2, sampling=Sampling(max_tokens=4))
    straight = done(stage, tmp_path / "straight", "sample")
    assert [row["fields"]["number"] for row in sampled(straight)] == list(range(8))
    lines = (straight.directory / "samples.jsonl").read_text().splitlines(keepends=True)
    for at, chunks in ((1, 3), (3, 2), (4, 2), (8, 0)):
        cut = open_run(tmp_path / str(at), RunPlan("sample", "sample", seed=1))
        (cut.directory / "samples.jsonl").write_text("".join(lines[:at]) + '{"id": "hal')
        seeds.clear()
        resumed = done(stage, tmp_path / str(at), "sample")
        assert resumed.is_resumed
        assert (resumed.directory / "samples.jsonl").read_bytes() == (straight.directory / "samples.jsonl").read_bytes()
        assert summary(resumed) == summary(straight)
        assert len(seeds) == chunks  # what is done is not sampled again


def test_chunks_have_seeds_of_their_own_and_a_stop_comes_between_them(
    seeds: list[int], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Sample(str(data / "base"), str(data / "prompts.jsonl"), samples_per_prompt=1, sampling=Sampling(max_tokens=3))
    one = done(stage, tmp_path / "one", "sample")
    other = done(stage, tmp_path / "other", "sample", seed=2)
    assert len(set(seeds)) == 6
    assert sampled(one) != sampled(other)

    def stop(run: Run) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(Run, "check_stop", stop)
    with pytest.raises(Interrupted):
        done(stage, tmp_path / "stopped", "sample")
    (directory,) = (tmp_path / "stopped").iterdir()
    assert len((directory / "samples.jsonl").read_text().splitlines()) == 3


def test_what_was_sampled_is_counted(data: Path, tmp_path: Path) -> None:
    stage = Sample(str(data / "base"), str(data / "prompts.jsonl"), limit=5, samples_per_prompt=3, sampling=Sampling(max_tokens=2))
    run = done(stage, tmp_path, "sample")
    rows = sampled(run)
    ended = [one["stop"] == "eos" for row in rows for one in row["completions"]]
    exact = [one.get("exact", True) for row in rows for one in row["completions"]]
    assert 0 < sum(exact) < 15  # some words run into the prompt's last one
    assert summary(run) == {"prompts": 5, "completions": 15, "eos": sum(ended) / 15, "exact": sum(exact) / 15}
    spelled = [{"role": "user", "content": "what is <eos> for"}]
    prompts = ("the cook has", "the" + " rice" * 200, "", "the cook has", spelled)
    write_rows(tmp_path / "long.jsonl", [{"prompt": prompt} for prompt in prompts])
    run = done(Sample(str(data / "base"), str(tmp_path / "long.jsonl"), sampling=Sampling(max_tokens=2)), tmp_path / "long", "sample")
    record = read_record(run.directory)
    assert record is not None
    assert record.dropped[str(tmp_path / "long.jsonl")] == {"empty `prompt`": 1, "the prompt of an earlier row": 1}
    assert record.dropped["prompts too long"] == {"prompt longer than 126 tokens, which is what the model takes": 1}
    assert record.dropped["prompts that the template refuses"] == {"a text holds a token of the chat template": 1}
    assert len(sampled(run)) == 1  # equal prompts are one


def test_sft_learns_the_rows_asked_for_and_measures_those_held_out(data: Path, tmp_path: Path) -> None:
    base, demos = str(data / "base"), str(data / "demos.jsonl")
    run = done(SFT(base, demos, limit=4, demonstrations_per_step=2, optimizer=STILL), tmp_path / "limit", "sft")
    assert (summary(run)["examples"], summary(run)["steps"]) == (4, 2)
    run = done(SFT(base, demos, max_tokens=12, demonstrations_per_step=6, epochs=2, optimizer=STILL), tmp_path / "long", "sft")
    record = read_record(run.directory)
    assert record is not None
    assert record.dropped[demos]["too long"] == 6 - summary(run)["examples"] > 0
    assert summary(run)["steps"] == 2
    write_rows(tmp_path / "other.jsonl", [{"prompt": "the cook has", "completion": " salt and salt"}])
    losses = []
    for held in (demos, str(tmp_path / "other.jsonl")):
        stage = SFT(base, demos, demonstrations_per_step=6, held_out=held, keep=Best(), optimizer=STILL)
        last = summary(done(stage, tmp_path / f"held{len(losses)}", "sft"))["last"]
        losses.append(last["held_out_loss/mean"])
        assert last["best_held_out_loss"] == last["held_out_loss/mean"]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_pretraining_takes_seed_and_documents_per_step(data: Path, tmp_path: Path) -> None:
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    small = Architecture(hidden_size=16, intermediate_size=16, layers=1, heads=2, max_positions=32)
    stage = Pretrain(str(data / "texts.jsonl"), str(tmp_path / "tokenizer"), architecture=small, documents_per_step=4, optimizer=STILL)
    runs = [done(stage, tmp_path / str(seed), "pretrain", seed=seed) for seed in (1, 2)]
    assert summary(runs[0])["steps"] == 2
    one, two = (load_policy(run.directory / "model").state_dict() for run in runs)
    assert any(not torch.allclose(value, two[name], atol=1e-3) for name, value in one.items())


def test_a_world_follows_its_seed(tmp_path: Path) -> None:
    stage = World(Kitchen(texts=20, demonstrations=10, prompts=10, held_out=5, evals=5))
    runs = [done(stage, tmp_path / str(k), "world", seed=seed) for k, seed in enumerate((1, 1, 2))]
    texts = [(run.directory / "corpus.jsonl").read_bytes() for run in runs]
    assert texts[0] == texts[1] != texts[2]
    assert summary(runs[0])["files"] == ["corpus.jsonl", "demonstrations.jsonl", "evals.jsonl", "held_out.jsonl", "prompts.jsonl"]


def test_the_order_of_examples_follows_the_seed(tmp_path: Path) -> None:
    runs = [open_run(tmp_path / str(k), RunPlan("sft", "sft", seed=seed)) for k, seed in enumerate((1, 1, 2))]
    orders = [epochs_of(run, 20, 20, 1.0).indices(0) for run in runs]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(20))
