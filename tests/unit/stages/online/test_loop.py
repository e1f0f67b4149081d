"""The wiring of the online loop: orders of prompts and units, prices of KL, guards, held-out measurements, what is recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core import ConfigError, Interrupted, TrainingError
from palate.data.jsonl import read_rows, write_rows
from palate.models.heads import head_of
from palate.models.scalar import load_scalar, scalar_from
from palate.objectives.reduce import Sums
from palate.rewards.learned import ReportCard
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.stages.online.algorithm import TrainingBatch
from palate.testing import tiny_policy, word_tokenizer
from palate.training import checkpoints
from tests.unit.stages.online.toy import (
    LETTERS,
    NOTHING,
    PPO,
    alike,
    called_here,
    configured,
    killed_and_resumed,
    started,
    summary,
    trained,
    weights,
)

STILL: Mapping[str, Any] = {"lr": 1e-12, "warmup": 0.0, "decay": "constant"}
"""Weights that never move: what is sampled differs by its seed alone."""


def rewarded(name: str) -> dict[str, Any]:
    return {name: {**LETTERS, "function": f"tests.unit.stages.online.rewarding:{name}"}}


class Units:
    """A batch of units with nothing to learn, which remembers the units that were asked for."""

    metrics: Mapping[str, float] = {}

    def __init__(self, units: int) -> None:
        self.units = units
        self.chosen: list[list[int]] = []

    def microbatches(self, units: Sequence[int]) -> list[int]:
        self.chosen.append(list(units))
        return []

    def count(self, microbatch: int) -> float:
        raise AssertionError("there is no micro-batch")

    def losses(self, microbatch: int) -> Sequence[Callable[[], Sums]]:
        raise AssertionError("there is no micro-batch")


def test_every_epoch_takes_all_units_once_in_a_new_order(data: Path, tmp_path: Path) -> None:
    loop = started(configured(data, epochs_per_batch=3, minibatches=2), tmp_path)
    orders = []
    for iteration in range(2):
        batch = Units(8)
        loop.iteration = iteration
        loop.learn(batch)
        assert [len(chosen) for chosen in batch.chosen] == [4] * 6
        epochs = [[*batch.chosen[k], *batch.chosen[k + 1]] for k in range(0, 6, 2)]
        assert all(sorted(order) == list(range(8)) for order in epochs)
        orders += epochs
    assert len({tuple(order) for order in orders}) == 6


def test_prompts_come_once_an_epoch_in_a_new_order_each(data: Path, tmp_path: Path) -> None:
    loop = started(configured(data), tmp_path)
    epochs = [[k for _ in range(3) for k in loop.prompt(3)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert loop.prompts_taken == 27
    assert loop.prompts_from(9, 9) == epochs[1]


@pytest.mark.parametrize(("dtype", "shift", "is_refused"), [("float32", 0.05, True), ("bfloat16", 0.8, True), ("bfloat16", 0.05, False)])
def test_a_sampler_that_disagrees_with_the_learner_stops_the_run(
    dtype: str, shift: float, is_refused: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = LocalSampler.generate

    def shifted(self: LocalSampler, *given: Any) -> Any:
        return [[replace(one, logps=tuple(x - shift for x in one.logps)) for one in group] for group in generate(self, *given)]

    monkeypatch.setattr(LocalSampler, "generate", shifted)
    stage = configured(data, iterations=1, dtype=dtype)
    if not is_refused:
        trained(stage, tmp_path)
        return
    with pytest.raises(TrainingError, match="iteration 0: sampler and learner disagree by up to .* nats per token before any update"):
        trained(stage, tmp_path)


def test_what_the_first_step_finds_is_recorded_and_not_what_the_last_one_does(data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, iterations=1, epochs_per_batch=2, minibatches=2), tmp_path)
    assert rows[0]["first_log_ratio/max"] < 1e-4 < rows[0]["log_ratio/max"]


def test_a_high_price_holds_the_policy_to_the_reference_wherever_it_is_paid(data: Path, tmp_path: Path) -> None:
    def last(name: str, coef: float, **kl: Any) -> float:
        stage = configured(data, kl={**kl, "control": {"coef": coef}}, method={"advantage": "leave_one_out"}, iterations=4)
        return trained(stage, tmp_path / name)[1][-1]["kl_k3/mean"]

    free = last("free", 0.0)
    assert last("reward", 10.0) < 0.5 * free
    assert last("loss", 10.0, estimator="k3", place="loss") < 0.5 * free


def test_the_price_follows_the_kl_and_what_is_recorded_is_what_was_paid(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = configured(data, kl={"control": {"kind": "target_kl", "target": 0.5, "init_coef": 0.1}}, iterations=4)
    loop = started(stage, tmp_path)
    paid: list[float] = []
    batch = loop.algorithm.batch

    def credit(scored: Any, kl_coef: float) -> TrainingBatch[Any]:
        paid.append(kl_coef)
        credited: TrainingBatch[Any] = batch(scored, kl_coef)
        return credited

    monkeypatch.setattr(loop.algorithm, "batch", credit)
    rows = [loop.iterate() for _ in range(4)]
    assert paid == [row["online/kl_coef/value"] for row in rows]
    assert paid[0] == 0.1
    assert paid[1] < paid[0]  # nothing was learned yet: below the target
    assert paid[3] > paid[2]  # and then too much was
    loop.finish()


def test_the_learning_rate_falls_over_all_optimizer_steps(data: Path, tmp_path: Path) -> None:
    falling = {"lr": 1e-3, "warmup": 0.0, "decay": "linear"}
    _, rows = trained(configured(data, iterations=2, epochs_per_batch=2, minibatches=2, optimizer=falling), tmp_path)
    assert [row["learning_rate/value"] for row in rows] == pytest.approx([1e-3 * 5 / 8, 1e-3 / 8])


def test_what_cannot_be_scored_is_left_out_and_too_much_of_it_stops_the_run(data: Path, tmp_path: Path) -> None:
    settings = {"rewards": rewarded("half"), "prompts_per_iteration": 9, "optimizer": STILL, "iterations": 1}
    _, rows = trained(configured(data, reward_requirements={"max_failed": 0.6}, **settings), tmp_path / "some")
    assert rows[0]["unscored_half/share"] == pytest.approx(5 / 9)  # five of nine prompts ask for salt
    assert rows[0]["score/mean"] == pytest.approx(rows[0]["score_half/mean"])
    with pytest.raises(TrainingError, match=r"could not score 20 of 36 completions \(56%; max_failed allows 50%\)"):
        trained(configured(data, reward_requirements={"max_failed": 0.5}, **settings), tmp_path / "none")


def test_a_reward_model_is_trained_on_only_when_its_card_says_enough(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0)
    for name in ("weak", "good", "unknown"):
        model.save(tmp_path / name)
    ReportCard(0.51, 1000, 1.0, 0.5).write(tmp_path / "weak")
    ReportCard(0.8, 1000, 1.0, 0.5).write(tmp_path / "good")

    def run(name: str, **settings: Any) -> Run:
        stage = configured(data, rewards={}, reward=str(tmp_path / name), iterations=1, optimizer=STILL, **settings)
        return trained(stage, tmp_path / "runs" / name)[0]

    with pytest.raises(TrainingError, match=r"near chance: accuracy 0\.510"):
        run("weak")
    with pytest.raises(TrainingError, match=r"needed: 0\.9"):
        run("good", reward_requirements={"min_accuracy": 0.9})
    with pytest.raises(TrainingError, match="2.0 needed"):
        run("good", reward_requirements={"min_spread": 2.0})
    capsys.readouterr()
    assert summary(run("good"))["report_cards"]["reward"]["accuracy"] == 0.8
    assert "has no report_card.json" not in capsys.readouterr().err
    assert summary(run("unknown"))["report_cards"] == {}
    assert "has no report_card.json" in capsys.readouterr().err


def test_the_value_model_that_is_kept_has_learned(data: Path, tmp_path: Path) -> None:
    run, rows = trained(configured(data, iterations=2, **PPO), tmp_path)
    assert all(row["value_error/mean"] > 0 for row in rows)
    assert float(head_of(load_scalar(run.directory / "value").module).weight.detach().abs().max()) > 0  # it began at 0


def held_out(data: Path, folder: Path, **settings: Any) -> dict[str, Any]:
    """Settings that look for the best weights on prompts of their own, of which all ask for rice, as none of the others does."""
    for name, wanted in (("own", True), ("others", False)):
        rows = [line for line in (data / "prompts.jsonl").read_text().splitlines() if ("rice" in line) is wanted]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    keep = {"keep": {"kind": "best_reward"}, "held_out": {"prompts": str(folder / "own.jsonl"), **settings.pop("held_out", {})}}
    return {"prompts": str(folder / "others.jsonl"), "prompts_per_iteration": 4, **keep, **settings}


def test_held_out_prompts_are_measured_the_same_way_every_time_and_patience_ends_the_search(data: Path, tmp_path: Path) -> None:
    settings = held_out(data, tmp_path, rewards={"riced": called_here("riced")}, optimizer=STILL, method={"advantage": "batch_mean"})
    patient = {**settings, "keep": {"kind": "best_reward", "patience": 2}}
    run, rows = trained(configured(data, **patient), tmp_path / "runs")
    assert [row["held_out_reward/mean"] for row in rows] == [1.0] * 3  # the first is the best, two found nothing better
    assert {row["score/mean"] for row in rows} == {0.0}
    assert summary(run)["best_step"] == 1
    letters = {**patient, "rewards": {"letters": LETTERS}}
    _, rows = trained(configured(data, **letters), tmp_path / "letters")
    assert len({row["held_out_reward/mean"] for row in rows}) == 1
    assert len({row["score/mean"] for row in rows}) == len(rows) == 3


def test_held_out_rewards_are_shaped_and_those_of_the_held_out_model(data: Path, tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(tmp_path / "other")
    short = {"sampling": {"max_tokens": 1}, "shaping": {"missing_eos": {"kind": "replace", "reward": -7.0}}, "iterations": 1}
    settings = held_out(data, tmp_path, rewards={"nothing": NOTHING}, optimizer=STILL, method={"advantage": "batch_mean"})
    _, rows = trained(configured(data, **{**settings, **short}), tmp_path / "cut")
    assert rows[0]["held_out_reward/mean"] < -3
    assert rows[0]["reward/mean"] < -3
    assert rows[0]["score/mean"] == 1.0
    _, plain = trained(configured(data, **settings, iterations=1), tmp_path / "plain")
    assert plain[0]["held_out_reward/mean"] == 1.0
    other = {**settings, "held_out": {**settings["held_out"], "reward": str(tmp_path / "other")}}
    _, rows = trained(configured(data, **other, iterations=1), tmp_path / "by")
    assert rows[0]["held_out_reward/mean"] != 1.0
    assert rows[0]["score/mean"] == 1.0


def test_searching_for_the_best_changes_no_iteration_and_is_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    normal = {"letters": {**LETTERS, "normalise": True}}
    settings = held_out(data, tmp_path, rewards=normal, iterations=4, method={"advantage": "leave_one_out"})
    first = {**settings, "keep": {"kind": "best_reward", "kl_budget": 1e-3}}  # nothing but the first is near it
    watched, rows = trained(configured(data, **first), tmp_path / "watched")
    plain = {name: value for name, value in settings.items() if name not in ("keep", "held_out")}
    _, alone = trained(configured(data, **plain), tmp_path / "alone")
    kept = [{name: value for name, value in row.items() if not name.startswith("held_out_")} for row in rows]
    assert kept == alone
    assert summary(watched)["best_step"] == 1
    assert summary(watched)["best_held_out_kl"] < rows[-1]["held_out_kl/mean"]
    resumed, again = killed_and_resumed(configured(data, **first), tmp_path / "killed", 2, monkeypatch)
    assert again == rows
    assert summary(resumed) == summary(watched)
    assert alike(weights(resumed), weights(watched))


def test_warnings_of_a_resumed_run_are_those_of_a_straight_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = configured(data, iterations=6, guards={"kl": {"warn": -1.0, "patience": 4}, "length": {"warn": 0.0, "patience": 1}})
    straight, _ = trained(stage, tmp_path / "straight")
    resumed, _ = killed_and_resumed(stage, tmp_path / "killed", 3, monkeypatch)
    found = [[row for _, row in read_rows(run.directory / "warnings.jsonl")] for run in (straight, resumed)]
    assert [(row["step"], row["guard"]) for row in found[0] if row["guard"] in ("kl", "length")] == [(3, "length"), (3, "kl")][::-1]
    assert found[0] == found[1]


def test_interrupted_after_its_last_iteration_it_has_the_same_summary(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = configured(data, iterations=2, kl={"control": {"kind": "target_kl", "target": 1.0}})
    straight, rows = trained(stage, tmp_path / "straight")

    def stopped(run: Run) -> None:
        if len(run.logged()) == 2:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
        patch.setattr(Run, "check_stop", stopped)
        with pytest.raises(Interrupted):
            trained(stage, tmp_path / "late")
    late, again = trained(stage, tmp_path / "late")
    assert again == rows
    assert summary(late) == summary(straight)
    assert summary(late)["iterations"] == 2
    assert summary(late)["last"]["score/mean"] == rows[-1]["score/mean"]
    assert alike(weights(late), weights(straight))


def test_gold_is_recorded_beside_the_score(data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, iterations=1, gold="tests.unit.stages.online.golden:dimensions"), tmp_path)
    assert rows[0]["gold/mean"] == pytest.approx(rows[0]["score/mean"] / 2)
    assert rows[0]["gold/se"] > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"minibatches": 9}, "minibatches 9 exceeds prompts_per_iteration 8"),
        ({"sampling": {"temperature": 0.0}}, "temperature must be above 0"),
        ({"sampling": {"top_k": 5}}, "cut the distribution"),
        ({"sampling": {"min_p": 0.1}}, "cut the distribution"),
        ({"keep": {"kind": "best_reward"}}, "held_out.prompts need each other"),
        ({"held_out": {"prompts": "somewhere"}}, "held_out.prompts need each other"),
        ({"sampler": {"resample": 1, "asynchronous": 1}}, "sampling cannot be asynchronous"),
        ({"sampler": {"resample": 1}, "samples_per_prompt": 1}, "one completion always has: set samples_per_prompt to 2"),
        ({"shaping": {"overlong": {"kind": "soft_overlong", "max_tokens": 64}}}, "more than 48 tokens, and sampling.max_tokens is 6"),
    ],
)
def test_settings_that_contradict_each_other(changed: Mapping[str, Any], message: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(data, **changed).check()


def test_gold_that_fails_on_a_completion_costs_no_more_than_that(data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, iterations=1, gold="tests.unit.stages.online.golden:saltless"), tmp_path)
    assert 0 < rows[0]["unscored_gold/share"] < 1
    assert rows[0]["gold/mean"] > 0
    _, rows = trained(configured(data, iterations=1, gold="tests.unit.stages.online.golden:nothing"), tmp_path / "none")
    assert rows[0]["unscored_gold/share"] == 1
    assert "gold/mean" not in rows[0]


@pytest.mark.parametrize(
    ("changed", "is_measured"),
    [
        ({"method": {"advantage": "leave_one_out"}}, True),
        ({"method": {"advantage": "leave_one_out"}, "rewards": {"nothing": NOTHING}}, True),
        ({"method": {"advantage": "batch_mean"}, "rewards": {"nothing": NOTHING}}, False),
        ({"method": {"advantage": "batch_mean"}, "samples_per_prompt": 1}, False),
    ],
)
def test_flat_groups_are_measured_where_completions_of_a_prompt_are_compared(changed, is_measured, data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, iterations=1, **changed), tmp_path)
    assert ("flat_groups/share" in rows[0]) == is_measured
    if is_measured:
        assert (rows[0]["flat_groups/share"] == 1) == ("rewards" in changed)


def test_lengths_that_are_left_open_follow_the_longest_completion(data: Path, tmp_path: Path) -> None:
    loop = started(configured(data, preset="dapo", sampling={"max_tokens": 12}, prompts_per_iteration=16, shaping={}), tmp_path / "dapo")
    assert (loop.shaping.overlong.max_tokens, loop.shaping.overlong.buffer) == (12, 3)
    assert loop.shaping.overlong(torch.tensor([9, 12])).tolist() == [0, -1]
    method = {"advantage": "leave_one_out", "reduction": "constant_length"}
    open_, given = (
        trained(configured(data, iterations=1, method={**method, "reduction": {"kind": "constant_length", **tokens}}), tmp_path / name)[1]
        for name, tokens in (("open", {}), ("given", {"tokens": 6}))
    )
    assert open_ == given


def test_texts_mixed_in_go_on_from_step_to_step(data: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in ("for two guests", "the salt has rice today")])
    mix = {"data": str(tmp_path / "texts.jsonl"), "documents_per_step": 1, "mix": {"coef": 1.0}}
    settings = {"rewards": {"nothing": NOTHING}, "method": {"advantage": "batch_mean"}, "optimizer": STILL, "iterations": 2}
    _, rows = trained(configured(data, pretraining=mix, **settings), tmp_path / "runs")
    assert rows[0]["pretraining_nll/mean"] != pytest.approx(rows[1]["pretraining_nll/mean"], rel=1e-3)
