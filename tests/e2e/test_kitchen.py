"""The whole loop on a very small kitchen: every stage, twice, elsewhere, and killed in the middle."""

import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.runs.record import RunRecord, list_runs
from tests.support.metric_names import logged, undocumented
from tests.support.repository import ROOT
from tests.support.warm_python import executable

pytestmark = pytest.mark.slow

PIPELINE = """\
name: tiny
seed: 3
stages:
  world:
    stage: world
    kitchen: {texts: 300, demonstrations: 60, prompts: 40, held_out: 20, evals: 6}
  base:
    stage: pretrain
    data: $world
    tokenizer: $world/tokenizer
    architecture: {hidden_size: 32, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 64}
    documents_per_step: 25
    epochs: 2
  sft: {stage: sft, model: $base, data: $world, demonstrations_per_step: 20}
  samples: {stage: sample, model: $sft, prompts: $world, samples_per_prompt: 3, sampling: &sampling {max_tokens: 48}}
  judged: {stage: collect, samples: $samples, from: {kind: simulated, gold: "palate.kitchen:judge", pool: {raters: 3}},
    dimensions: [helpful, honest]}
  reward: &reward
    stage: reward
    model: $sft
    preferences: $judged
    held_out: $judged
    reference_samples: $samples
    prompts_per_step: 8
    score: with_likelihood
  shuffled: {<<: *reward, control: shuffled}
  direct: {stage: direct, model: $sft, preferences: $judged, prompts_per_step: 8}
  pairs: {stage: pair, samples: $samples, reward: $reward, min_accuracy: 0, replay: $judged, replay_share: 0.25}
  round: {stage: direct, model: $direct, reference: $sft, preferences: $pairs, prompts_per_step: 8}
  ppo: &online
    stage: online
    model: $sft
    reward: $reward
    prompts: $world
    iterations: 2
    prompts_per_iteration: 8
    samples_per_prompt: 2
    minibatches: 2
    sampling: *sampling
    reward_requirements: {min_accuracy: 0}  # so small a reward model deserves no trust
    gold: palate.kitchen:judge
  rloo: {<<: *online, method: {advantage: leave_one_out}, epochs_per_batch: 1}
  refused: {<<: *online, reward: $shuffled, reward_requirements: {min_accuracy: 0.55}, expect: refused}
  mean: {stage: average, models: [$sft, $ppo], weights: [0.2, 0.8]}
  best: {stage: rerank, model: $sft, reward: $reward, prompts: $world/held_out.jsonl, n: 2, sampling: *sampling}
  eval-sft: &eval
    stage: evaluate
    model: $sft
    prompts: $world/held_out.jsonl
    evals: $world
    reward: $reward
    reference: $sft
    gold: palate.kitchen:judge
    probes: {padding: "palate.kitchen:padding"}
    sampling: *sampling
  eval-ppo: {<<: *eval, model: $mean}
  eval-best: {stage: evaluate, completions: $best, prompts: $world/held_out.jsonl, reward: $reward, gold: palate.kitchen:judge}
  report:
    stage: report
    reference: SFT model
    models:
      - {evaluation: $eval-sft, name: SFT model, role: sft}
      - {evaluation: $eval-ppo, name: averaged PPO, role: online}
      - {evaluation: $eval-best, name: best of two, role: search}
    reward: $reward
    control: $shuffled
    judgments: $judged
    training: {PPO model: $ppo}
    best: $best
"""
MODELS = ("SFT model", "averaged PPO", "best of two")
REFUSED = {"refused"}

# A process that saves after every step and is killed when it has logged one step of one stage, before that step is saved.
DEADLY = """\
import os, signal, sys
from palate.cli import main
from palate.runs.run import Run
from palate.training import checkpoints
checkpoints.CHECKPOINT_SECONDS = 0.0
name, step, log = sys.argv[1], int(sys.argv[2]), Run.log
def deadly(run, at, metrics):
    log(run, at, metrics)
    if (run.name, at) == (name, step):
        os.kill(os.getpid(), signal.SIGKILL)
Run.log = deadly
main(sys.argv[3:])
"""


def words(folder: Path, *more: str) -> list[str]:
    path = folder / "tiny.yaml"
    path.write_text(PIPELINE)
    return ["run", str(path), "--runs", str(folder / "runs"), *more]


def records(folder: Path) -> dict[str, tuple[Path, RunRecord]]:
    return {record.name: (path, record) for path, record in list_runs(folder / "runs")}


def hows(out: str) -> dict[str, str]:
    """How each stage ended, as the command line told."""
    table = out.split("\n\n", maxsplit=1)[0]
    return {line.split()[0]: line.split()[1] for line in table.splitlines()}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    assert main(words(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def stages(first: Path) -> dict[str, Path]:
    return {name: path for name, (path, _) in records(first).items()}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_stage_is_done_and_keeps_no_checkpoint(first: Path) -> None:
    found = records(first)
    assert len(found) == 19
    for path, record in found.values():
        assert (record.status, record.error) == ("done", None)
        assert not (path / "state").exists()
        assert (path / "summary.json").is_file()


def test_the_control_is_refused_with_the_figure(stages: dict[str, Path]) -> None:
    accuracy = json.loads((stages["shuffled"] / "model" / "report_card.json").read_text())["accuracy"]
    told = json.loads((stages["refused"] / "summary.json").read_text())["refused"]
    assert f"near chance: accuracy {accuracy:.3f}" in told
    assert not (stages["refused"] / "model").exists()


def test_a_second_time_everything_is_skipped(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (first / "runs").rglob("*") if path.is_file() and path.name != ".digests.json"}
    assert main(words(first)) == 0
    found = hows(capsys.readouterr().out)
    assert len(found) == 19
    assert set(found.values()) == {"skipped"}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_every_metric_that_is_logged_is_explained(stages: dict[str, Path]) -> None:
    names = {name for path in stages.values() if (path / "metrics.jsonl").exists() for name in logged(path / "metrics.jsonl")}
    assert len(names) > 40
    assert undocumented(names) == []


def test_metrics_stand_in_order_of_steps(stages: dict[str, Path]) -> None:
    for name, count in {"base": 24, "sft": 3, "ppo": 2, "rloo": 2}.items():
        assert [row["step"] for row in rows(stages[name] / "metrics.jsonl")] == list(range(count))


def test_before_the_first_update_policy_and_reference_are_one(stages: dict[str, Path]) -> None:
    direct = rows(stages["direct"] / "metrics.jsonl")[0]
    assert direct["direct/loss/mean"] == pytest.approx(math.log(2), abs=1e-4)
    for name in ("ppo", "rloo"):
        step, later = rows(stages[name] / "metrics.jsonl")
        assert step["online/kl/mean"] == pytest.approx(0, abs=1e-4)
        assert step["online/kl_k3/mean"] == pytest.approx(0, abs=1e-4)
        assert later["online/kl_k3/mean"] > 1e-6  # it has moved
        for one in (step, later):
            assert one["online/first_ratio/mean"] == pytest.approx(1, abs=1e-4)
            assert one["online/first_log_ratio/max"] == pytest.approx(0, abs=1e-4)


def test_models_learn(stages: dict[str, Path]) -> None:
    losses = [row["pretrain/loss/mean"] for row in rows(stages["base"] / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 1
    bytes_of = {name: (stages[name] / "model" / "model.safetensors").read_bytes() for name in ("base", "sft", "direct", "ppo", "rloo")}
    assert len(set(bytes_of.values())) == 5


@pytest.mark.parametrize("name", ["base", "sft", "direct", "ppo", "rloo"])
def test_models_load_with_plain_transformers(name: str, stages: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = stages[name] / "model"
    model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    chat = [{"role": "user", "content": "how do i cook the rice ?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert tokenizer.unk_token_id not in ids["input_ids"]
    with torch.no_grad():
        assert bool(torch.isfinite(model(**ids).logits).all())


def test_held_out_prompts_are_judged_nowhere(stages: dict[str, Path]) -> None:
    train = {json.dumps(row["prompt"]) for row in rows(stages["judged"] / "preferences.jsonl")}
    test = {json.dumps(row["prompt"]) for row in rows(stages["judged"] / "held_out.jsonl")}
    measured = {row["prompt"] for row in rows(stages["eval-ppo"] / "completions.jsonl")}
    assert train
    assert test
    assert train.isdisjoint(test)
    assert len(measured) == 20
    assert not any(prompt in text for prompt in measured for text in train | test)


def test_the_report_names_every_model(stages: dict[str, Path]) -> None:
    page = (stages["report"] / "report.html").read_text()
    for name in (*MODELS, "What alignment changed", *(path.name for path in stages.values() if "report" not in path.name)):
        if name.split("-")[0] not in ("rloo", "refused", "direct", "pairs", "round"):  # the report shows nothing made from these
            assert name in page
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def same_bytes(one: Path, other: Path) -> list[str]:
    """Files of the runs in one folder, all found with the same bytes in the other; what holds times and paths is left out."""
    compared = []
    for name, (path, record) in records(one).items():
        twin, twin_record = records(other)[name]
        assert record.key == twin_record.key
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            if file.is_file() and inside.name not in ("run.json", ".lock", "report.html"):
                assert (twin / inside).read_bytes() == file.read_bytes(), f"{name}/{inside}"
                compared.append(f"{name}/{inside}")
    return compared


def test_the_same_seed_gives_the_same_bytes_in_another_folder(first: Path, tmp_path: Path) -> None:
    assert main(words(tmp_path)) == 0
    compared = same_bytes(first, tmp_path)
    for name in ("base", "sft", "reward", "direct", "ppo", "rloo"):
        assert {f"{name}/model/model.safetensors", f"{name}/metrics.jsonl", f"{name}/summary.json"} <= set(compared)


def test_another_seed_gives_other_bytes(first: Path, tmp_path: Path) -> None:
    assert main(words(tmp_path, "seed=4", "--only", "world")) == 0
    one, other = ((records(folder)["world"][0] / "corpus.jsonl").read_bytes() for folder in (first, tmp_path))
    assert one != other


def killed(folder: Path, name: str, step: int) -> None:
    """The pipeline in a process of its own, which is killed when that step of that stage is logged."""
    done = subprocess.run(
        [executable(), "-c", DEADLY, name, str(step), *words(folder)], cwd=ROOT, env=dict(os.environ), capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    path, record = records(folder)[name]
    assert record.status == "running"
    assert [row["step"] for row in rows(path / "metrics.jsonl")] == list(range(step + 1))
    numbers = json.loads((path / "state" / "learner" / "numbers.json").read_text())
    assert numbers["steps_done"] > 0
    assert numbers.get("iteration", numbers["steps_done"]) == step  # the last step was logged, but not saved
    assert not (path / "model").exists()


def test_killed_in_the_middle_and_resumed_it_ends_with_the_same_bytes(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(first / "runs", tmp_path / "runs")
    for name in ("sft", "ppo", "rloo", "mean", "eval-ppo"):  # a kill cannot touch the other ones, and the report is made of these
        shutil.rmtree(records(tmp_path)[name][0])
    killed(tmp_path, "sft", 1)
    killed(tmp_path, "ppo", 1)  # goes on with sft first
    assert main(words(tmp_path)) == 0
    found = hows(capsys.readouterr().out)
    assert (found["base"], found["sft"], found["ppo"], found["rloo"]) == ("skipped", "skipped", "resumed", "done")
    assert found["report"] == "skipped"  # what it is made of has the bytes that it had
    assert len(same_bytes(first, tmp_path)) > 60
