"""The loss of each source: the parts add up to the whole for every objective, and each is that of its source alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from palate.config.types import kind_of
from palate.core import Completion, Demonstration, Message, Preference, Prompt
from palate.models.causal import CausalPolicy
from palate.models.scalar import scalar_from
from palate.objectives.direct import AOT, BCO, KTO, BCOPair, DirectObjective, Mixture
from palate.objectives.direct.dpo import DPO
from palate.objectives.reduce import Sums, Totals
from palate.objectives.reward_objectives import RewardObjective
from palate.objectives.supervised import CrossEntropy
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.testing import tiny_policy, word_tokenizer
from palate.text.spans import demonstration_tree
from palate.training.comparisons import JudgedPrompt, judged_prompts, overall
from palate.training.fit import measured
from palate.training.imitation import Imitation, trees_of
from palate.training.pairs import PairLossInputs
from palate.training.reference import FixedReference
from palate.training.reward_batches import RewardBatches
from palate.training.source_losses import statistics, told_apart
from palate.training.unpaired import UnpairedLossInputs, UnpairedSource, mismatched, rated_prompts, unpaired_of

SIDES = (" has rice", " has beans and salt", " today", " no", " make salt", " has salt")
SOURCES = ("few", "many", "few", "many", "x_max", "many", "many")
"""Prompts of three sources. The name of one ends as a metric does whose maximum is kept."""


def preferences() -> list[Preference]:
    """One to three preferences about each of seven prompts, by one rater or two."""
    found = []
    for k, (name, word) in enumerate(zip(SOURCES, ("rice", "salt", "beans", "water", "pot", "cook", "guests"), strict=True)):
        prompt = Prompt(f"q{k}", (Message("text", f"the {word}"),), source_name=name)
        for j in range(1 + k % 3):
            votes = tuple((rater, 1.0) for rater in ("ann", "bob")[: 1 + k % 2])
            chosen, rejected = Completion(SIDES[0]), Completion(SIDES[1 + (j + k) % 5])
            found.append(Preference(prompt, chosen, rejected, 0.9, weight=1.0 + k, votes=votes))
    return found


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return tiny_policy("qwen3", word_tokenizer())


def judged() -> list[JudgedPrompt]:
    prompts, reasons = judged_prompts(preferences(), word_tokenizer(), 100)
    assert not reasons
    return told_apart(overall(prompts))


def direct_of(cls: type, policy: CausalPolicy, tokens: int) -> tuple[Any, Any]:
    """An objective of `direct`, and its inputs, with a reference other than the policy."""
    reference = FixedReference(tiny_policy("qwen3", word_tokenizer(), seed=5))
    objective = Mixture(parts=(DPO(), AOT()), weights=(1.0, 0.5)) if cls is Mixture else cls()
    if not objective.is_unpaired:
        return objective, PairLossInputs(judged(), objective, "none", tokens, reference)
    rated = told_apart(rated_prompts(unpaired_of(preferences()), word_tokenizer(), 100)[0])
    others = UnpairedSource(mismatched(rated, 100, 1), tokens) if cls is KTO else None
    return objective, UnpairedLossInputs(UnpairedSource(rated, tokens), others, objective, reference)


def totals_of(inputs: Any, policy: CausalPolicy, indices: list[int]) -> Totals:
    totals = Totals()
    with torch.no_grad():
        for part in inputs.microbatches(policy, indices):
            totals.add(inputs.sums(part, inputs.logps(policy, part)))
    return totals


def whole_of(totals: Totals) -> dict[str, tuple[float, float]]:
    """Each sum and count, added up over the sources."""
    found: dict[str, tuple[float, float]] = {}
    for own in totals.by_source.values():
        for name, (value, count) in own._totals.items():
            before = found.get(name, (0.0, 0.0))
            found[name] = before[0] + float(value), before[1] + float(count)
    return found


def require_parts_of_the_whole(totals: Totals) -> None:
    assert set(totals.by_source) == {"few", "many", "x_max"}
    found = whole_of(totals)
    for name in ("loss", "accuracy"):
        value, count = totals._totals[name]
        assert found[name] == pytest.approx((float(value), float(count)), rel=1e-5), name


BY_STEP = {AOT, BCOPair, BCO, KTO, Mixture}
"""Objectives whose loss of a row depends on the whole step."""


@pytest.mark.parametrize("cls", get_args(DirectObjective), ids=kind_of)
def test_the_losses_of_sources_add_up_for_every_objective_of_direct(cls: type, policy: CausalPolicy) -> None:
    every = list(range(len(SOURCES)))
    found = []
    for tokens in (1, 1000):
        _, inputs = direct_of(cls, policy, tokens)
        totals = totals_of(inputs, policy, every)
        require_parts_of_the_whole(totals)
        found.append(statistics(totals))
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)
    assert {name for name in found[0] if "_of_" in name} == {
        f"{thing}_of_{name}/mean" for thing in ("loss", "accuracy") for name in ("few", "many", "x_max")
    }
    if cls not in BY_STEP:
        alone = statistics(totals_of(inputs, policy, [k for k in every if SOURCES[k] == "many"]))
        assert found[1]["loss_of_many/mean"] == pytest.approx(alone["loss/mean"], rel=1e-5)
        assert found[1]["loss_of_many/mean"] != pytest.approx(found[1]["loss_of_few/mean"], rel=1e-4) or cls.__name__ == "SPPO"


@pytest.mark.parametrize("cls", get_args(RewardObjective), ids=kind_of)
def test_the_losses_of_sources_add_up_for_every_objective_of_reward(cls: type) -> None:
    model = scalar_from(tiny_policy(), ("overall",), seed=0)
    prompts, _ = judged_prompts(preferences(), word_tokenizer(), 100)
    data = RewardBatches.of(cls(), told_apart(prompts), {})
    learned = data.learned(0.01)
    loss = data.loss(model, learned, lambda: 1.0)
    used = [prompt.source_name for prompt in data.judged]
    for tokens in (1, 1000):
        totals = Totals()
        for part in data.batches(("overall",), tokens)(list(range(len(used)))):
            totals.add(loss(part))
        assert set(totals.by_source) == set(used)
        value, count = totals._totals["loss"]
        assert whole_of(totals)["loss"] == pytest.approx((float(value), float(count)), rel=1e-5)
    alone = Totals()
    for part in data.batches(("overall",), 1000)([k for k, name in enumerate(used) if name == "many"]):
        alone.add(loss(part))
    for thing in ("loss", "accuracy"):
        assert totals.by_source["many"].means()[thing] == pytest.approx(alone.means()[thing], rel=1e-5)


def test_the_loss_of_a_source_of_demonstrations_is_that_of_its_trees_alone(policy: CausalPolicy, tmp_path: Path) -> None:
    def rows(*names: str) -> list[Demonstration]:
        """Two, three ... demonstrations of the sources, one source after another as they are read."""
        return [
            Demonstration((Message("text", "the cook"), Message("text", SIDES[(k + j) % 6])), (1,), f"{name}:{j}", source_name=name)
            for k, name in enumerate(names)
            for j in range(2 + k)
        ]

    def made(place: str, demonstrations: list[Demonstration]) -> Any:
        run = open_run(tmp_path / place, RunPlan("sft", "sft", seed=1))
        return trees_of(run, demonstrations, lambda row: (demonstration_tree(word_tokenizer(), row, 20),), "a + b")

    several = made("several", rows("a", "b c", "d"))
    assert [tree.source_name for tree in several] == several.source_names == ["a"] * 2 + ["b c"] * 3 + ["d"] * 4
    task = Imitation(policy, CrossEntropy(), 7)
    found = task.measured(several)
    assert set(found.others) == {f"loss_of_{name}/mean" for name in ("a", "b_c", "d")}
    for name, numbers in (("a", slice(2)), ("b_c", slice(2, 5)), ("d", slice(5, 9))):
        alone = task.measured(several[numbers])
        assert found.others[f"loss_of_{name}/mean"] == pytest.approx(alone.loss, rel=1e-5)
    one = made("one", rows("a"))
    assert {tree.source_name for tree in one} == {""}, "there is nothing to tell apart"
    assert task.measured(one).others == {}


def test_held_out_pairs_are_measured_by_source_and_one_source_has_no_names(policy: CausalPolicy) -> None:
    _, inputs = direct_of(DPO, policy, 1000)

    def loss(part: Any) -> Sums:
        return inputs.sums(part, inputs.logps(policy, part))

    found = measured(inputs.microbatches(policy, list(range(len(SOURCES)))), loss)
    logged = statistics(totals_of(inputs, policy, list(range(len(SOURCES)))))
    assert found.loss == pytest.approx(logged["loss/mean"])
    assert found.others["accuracy/mean"] == pytest.approx(logged["accuracy/mean"])
    assert found.others["accuracy_of_few/mean"] == pytest.approx(logged["accuracy_of_few/mean"])
    assert "margin/mean" not in found.others
    same = [prompt for prompt in judged_prompts(preferences(), word_tokenizer(), 100)[0] if prompt.source_name == "few"]
    assert {prompt.tree.source_name for prompt in told_apart(same)} == {""}


def test_a_step_with_rows_of_one_source_logs_that_source() -> None:
    totals, one = Totals(), torch.tensor(1.0)
    totals.add(Sums(3 * one, 2 * one, {}, {"a b": Sums(3 * one, 2 * one, {"nll": (one, one)})}))
    assert statistics(totals) == {"loss/mean": 1.5, "loss_of_a_b/mean": 1.5}
