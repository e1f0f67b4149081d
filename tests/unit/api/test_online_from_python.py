"""Online training with own objects, whole and step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import palate
from palate.core import ConfigError, RunError
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.stages.online.loop import Loop
from palate.testing import tiny_policy, word_tokenizer
from tests.unit.api.own_parts import Centred, OwnRollouts

PROMPTS = [f"the cook has {what} and {other}" for what in ("rice", "beans", "salt") for other in ("rice", "beans", "salt")]


def shortness(completion: str) -> float:
    """Fewer letters are better."""
    return -float(len(completion))


def settings(base: CausalPolicy, runs: Path, **changed: Any) -> dict[str, Any]:
    """A training of a few short iterations with an own advantage rule and an own reward."""

    def short(completion: str) -> float:  # no module has it, so it is called in this process
        return shortness(completion)

    return {
        "model": base, "prompts": PROMPTS, "rewards": {"short": short}, "method": {"advantage": Centred(factor=0.5)}, "iterations": 3,
        "prompts_per_iteration": 4, "samples_per_prompt": 2, "epochs_per_batch": 2, "minibatches": 2, "sampling": {"max_tokens": 6},
        "shaping": {"missing_eos": "keep"},
        "optimizer": {"lr": 0.003, "decay": "constant"}, "seed": 5, "runs": runs, **changed,
    }  # fmt: skip


def by_hand(loop: Loop) -> dict[str, float]:
    """An iteration in single steps."""
    rollouts = loop.sample(loop.prompt(4))
    scored, metrics = loop.score(rollouts)
    coef = loop.price(scored).coef
    learned = loop.learn(loop.credit(scored, coef))
    return loop.record(scored, coef, {**metrics, **learned})


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return palate.load_policy(directory).state_dict()


@pytest.fixture(scope="module")
def whole(base: CausalPolicy, tmp_path_factory: pytest.TempPathFactory) -> palate.FinishedRun:
    """The run of the stage."""
    return palate.online(**settings(base, tmp_path_factory.mktemp("whole")))


def test_single_steps_give_the_numbers_of_the_stage_to_the_bit(base: CausalPolicy, runs: Path, whole: palate.FinishedRun) -> None:
    with palate.online_loop(**settings(base, runs)) as loop:
        for step in range(3):
            loop.run.log(step, by_hand(loop))
    assert loop.run.directory.name.startswith("online_loop-")
    assert (loop.run.directory / "metrics.jsonl").read_bytes() == whole.path("metrics.jsonl").read_bytes()
    assert (loop.run.directory / "model/model.safetensors").read_bytes() == whole.path("model/model.safetensors").read_bytes()
    assert len(whole.metrics) == 3
    before = base.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in weights(whole.directory).items())
    assert whole.metrics[0]["online/advantage/sd"] > 0
    with pytest.raises(RunError, match="is done. Give fresh=True"), palate.online_loop(**settings(base, runs)):
        pass


def test_a_loop_that_was_left_goes_on_from_its_checkpoint(base: CausalPolicy, runs: Path, whole: palate.FinishedRun) -> None:
    def driven(until: int, fails: bool) -> Path:
        with palate.online_loop(**settings(base, runs, name="left")) as loop:
            while loop.iteration < until:
                loop.run.log(loop.iteration, by_hand(loop))
                loop.save()
            if fails:
                raise ZeroDivisionError
        return loop.run.directory

    with pytest.raises(ZeroDivisionError):
        driven(2, fails=True)
    left = driven(3, fails=False)
    assert (left / "model/model.safetensors").read_bytes() == whole.path("model/model.safetensors").read_bytes()
    assert (left / "metrics.jsonl").read_bytes() == whole.path("metrics.jsonl").read_bytes()


def test_completions_may_come_from_anywhere(base: CausalPolicy, runs: Path) -> None:
    with palate.online_loop(**settings(base, runs)) as loop:
        before = {name: value.clone() for name, value in loop.policy.state_dict().items()}
        groups = palate.generate(loop.policy, PROMPTS[:3], 2, sampling=palate.Sampling(max_tokens=4), seed=9)
        scored, metrics = loop.score(palate.rollouts(loop.policy, PROMPTS[:3], groups))
        assert scored.scores.tolist() == [-float(len(one.text)) for group in groups for one in group]
        loop.learn(loop.credit(scored, loop.price(scored).coef))
        assert any(not torch.equal(value, before[name]) for name, value in loop.policy.state_dict().items())
        assert metrics["score_short/mean"] == pytest.approx(float(scored.scores.mean()))


def test_a_reference_that_is_not_the_start(base: CausalPolicy, runs: Path) -> None:
    other = tiny_policy("qwen3", word_tokenizer(), seed=1)
    with palate.online_loop(**settings(base, runs, kl={"reference": other})) as loop:
        scored, _ = loop.score(loop.sample(loop.prompt(4)))
        groups = [list(group) for group in scored.rollouts.groups]
        expected = [sum(one) for group in palate.logps(other, scored.rollouts.prompts, groups) for one in group]
        own = [sum(completion.logps) for completion in scored.rollouts.completions]
        assert scored.kl.tolist() == pytest.approx([one - two for one, two in zip(own, expected, strict=True)], abs=1e-3)
        assert abs(float(scored.kl.mean())) > 0.01
    foreign = tiny_policy("qwen3", word_tokenizer(("other", "words")))
    with pytest.raises(palate.PalateError, match="another vocabulary"):
        palate.online(**settings(base, runs, kl={"reference": foreign}))


def test_a_sampler_of_the_users_own(base: CausalPolicy, runs: Path, whole: palate.FinishedRun) -> None:
    OwnRollouts.opened.clear()
    own = palate.online(**settings(base, runs, sampler=OwnRollouts(extra=1)))
    assert [type(one) for one in OwnRollouts.opened] == [LocalSampler]
    assert own.record.key != whole.record.key
    assert own.path("metrics.jsonl").read_bytes() == whole.path("metrics.jsonl").read_bytes()
    assert own.record.config["sampler"]["kind"] == "tests.unit.api.own_parts:OwnRollouts"  # type: ignore[index]


def test_wrong_settings_of_the_loop_are_refused_as_those_of_the_stage(base: CausalPolicy, runs: Path) -> None:
    with pytest.raises(ConfigError, match="iterations"), palate.online_loop(**settings(base, runs, iterations=0)):
        pass
    with pytest.raises(ConfigError, match="Online has no 'steps'"), palate.online_loop(**settings(base, runs, steps=1)):
        pass
