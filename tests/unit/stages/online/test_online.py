"""Stage `online` on a toy: every method learns what is rewarded, and what surrounds the loop does what it says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.cli import main
from palate.config.read import dump_config, read_config
from palate.config.settings import Settings
from palate.core import ConfigError, TrainingError
from palate.models.adapters import LoRA
from palate.models.four_bit import four_bit_layers
from palate.models.scalar import load_scalar, scalar_from
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.online import Online
from palate.stages.online.loop import Loop
from palate.stages.online.online_dpo import best_and_worst
from palate.stages.online.raft import top_k
from palate.testing import byte_tokenizer, random_trees, tiny_policy, word_tokenizer
from palate.text.pack import pack
from tests.support.quantised import needs_bitsandbytes
from tests.unit.stages.online.toy import (
    ITERATIONS,
    LETTERS,
    NOTHING,
    PPO,
    SLOW,
    alike,
    called_here,
    configured,
    gain,
    killed_and_resumed,
    stored,
    trained,
    weights,
)

METHODS: Mapping[str, Mapping[str, Any]] = {
    "ppo": PPO,
    "ppo, two epochs per batch": {**PPO, "epochs_per_batch": 2, "minibatches": 2},
    "ppo, shared trunk": {"method": {"value_trunk": "shared"}},
    "rloo": {"preset": "rloo"},
    "deepseek-grpo": {"preset": "deepseek-grpo"},
    "dr-grpo": {"preset": "dr-grpo", "method": {"reduction": {"tokens": 6}}},
    "dapo": {"preset": "dapo", "sampler": {"resample": 2}, "shaping": {"missing_eos": "keep", "overlong": "none"}, "minibatches": 2},
    "gspo": {"preset": "gspo", "minibatches": 1},
    "reinforce-pp": {"preset": "reinforce-pp"},
    "cispo": {"method": {"advantage": "group_relative", "objective": "cispo"}},
    "reinforce": {"method": {"advantage": "batch_mean", "objective": "reinforce", "reduction": "sequence_sum"}},
    "online dpo": {"method": "online_dpo", "kl": {}},
    "online ipo": {"method": {"kind": "online_dpo", "objective": "ipo"}, "kl": {}},
    "raft": {"method": "raft", "kl": {}},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_what_is_rewarded(name: str, data: Path, tmp_path: Path) -> None:
    sizes = {"samples_per_prompt": 4, "prompts_per_iteration": 8, "optimizer": {"lr": 0.01, "warmup": 0.0, "decay": "constant"}}
    _, rows = trained(configured(data, **{**sizes, **METHODS[name]}), tmp_path)
    assert len(rows) == ITERATIONS
    assert rows[0]["kl/mean"] == pytest.approx(0, abs=1e-4)
    if "first_log_ratio/max" in rows[0]:
        assert max(row["first_log_ratio/max"] for row in rows) < 1e-4
        assert rows[0]["first_ratio/mean"] == pytest.approx(1, abs=1e-4)
    assert gain(rows) > 1.6
    assert rows[-1]["kl_k3/mean"] > 1


def test_a_preset_is_the_method_it_names(data: Path) -> None:
    stage = configured(data, preset="deepseek-grpo", kl={}, samples_per_prompt=4)
    settings = dump_config(stage)
    assert settings["method"]["advantage"] == {"kind": "group_relative", "scale": "group"}
    assert settings["method"]["reduction"] == {"kind": "sequence_mean"}
    assert (settings["kl"]["estimator"], settings["kl"]["place"], settings["kl"]["control"]["coef"]) == ("k3", "loss", 0.04)
    assert settings["samples_per_prompt"] == 4
    assert read_config(Online, Settings(settings, {(): "here"})) == stage


@pytest.mark.parametrize(
    "changed",
    [
        {
            **PPO,
            "rewards": {"letters": {**LETTERS, "normalise": True}, "none": {**NOTHING, "weight": 0.5}},
            "epochs_per_batch": 2,
            "minibatches": 2,
        },
        {"preset": "dapo", "sampler": {"resample": 1}, "minibatches": 2, "shaping": {"missing_eos": "keep", "overlong": "none"}},
        {"pretraining": {"data": "texts.jsonl", "mix": {"coef": 0.1}}, "kl": {"control": {"kind": "target_kl", "target": 1.0, "limit": 5}}},
        {"method": "online_dpo", "kl": {"control": {"kind": "budget_kl", "nats": 3.0}}, "iterations": 12, "optimizer": SLOW},
    ],
)
def test_killed_and_resumed_it_ends_as_a_straight_run(
    changed: Mapping[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    stage = configured(data, **{"iterations": 3, "prompts_per_iteration": 4, "samples_per_prompt": 4, **changed})
    straight, rows = trained(stage, tmp_path / "straight")
    resumed, again = killed_and_resumed(stage, tmp_path / "killed", 1, monkeypatch)
    assert again == rows
    assert alike(weights(resumed), weights(straight))


def test_a_budget_of_kl_stops_the_run_and_keeps_the_weights_within_it(data: Path, tmp_path: Path) -> None:
    free = {"optimizer": SLOW, "iterations": 12}
    run, rows = trained(
        configured(data, **free, kl={"control": {"kind": "budget_kl", "nats": 1.0, "price": {"coef": 0.0}}}), tmp_path / "budget"
    )
    assert 2 < len(rows) < 12
    assert rows[-1]["kl/mean"] > 1.0 > max(row["kl/mean"] for row in rows[:-1])
    assert "loss/mean" not in rows[-1]
    summary = json.loads((run.directory / "summary.json").read_text())
    assert summary["is_spent"]
    # The weights of an iteration within the budget are those that all iterations before it had made.
    assert summary["budget_step"] <= len(rows) - 2
    shorter, _ = trained(
        configured(data, optimizer=SLOW, kl={"control": {"coef": 0.0}}, iterations=summary["budget_step"]), tmp_path / "shorter"
    )
    assert alike(weights(run), weights(shorter))


def test_completions_without_an_end_that_are_masked_teach_nothing(data: Path, tmp_path: Path) -> None:
    run, rows = trained(configured(data, shaping={"missing_eos": "mask"}, sampling={"max_tokens": 1}, iterations=1), tmp_path)
    assert rows[0]["eos/share"] < 0.5
    assert rows[0]["refusals/share"] == 0
    run, rows = trained(configured(data, shaping={"missing_eos": "mask"}, sampling={"max_tokens": 1}, iterations=1, limit=1,
                                   prompts_per_iteration=1, samples_per_prompt=2), tmp_path / "none")  # fmt: skip
    assert rows[0]["eos/share"] == 0
    assert "loss/mean" not in rows[0]
    assert alike(weights(run), stored(data / "base"))


def test_flat_prompts_are_sampled_anew_until_none_is_left_to_try(data: Path, tmp_path: Path) -> None:
    wordy = called_here("wordy")
    _, rows = trained(
        configured(data, sampler={"resample": 3}, iterations=2, samples_per_prompt=2, rewards={"wordy": wordy}), tmp_path / "some"
    )
    assert all(row["flat_groups/share"] == 0 for row in rows)
    assert all(row["resampled/count"] >= 1 for row in rows)
    with pytest.raises(TrainingError, match="got the same reward, 3 times"):
        trained(configured(data, sampler={"resample": 2}, iterations=1, rewards={"nothing": NOTHING}), tmp_path / "none")


def test_texts_mixed_in_are_learned_while_rewards_say_nothing(data: Path, tmp_path: Path) -> None:
    mix = {"data": str(data / "texts.jsonl"), "documents_per_step": 4, "mix": {"coef": 1.0}}
    _, rows = trained(configured(data, rewards={"nothing": NOTHING}, pretraining=mix, method={"advantage": "batch_mean"}), tmp_path)
    assert rows[-1]["pretraining_nll/mean"] < 0.5 * rows[0]["pretraining_nll/mean"]


def test_a_reward_model_of_another_tokenizer_scores_texts(data: Path, tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3", byte_tokenizer()), ("overall",), seed=0).save(tmp_path / "strange")
    run, rows = trained(configured(data, rewards={}, reward=str(tmp_path / "strange"), iterations=1, **PPO), tmp_path / "runs")
    assert rows[0]["score_overall/mean"] == pytest.approx(rows[0]["score/mean"])
    value = load_scalar(run.directory / "value")
    assert value.tokenizer.get_vocab() == word_tokenizer().get_vocab()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("base_dtype", [None, pytest.param("nf4", marks=needs_bitsandbytes)])
def test_under_adapters_four_roles_hold_one_base(dtype: str, rank: int, base_dtype: str | None, data: Path, tmp_path: Path) -> None:
    reward = scalar_from(str(data / "base"), ("overall",), seed=0).with_adapter(LoRA(rank=4), str(data / "base"), seed=3)
    with torch.no_grad():
        for p in reward.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    reward.save(tmp_path / "reward")
    adapters = {"rank": rank, "base_dtype": base_dtype}
    stage = configured(data, rewards={}, reward=str(tmp_path / "reward"), iterations=1, adapters=adapters, dtype=dtype, **PPO)
    run = open_run(tmp_path / "run", RunPlan("online", "online", seed=1))
    loop = Loop(stage, run)
    value, (scorer,) = loop.learner.modules["value"], loop.rewards.models.values()
    modules = (loop.policy.module, loop.reference.module, scorer.model.module, value)
    addresses = [{p.data_ptr() for p in module.base_model.parameters() if not p.requires_grad} for module in modules]
    if rank == 4:  # the value model goes on from the reward model's adapter
        assert addresses[0] == addresses[1] == addresses[3]
        assert addresses[0] < addresses[2]
    else:  # it starts from the reward model as a whole
        assert addresses[0] < addresses[2]
        assert addresses[0] != addresses[3]
    batch = pack(random_trees([(5, [3, 1])], 20, seed=5))
    if base_dtype is None:
        expected = load_scalar(tmp_path / "reward")
        torch.testing.assert_close(scorer.model.scores(batch), expected.scores(batch), rtol=0, atol=1e-5 if dtype == "float32" else 0.1)
    else:
        assert all(len(four_bit_layers(module)) == 14 for module in modules)
    assert loop.iterate()["online/loss/mean"] != 0
    loop.finish()
    loop.algorithm.save(run, loop.learner)
    assert load_scalar(run.directory / "value").heads == ("value",)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rewards": {}}, "needs a reward"),
        ({"reward": "somewhere"}, "and not both"),
        ({"sampling": {"top_p": 0.9}}, "top_p and sampling.min_p cut the distribution"),
        ({"method": "raft", "samples_per_prompt": 1, "kl": {}}, "nothing is chosen"),
        ({"method": "online_dpo", "samples_per_prompt": 1, "kl": {}}, "samples_per_prompt to 2"),
        ({"method": "online_dpo"}, "does not pay for KL"),
        ({"preset": "rloo", "samples_per_prompt": 1}, "samples_per_prompt to 2"),
        ({"preset": "rlo"}, "Did you mean 'rloo'"),
    ],
)
def test_settings_that_contradict_each_other(changed: Mapping[str, Any], message: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(data, **changed).check()


def test_the_best_and_the_worst_are_found_where_they_differ() -> None:
    nan = float("nan")
    assert best_and_worst(torch.tensor([1.0, 3.0, nan, 0.5]), 0.0) == (1, 3)
    assert best_and_worst(torch.tensor([1.0, 1.0]), 0.0) is None
    assert best_and_worst(torch.tensor([1.0, 1.4]), 0.5) is None
    assert best_and_worst(torch.tensor([nan, 1.4]), 0.0) is None
    assert top_k(torch.tensor([1.0, 3.0, nan, 3.0]), 2, None) == [1, 3]
    assert top_k(torch.tensor([1.0, 3.0, nan, 0.5]), 3, 1.0) == [1, 0]
    assert top_k(torch.tensor([nan, 0.0]), 3, 1.0) == []


def test_the_command_line_takes_presets(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"online --model {data / 'base'} --prompts {data / 'prompts.jsonl'} --preset rlo"
    assert main(words.split()) == 2
    assert "Did you mean 'rloo'" in capsys.readouterr().err


def test_asynchronous_sampling_is_one_iteration_behind_and_resumes_exactly(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = configured(data, sampler={"asynchronous": 1}, iterations=5)
    straight, rows = trained(stage, tmp_path / "straight")
    assert [row["staleness/mean"] for row in rows] == [0, *[1] * 4]
    assert rows[1]["kl/mean"] == pytest.approx(0, abs=1e-4)  # drawn before anything was learned
    assert rows[2]["kl/mean"] > 0.1
    assert gain(rows) > 1.6
    resumed, again = killed_and_resumed(stage, tmp_path / "killed", 2, monkeypatch)
    assert again == rows
    assert alike(weights(resumed), weights(straight))


@pytest.mark.parametrize("adapters", [None, {"rank": 4}])
def test_in_bfloat16_it_learns_and_leaves_float32_weights(adapters: object, data: Path, tmp_path: Path) -> None:
    run, rows = trained(configured(data, dtype="bfloat16", adapters=adapters, optimizer={**SLOW, "lr": 0.02}), tmp_path)
    assert max(row["first_log_ratio/max"] for row in rows) > 1e-6  # another rounding than the sampler's
    assert gain(rows) > 1.3
    assert {value.dtype for value in weights(run).values()} == {torch.float32}


def test_the_weights_with_the_best_held_out_reward_within_a_budget_are_kept(data: Path, tmp_path: Path) -> None:
    held = {"held_out": {"prompts": str(data / "prompts.jsonl"), "limit": 6}, "keep": {"kind": "best_reward", "kl_budget": 8.0}}
    run, rows = trained(configured(data, **held), tmp_path / "best")
    within = [(row["held_out_reward/mean"], k) for k, row in enumerate(rows) if row["held_out_kl/mean"] <= 8]
    best = max(within)[1]
    assert 0 < len(within) < ITERATIONS
    summary = json.loads((run.directory / "summary.json").read_text())
    assert summary["best_step"] == best + 1
    shorter, _ = trained(configured(data, iterations=best + 1), tmp_path / "shorter")
    assert alike(weights(run), weights(shorter))


def test_a_held_out_reward_model_is_recorded_and_not_learned_from(data: Path, tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(tmp_path / "other")
    watched, rows = trained(configured(data, iterations=3, held_out={"reward": str(tmp_path / "other")}), tmp_path / "watched")
    assert all({"held_out_score/mean", "held_out_score/se"} <= row.keys() for row in rows)
    alone, _ = trained(configured(data, iterations=3), tmp_path / "alone")
    assert alike(weights(watched), weights(alone))


@pytest.mark.parametrize("sampler", [{"correction": {}}, {"correction": {"limit": 1.5}, "asynchronous": 1}])
def test_what_the_sampler_says_is_corrected_to_the_learner_s_numbers(sampler: object, data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, dtype="bfloat16", sampler=sampler, optimizer={**SLOW, "lr": 0.02}), tmp_path)
    assert max(row["first_log_ratio/max"] for row in rows) < 1e-2  # ratios are against the learner's own
    assert all(row["engine_gap/max"] > 0 for row in rows)
    assert all(abs(row["engine_ratio/mean"] - 1) < 0.5 for row in rows)
    assert gain(rows) > 1.3


def test_resampling_keeps_the_columns_of_a_correction_in_place(data: Path, tmp_path: Path) -> None:
    wordy = called_here("wordy")
    sampler = {"resample": 3, "correction": {}}
    _, rows = trained(configured(data, sampler=sampler, iterations=2, samples_per_prompt=2, rewards={"wordy": wordy}), tmp_path)
    assert max(row["first_log_ratio/max"] for row in rows) < 1e-4
    assert max(row["engine_gap/max"] for row in rows) < 1e-4
