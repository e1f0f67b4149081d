"""What algorithms learn from: advantages, pairs and imitated completions stand beside the tokens that they belong to."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.core import Completion, ConfigError, Message, Prompt
from palate.data.jsonl import write_rows
from palate.models.causal import CausalPolicy
from palate.objectives.advantages import GroupDecoupled, GroupRelative, LeaveOneOut, RewardParts
from palate.objectives.importance import TruncatedImportance
from palate.objectives.kl import FixedKL, KLPenalty
from palate.objectives.shaping import Shaping
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.online.algorithm import AlgorithmContext
from palate.stages.online.online_dpo import OnlineDPO
from palate.stages.online.policy_gradient import PolicyGradient
from palate.stages.online.pretraining import Pretraining, Texts
from palate.stages.online.raft import RAFT
from palate.stages.online.rollouts import Rollouts, Scored
from palate.stages.online.stage import Online
from palate.testing import tiny_policy, word_tokenizer
from tests.unit.stages.online.toy import alike, configured, stored, trained, weights

NAN = math.nan
ONLY_TOKENS = 12
"""So few tokens a micro-batch that each tree has one of its own."""


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return tiny_policy("qwen3", word_tokenizer())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path, RunPlan("online", "online", seed=1))


def context(run: Run, policy: CausalPolicy, **changed: Any) -> AlgorithmContext:
    def no_value_model() -> Any:
        raise AssertionError("nothing needs a value model here")

    settings: dict[str, Any] = {"kl": KLPenalty(), "temperature": 1.0, "tokens_per_microbatch": ONLY_TOKENS, "correction": None, **changed}
    return AlgorithmContext(run=run, policy=policy, value_model=no_value_model, dtype="float32", max_tokens=3, **settings)


def rollouts() -> Rollouts:
    """Three prompts with three completions each, of one to three tokens; every token has a log-probability of its own."""
    prompts = [Prompt(f"p{k}", (Message("text", "the cook"),)) for k in range(3)]
    logps = [[tuple(-(t + 0.1 * c + 0.01 * n + 0.1) for n in range(c + 1)) for c in range(3)] for t in range(3)]
    groups = tuple(tuple(Completion("text", tuple(range(5, 5 + len(one))), one) for one in group) for group in logps)
    return Rollouts(tuple(prompts), ((3, 4),) * 3, groups)


REWARDS = [1.0, 2.0, 6.0, 5.0, 5.0, 5.0, 4.0, NAN, 0.0]


def scored(sampled: Rollouts, rewards: list[float] = REWARDS, off: float | None = None) -> Scored:
    tensor = torch.tensor(rewards)
    return Scored(sampled, sampled.logps - 0.5, tensor, tensor, None, None if off is None else sampled.logps + off)


def test_each_completion_is_compared_with_those_of_its_own_prompt(run: Run, policy: CausalPolicy) -> None:
    batch = PolicyGradient(advantage=LeaveOneOut()).algorithm(context(run, policy)).batch(scored(rollouts()), 0.0)
    assert batch.units == 3
    (first,), (second,), (third,) = (batch.microbatches([k]) for k in range(3))
    lengths = torch.tensor([1, 2, 3])
    assert torch.equal(first.advantages, torch.tensor([1 - 4.0, 2 - 3.5, 6 - 1.5]).repeat_interleave(lengths))
    assert not second.advantages.any()
    assert torch.equal(third.advantages[third.mask], torch.tensor([4.0, 0.0 - 4.0]).repeat_interleave(torch.tensor([1, 3])))
    assert third.mask.tolist() == [True, False, False, True, True, True]
    both = batch.microbatches([2, 0])
    assert torch.equal(torch.cat([part.advantages for part in both]), torch.cat([third.advantages, first.advantages]))
    assert torch.equal(torch.cat([part.logps for part in both]), torch.cat([rollouts().logps[12:], rollouts().logps[:6]]))


def test_parts_of_a_reward_are_normalised_apart(run: Run, policy: CausalPolicy) -> None:
    given = scored(rollouts())
    parts = RewardParts(torch.stack([given.rewards / 4, given.rewards * 3 / 4], 1), torch.ones(9, 2))
    batch = PolicyGradient(advantage=GroupDecoupled()).algorithm(context(run, policy)).batch(replace(given, parts=parts), 0.0)
    alike = PolicyGradient(advantage=GroupRelative()).algorithm(context(run, policy)).batch(given, 0.0)
    first, second = (one.microbatches([0])[0].advantages.unique() for one in (batch, alike))
    spacing = [(column[2] - column[1]) / (column[1] - column[0]) for column in (first, second)]
    assert float(spacing[0]) == pytest.approx(float(spacing[1]), rel=1e-3)


@pytest.mark.parametrize(
    ("kl", "shaping", "told"),
    [
        (KLPenalty(), Shaping(), "a price of KL in the reward would lose its size: set kl.place to loss"),
        (KLPenalty(control=FixedKL(coef=0.0)), Shaping(whiten=True), "leave out shaping.whiten"),
    ],
)
def test_what_would_be_normalised_away_is_refused(kl: KLPenalty, shaping: Shaping, told: str) -> None:
    method = PolicyGradient(advantage=GroupDecoupled())
    with pytest.raises(ConfigError, match=told):
        Online(model="m", prompts="p", reward="r", method=method, kl=kl, shaping=shaping).check()
    for fine in (KLPenalty(place="loss", estimator="k3"), KLPenalty(control=FixedKL(coef=0.0))):
        Online(model="m", prompts="p", reward="r", method=method, kl=fine).check()


def test_the_price_of_kl_is_taken_off_the_reward(run: Run, policy: CausalPolicy) -> None:
    algorithm = PolicyGradient(advantage=LeaveOneOut()).algorithm(context(run, policy))
    free, dear = (algorithm.batch(scored(rollouts()), coef).microbatches([1])[0] for coef in (0.0, 2.0))
    # Each token costs 2 x 0.5; completions have 1, 2 and 3 of them.
    assert dear.advantages - free.advantages == pytest.approx(torch.tensor([1.5, 0, 0, -1.5, -1.5, -1.5]))


def test_a_correction_weighs_tokens_and_takes_the_learners_numbers(run: Run, policy: CausalPolicy) -> None:
    method = PolicyGradient(advantage=LeaveOneOut())
    plain = method.algorithm(context(run, policy)).batch(scored(rollouts(), off=0.25), 0.0).microbatches([0])[0]
    assert torch.equal(plain.logps, rollouts().logps[:6])  # no correction is set
    batch = method.algorithm(context(run, policy, correction=TruncatedImportance(limit=2.0))).batch(scored(rollouts(), off=0.25), 0.0)
    (part,) = batch.microbatches([0])
    assert part.logps == pytest.approx(rollouts().logps[:6] + 0.25)
    assert part.advantages == pytest.approx(plain.advantages * math.exp(0.25))
    assert batch.metrics["engine_ratio/mean"] == pytest.approx(math.exp(0.25))
    far = method.algorithm(context(run, policy, correction=TruncatedImportance(limit=2.0))).batch(scored(rollouts(), off=3.0), 0.0)
    assert far.microbatches([0])[0].advantages == pytest.approx(plain.advantages * 2.0)


def test_only_pairs_that_are_far_enough_apart_are_learned(run: Run, policy: CausalPolicy) -> None:
    for gap, units in ((0.0, 2), (4.5, 1), (5.0, 0)):
        batch = OnlineDPO(min_gap=gap).algorithm(context(run, policy)).batch(scored(rollouts()), 0.0)
        assert (batch.units, batch.metrics) == (units, {"pairs/share": units / 3})
    batch = OnlineDPO().algorithm(context(run, policy)).batch(scored(rollouts()), 0.0)
    (part,) = batch.microbatches([1])  # of the third prompt: its first completion (one token) beats its third (three tokens)
    assert part.batch.margin.tolist() == [4.0]
    assert [len(branch.ids) for tree in part.batch.trees.trees for branch in tree.branches] == [1, 3]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_before_anything_is_learned_a_pair_costs_log_2(temperature: float, data: Path, tmp_path: Path) -> None:
    stage = configured(data, method="online_dpo", kl={}, iterations=1, sampling={"max_tokens": 6, "temperature": temperature})
    _, rows = trained(stage, tmp_path)
    assert rows[0]["loss/mean"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_best_completions_are_imitated_if_they_are_good_enough(run: Run, policy: CausalPolicy) -> None:
    def kept(count: int, min_reward: float | None) -> tuple[int, float, float]:
        batch = RAFT(top_k=count, min_reward=min_reward).algorithm(context(run, policy)).batch(scored(rollouts()), 0.0)
        tokens = sum(batch.count(part) for part in batch.microbatches(range(batch.units)))
        return batch.units, batch.metrics["kept/share"], tokens

    assert kept(1, None) == (3, pytest.approx(3 / 9), 3 + 1 + 1)
    assert kept(2, None) == (3, pytest.approx(6 / 9), (3 + 2) + (1 + 2) + (1 + 3))
    assert kept(2, 4.5) == (2, pytest.approx(3 / 9), 3 + (1 + 2))
    assert kept(2, 7.0) == (0, 0.0, 0)


def test_where_nothing_is_good_enough_nothing_is_learned(data: Path, tmp_path: Path) -> None:
    run, rows = trained(configured(data, method={"kind": "raft", "min_reward": 99.0}, kl={}, iterations=1), tmp_path)
    assert rows[0]["kept/share"] == 0
    assert "loss/mean" not in rows[0]
    assert alike(weights(run), stored(data / "base"))


def test_documents_mixed_in_come_so_many_a_step_and_each_once_an_epoch(run: Run, policy: CausalPolicy, tmp_path: Path) -> None:
    write_rows(tmp_path / "texts.jsonl", [{"text": "the" + " cook" * k} for k in range(1, 7)])
    texts = Texts(Pretraining(str(tmp_path / "texts.jsonl"), documents_per_step=3), run, policy, 1)
    with torch.no_grad():
        steps = [[loss().metrics["pretraining_nll"] for loss in texts.losses(step, 10.0)] for step in range(4)]
    sizes = [[int(tokens) for _, tokens in step] for step in steps]
    assert [len(step) for step in sizes] == [3] * 4
    epochs = [[*sizes[0], *sizes[1]], [*sizes[2], *sizes[3]]]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == 6
    assert sizes[:2] != sizes[2:]
    with torch.no_grad():
        one, two = (sum(float(loss().loss) for loss in texts.losses(0, total)) for total in (10.0, 20.0))
    assert two == pytest.approx(2 * one)
