"""Two ranks give the numbers of one, on every stage, and what must happen once happens once."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml

from tests.device.work import PIPELINE, QUANTISED
from tests.ranks.commands import Runs, runs_at, whole
from tests.ranks.forked import on_ranks
from tests.support.quantised import needs_bitsandbytes
from tests.support.repository import ROOT
from tests.support.run_numbers import numbers

pytestmark = pytest.mark.slow

STAGES = tuple(yaml.safe_load(PIPELINE.read_text())["stages"])


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return whole(tmp_path_factory.mktemp("together"), PIPELINE, "device=cpu", "--launch", "torchrun:2")


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_give_the_numbers_of_one(alone: Runs, together: Runs, stage: str) -> None:
    here, there = numbers(alone[stage][0]), numbers(together[stage][0])
    assert here.keys() == there.keys()
    far = {at: (here[at], there[at]) for at in here if not math.isclose(here[at], there[at], rel_tol=1e-5, abs_tol=limit(stage))}
    assert far == {}


@needs_bitsandbytes
def test_on_a_base_of_four_bits_two_ranks_give_the_numbers_of_one(tmp_path: Path) -> None:
    alone, together = (quantised(tmp_path / str(count), count) for count in (1, 2))
    for stage in ("sft", "reward", "direct", "ppo"):
        here, there = numbers(alone[stage][0]), numbers(together[stage][0])
        assert {at: (here[at], there[at]) for at in here if not math.isclose(here[at], there[at], rel_tol=1e-5, abs_tol=1e-5)} == {}


def quantised(folder: Path, count: int) -> Runs:
    """The pipeline on a base of 4 bits, on so many ranks."""
    ended = on_ranks(count, ["run", str(QUANTISED), "--runs", str(folder / "runs")], folder)
    assert ended.codes == [0] * count, ended.stderr
    return runs_at(folder / "runs")


def limit(stage: str) -> float:
    # In 16 bits the gradient of a weight depends on how a batch was cut, in its third digit.
    return 1e-2 if stage in ("sft-lora", "sft-half") else 1e-5


def test_the_writer_alone_leaves_files(together: Runs) -> None:
    for path, record in together.values():
        assert record.status == "done"
        assert not (path / "state").exists()
    model, _ = together["sft"]
    files = {path.name for path in model.iterdir() if not path.name.startswith(".")}
    assert files == {"examples.jsonl", "metrics.jsonl", "model", "run.json", "summary.json"}


CALLING = """\
name: calling
seed: 4
inputs: {sft: null, world: null, samples: null}
stages:
  judged: {stage: collect, samples: $samples, from: {kind: simulated, gold: "calls:judge", pool: {raters: 3}}}
  tuned:
    stage: online
    model: $sft
    rewards: {asked: {kind: function, function: "calls:reward"}}
    gold: calls:gold
    prompts: $world
    preset: rloo
    iterations: 2
    prompts_per_iteration: 4
    samples_per_prompt: 2
    sampling: {max_tokens: 20}
  best: {stage: evaluate, model: $sft, prompts: $world/held_out.jsonl, gold: "calls:gold", probes: {long: "calls:probe"}}
"""
CALLS = """\
import os
from palate.kitchen import judge as true_judge

def note(name):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{name} {os.environ.get('RANK', '0')}\\n")

def judge(prompt, completion, **columns):
    note("judge")
    return true_judge(prompt, completion, **columns)

def reward(prompt, completion):
    note("reward")
    return len(completion) / 100

def gold(prompt, completion):
    note("gold")
    return {"length": len(completion) / 100}

def probe(text):
    note("probe")
    return len(text)
"""


def test_functions_and_collecting_happen_once(alone: Runs, tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS)
    file = tmp_path / "calling.yaml"
    file.write_text(CALLING)
    words = [f"{name}={alone[name][0]}" for name in ("sft", "world", "samples")]
    calls = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        command = ["run", str(file), *words, "--runs", str(folder / "runs")]
        ended = on_ranks(ranks, command, folder, CALLS=str(folder / "calls"), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        assert set(ended.codes) == {0}, ended.stderr
        calls[ranks] = sorted((folder / "calls").read_text().splitlines())
    assert {line.split()[0] for line in calls[1]} == {"judge", "reward", "gold", "probe"}
    assert calls[2] == calls[1]
