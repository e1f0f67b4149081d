"""Completions of the same prompts during training, for people who watch: when, of what, and that nothing else changes."""

from pathlib import Path
from typing import Any

import pytest

from palate.core import Prompt, Sampling
from palate.data.jsonl import read_rows
from palate.models.load import load_policy
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.samplers.local import LocalSampler
from palate.samplers.prompts import prompts_at
from palate.stages.online.rollout_sampler import RolloutSampler
from palate.training.examples import PROMPTS, Draw, Examples
from tests.unit.stages.online.toy import configured, killed_and_resumed, trained


def shown(run: Run) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(run.directory / "examples.jsonl")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path, RunPlan("online", "online", seed=1))


def sampler_of(data: Path) -> RolloutSampler:
    policy = load_policy(data / "base")
    return RolloutSampler(policy, LocalSampler(policy), 2, Sampling(max_tokens=6), 1, is_asynchronous=False)


def drawing(sampler: RolloutSampler) -> Draw:
    return lambda prompts, seed: sampler.draw_apart(prompts, 1, seed).groups


def prompts_of(data: Path, run: Run) -> list[Prompt]:
    return prompts_at(run, str(data / "prompts.jsonl"), None)


@pytest.mark.parametrize(("iterations", "moments"), [(3, [0, 1, 2]), (8, [*range(8)]), (20, [0, 3, 6, 9, 12, 15, 18])])
def test_a_long_run_has_few_moments(iterations: int, moments: list[int], data: Path, run: Run) -> None:
    prompts = prompts_of(data, run)
    examples = Examples(run, drawing(sampler_of(data)), prompts, iterations)
    for iteration in range(iterations):
        examples.before(iteration)
    rows = shown(run)
    assert [row["step"] for row in rows] == [step for step in moments for _ in range(PROMPTS)]
    assert [row["prompt"] for row in rows] == [prompt.text for prompt in prompts[:PROMPTS]] * len(moments)
    assert [row["completion"] for row in rows] == [row["completion"] for row in rows[:PROMPTS]] * len(moments)  # the weights did not move


def test_moments_that_are_made_again_replace_those_that_a_killed_process_left(data: Path, run: Run) -> None:
    examples = Examples(run, drawing(sampler_of(data)), prompts_of(data, run), 8)
    for iteration in (0, 1, 2, 3, 1):
        examples.before(iteration)
    assert [row["step"] for row in shown(run)] == [step for step in (0, 1) for _ in range(PROMPTS)]


def test_what_is_sampled_for_learning_is_the_same_with_them(data: Path, run: Run) -> None:
    prompts = prompts_of(data, run)
    drawn = []
    for has_examples in (False, True):
        sampler = sampler_of(data)
        examples = Examples(run, drawing(sampler), prompts, 2)
        for number in range(2):
            if has_examples:
                examples.before(number)
            drawn.append(sampler.draw(prompts[:3], prompts[3:6], number).groups)
    assert drawn[:2] == drawn[2:]


def test_training_writes_them_and_a_run_that_was_killed_has_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = configured(data, iterations=2)
    straight, _ = trained(stage, tmp_path / "straight")
    rows = shown(straight)
    assert [row["step"] for row in rows] == [step for step in range(3) for _ in range(PROMPTS)]
    first, last = ([row["completion"] for row in rows if row["step"] == step] for step in (0, 2))
    assert first != last
    resumed, _ = killed_and_resumed(stage, tmp_path / "killed", 0, monkeypatch)
    assert (resumed.directory / "examples.jsonl").read_bytes() == (straight.directory / "examples.jsonl").read_bytes()
