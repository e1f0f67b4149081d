"""Parts together: weights, bounds, normalisation, constraints, failures, state, settings."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from palate.config.read import dump_config, map_inputs, read_config
from palate.config.settings import Settings
from palate.core import Completion, ConfigError, DataError, TrainingError
from palate.models.scalar import scalar_from
from palate.rewards.composition import Composition, RewardPart
from palate.rewards.function import FunctionReward
from palate.rewards.model import ModelReward
from palate.rewards.part import Constraint
from palate.testing import tiny_policy
from tests.support.waiting import wait_until
from tests.unit.rewards.conftest import prompt


@dataclass(frozen=True)
class Holder:
    """Something with a reward."""

    rewards: dict[str, RewardPart]


@pytest.fixture
def number(module) -> str:
    """A function whose score is the completion read as a number; of `x` none."""
    return module("def f(prompt, completion):\n    return float(completion)\n") + ":f"


def score(composition: Composition, *texts: str, **settings: bool):
    return composition.score([prompt()], [[Completion(text) for text in texts]], **settings)


def numbers(tensor: torch.Tensor) -> list[float]:
    return [round(value, 5) for value in tensor.tolist()]


def test_parts_are_weighted_and_added_up(number) -> None:
    parts = {
        "one": FunctionReward(function=number, weight=2.0),
        "two": FunctionReward(function=number, weight=-0.5, floor=-1, ceiling=2),
        "three": FunctionReward(function=number, weight=0.0),
    }
    found = score(Composition.load(parts), "-4", "1", "6")
    assert numbers(found.table["two"]) == [-4, 1, 6]
    assert numbers(found.parts["two"]) == [-1, 1, 2]
    assert numbers(found.rewards) == [-7.5, 1.5, 11]
    assert list(found.table) == ["one", "two", "three"]
    assert found.metrics()["score_two/mean"] == 1
    assert found.metrics()["part_two/mean"] == pytest.approx(2 / 3)


def test_a_normalised_part_is_scaled_by_all_scores_so_far(number) -> None:
    composition = Composition.load({"n": FunctionReward(function=number, normalise=True, floor=-0.5)})
    assert numbers(score(composition, "1", "3").rewards) == [-0.5, 1]  # mean 2, deviation 1
    second = score(composition, "2", "10")  # of 1, 3, 2, 10: mean 4, deviation 3.53553
    assert numbers(second.rewards) == [-0.5, 1.69706]
    assert numbers(second.table["n"]) == [2, 10]


def test_what_must_not_learn_does_not(number) -> None:
    parts = {
        "n": FunctionReward(function=number, normalise=True),
        "c": FunctionReward(function=number, constraint=Constraint(min_score=9.0)),
    }
    composition = Composition.load(parts)
    score(composition, "1", "2")
    before = composition.state()
    first = score(composition, "7", "8", update=False)
    assert composition.state() == before
    assert numbers(score(composition, "7", "8").rewards) == numbers(first.rewards)
    assert composition.state() != before


def test_a_constraint_prices_its_part(number) -> None:
    parts = {
        "plain": FunctionReward(function=number, weight=2.0),
        "kept": FunctionReward(function=number, constraint=Constraint(min_score=3.0, rate=0.1, init_multiplier=0.5)),
    }
    composition = Composition.load(parts)
    found = score(composition, "1", "3")
    # (2 * score - 0.5 * (3 - score)) / 1.5
    assert numbers(found.added.added[0]) == [round(2 / 1.5, 5), round(-1 / 1.5, 5)]
    assert numbers(found.added.weights[1]) == [round(2 / 1.5, 5), round(0.5 / 1.5, 5)]
    assert numbers(found.rewards) == [round((2 - 1) / 1.5, 5), 4]
    assert found.multipliers == {"kept": 0.5}
    after = 0.5 * math.exp(0.1 * 0.5 * (3 - 2))
    assert composition.state() == {"kept.multiplier": pytest.approx(after)}
    assert score(composition, "5").multipliers == {"kept": pytest.approx(after)}
    assert composition.state()["kept.multiplier"] < after
    assert found.metrics()["multiplier_kept/value"] == 0.5


def test_a_constraint_keeps_a_level_that_the_weighted_parts_push_against() -> None:
    """A policy of one number x in [0, 1], reward x, kept part 1 - x at least 0.7: the multiplier settles where both balance."""
    constraint = Constraint(min_score=0.7, rate=0.5)
    multiplier, x = constraint.init_multiplier, 0.0
    found = []
    for _ in range(4000):
        x = min(max(x + 0.01 * (1 - multiplier) / (1 + multiplier), 0.0), 1.0)
        multiplier = constraint.next_multiplier(multiplier, 1 - x)
        found.append(x)
    assert sum(found[-2000:]) / 2000 == pytest.approx(0.3, abs=5e-3)


def test_a_failed_score_is_nan_in_the_reward_and_named(number) -> None:
    parts = {"one": FunctionReward(function=number), "two": FunctionReward(function=number, normalise=True)}
    composition = Composition.load(parts, max_failed=0.4)
    found = score(composition, "1", "x", "3")
    assert found.rewards.isnan().tolist() == [False, True, False]
    assert found.table["one"].isnan().tolist() == [False, True, False]
    assert [(failure.part, failure.completion) for failure in found.failures] == [("one", 1), ("two", 1)]
    assert "could not convert string to float: 'x'" in found.failures[0].reason
    assert found.metrics()["unscored_one/share"] == pytest.approx(1 / 3)
    assert found.metrics()["score_one/mean"] == 2
    assert composition.state()["two.count"] == 2
    assert not any(math.isnan(value) for value in (*composition.state().values(), *found.metrics().values()))


def test_a_part_that_fails_throughout_stops_the_run(number) -> None:
    parts = {"one": FunctionReward(function=number), "shown": FunctionReward(function="math:pow", weight=0.1)}
    with pytest.raises(TrainingError, match=r"rewards\.shown could not score 1 of 1 .*raised TypeError: must be real number, not str"):
        score(Composition.load(parts, max_failed=0.9), "1")


@pytest.mark.parametrize("normalise", [False, True])
def test_a_part_of_weight_0_that_fails_throughout_costs_nothing(number, normalise) -> None:
    parts = {"one": FunctionReward(function=number), "shown": FunctionReward(function="math:pow", weight=0, normalise=normalise)}
    found = score(Composition.load(parts), "1", "2")
    assert numbers(found.rewards) == [1, 2]
    assert found.metrics()["unscored_shown/share"] == 1
    assert len(found.failures) == 2


def test_a_part_with_a_constraint_counts_whatever_its_weight(number) -> None:
    parts = {"one": FunctionReward(function=number), "shown": FunctionReward(function="math:pow", constraint=Constraint(min_score=0))}
    with pytest.raises(TrainingError, match=r"rewards\.shown could not score"):
        score(Composition.load(parts), "1")


@pytest.mark.parametrize("size", ["1e39", "3e20"])
def test_a_score_whose_square_is_infinite_in_float32_is_a_failure_of_its_part(number, size) -> None:
    with pytest.raises(TrainingError, match=r"rewards\.one could not score 1 of 2 .* too large"):
        score(Composition.load({"one": FunctionReward(function=number)}), "1", size)


def test_rewards_that_weights_make_too_large_name_their_part(number) -> None:
    parts = {"one": FunctionReward(function=number), "big": FunctionReward(function=number, weight=1e30)}
    with pytest.raises(TrainingError, match=r"rewards\.big up to 2e\+10 with weight 1e\+30"):
        score(Composition.load(parts), "1", "2e10")


def test_failures_of_a_part_that_only_records_leave_the_reward(module, number) -> None:
    other = module("def f(prompt, completion):\n    return None if completion == '2' else 1\n") + ":f"
    parts = {"one": FunctionReward(function=number), "shown": FunctionReward(function=other, weight=0)}
    found = score(Composition.load(parts, max_failed=0.5), "1", "2")
    assert numbers(found.rewards) == [1, 2]
    assert [failure.part for failure in found.failures] == ["shown"]


def test_too_many_failures_stop_the_run(number) -> None:
    composition = Composition.load({"one": FunctionReward(function=number)}, max_failed=0.25)
    before = composition.state()
    assert score(composition, "1", "2", "3", "x").failures
    with pytest.raises(
        TrainingError, match=r"rewards\.one could not score 2 of 4 completions \(50%; max_failed allows 25%\): raised ValueError"
    ):
        score(composition, "1", "2", "x", "x")
    assert composition.state() == before


def test_nothing_scored_changes_no_state(number) -> None:
    parts = {
        "c": FunctionReward(function=number, constraint=Constraint(min_score=0.0)),
        "n": FunctionReward(function=number, normalise=True, weight=0),
    }
    composition = Composition.load(parts, max_failed=0.99)
    score(composition, "1", "2")
    before = composition.state()
    composition._max_failed = 1.0  # no setting allows that much
    found = score(composition, "x", "y")
    assert composition.state() == before
    assert found.rewards.isnan().all()
    assert "score_c/mean" not in found.metrics()


def test_a_restored_composition_goes_on_as_if_nothing_had_happened(number) -> None:
    parts = {
        "n": FunctionReward(function=number, normalise=True, weight=0.3),
        "c": FunctionReward(function=number, constraint=Constraint(min_score=2.0)),
    }
    batches = [("1", "2.5", "4"), ("0.1", "7", "3"), ("5", "5", "9"), ("1", "1", "2")]
    whole, first, second = (Composition.load(parts) for _ in range(3))
    expected = [score(whole, *texts).rewards for texts in batches]
    for texts in batches[:2]:
        score(first, *texts)
    second.restore(json.loads(json.dumps(first.state())))
    for texts, rewards in zip(batches[2:], expected[2:], strict=True):
        assert torch.equal(score(second, *texts).rewards, rewards)
    assert second.state() == whole.state()


def test_a_checkpoint_of_other_parts_is_refused(number) -> None:
    composition = Composition.load({"n": FunctionReward(function=number, normalise=True)})
    with pytest.raises(TrainingError, match=r"holds m\.multiplier of the rewards; these parts need n\.count"):
        composition.restore({"m.multiplier": 1.0})


def test_closing_ends_the_processes_of_parts(module) -> None:
    own = module("import os\ndef f(prompt, completion):\n    return os.getpid()\n") + ":f"
    composition = Composition.load({"one": FunctionReward(function=own)})
    process = int(score(composition, "1").rewards[0])
    os.kill(process, 0)
    composition.close()
    wait_until(lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": math.nan}, "weight"),
        ({"floor": 1.0, "ceiling": 1.0}, "floor must be below ceiling"),
        ({"floor": -math.inf}, "finite"),
        ({"constraint": Constraint(min_score=0), "normalise": True}, "no meaning for a normalised score"),
        ({"constraint": Constraint(min_score=0), "weight": 2.0}, "leave out weight or constraint"),
    ],
)
def test_settings_that_make_no_sense(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        FunctionReward(function="a:b", **settings)


def test_two_figures_of_one_name_are_refused(tmp_path, number) -> None:
    scalar_from(tiny_policy(), ("good",), seed=0).save(tmp_path)
    parts = {"taste": ModelReward(model=(str(tmp_path),)), "taste_good": FunctionReward(function=number)}
    with pytest.raises(ConfigError, match=r"taste/good and taste_good would both be recorded as score_taste_good\. Rename a part"):
        score(Composition.load(parts), "1")


def test_nothing_cannot_be_scored(number) -> None:
    composition = Composition.load({"n": FunctionReward(function=number)})
    for groups in ([], [[]]):
        with pytest.raises(DataError, match="nothing to score"):
            composition.score([prompt()] * len(groups), groups)


def test_a_composition_needs_a_part_and_a_share() -> None:
    with pytest.raises(ConfigError, match="needs at least one part"):
        Composition.load({})
    with pytest.raises(ConfigError, match="without slashes, got 'a/b'"):
        Composition.load({"a/b": FunctionReward(function="os:getpid")})
    with pytest.raises(ConfigError, match="max_failed"):
        Composition.load({"a": FunctionReward(function="os:getpid")}, max_failed=1.0)


SETTINGS = {
    "taste": {"kind": "model", "model": "$reward", "heads": ["helpful", "honest"]},
    "many": {"kind": "model", "model": ["a", "b"], "ensemble": {"kind": "uwo", "coefficient": "0.2"}, "constraint": {"min_score": 0.2}},
    "happy": {"kind": "function", "function": "package.module:f", "weight": 0.5, "normalise": True, "floor": -3},
    "short": {"kind": "rules", "rules": [{"pattern": "a+", "forbidden": True, "points": -1}, {"longest": 60, "points": -0.5}]},
    "remote": {"kind": "http", "url": "http://127.0.0.1:1/score", "timeout_seconds": 10},
    "judge": {
        "kind": "judge",
        "model": {"kind": "openai", "url": "http://127.0.0.1:1/v1", "model": "small"},
        "instructions": "helpful-pointwise",
    },
}


def test_parts_are_read_from_settings_and_written_back() -> None:
    found = read_config(Holder, Settings({"rewards": SETTINGS}))
    assert {name: part.kind for name, part in found.rewards.items()} == {name: values["kind"] for name, values in SETTINGS.items()}
    assert read_config(Holder, Settings(json.loads(json.dumps(dump_config(found))))) == found


def test_paths_of_models_are_inputs() -> None:
    seen = []
    found = map_inputs(
        read_config(Holder, Settings({"rewards": SETTINGS})), lambda name, value, mark: seen.append((name, value)) or "there"
    )
    models = [("rewards.taste.model.0", "$reward"), ("rewards.many.model.0", "a"), ("rewards.many.model.1", "b")]
    assert seen == [*models, ("rewards.happy.function", "package.module:f"), ("rewards.judge.instructions", "helpful-pointwise")]
    taste = found.rewards["taste"]
    assert isinstance(taste, ModelReward)
    assert taste.model == ("there",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "functions", "function": "a:b"}, "Did you mean 'function'"),
        ({"function": "a:b"}, "must say its kind: model, function, rules, http, judge"),
        ({"kind": "function"}, "needs 'function'"),
        ({"kind": "function", "function": "a:b", "wieght": 1}, "Did you mean 'weight'"),
        ({"kind": "http", "url": "nowhere"}, "url must be"),
        ({"kind": "rules", "rules": [{"points": -1}]}, "needs either a pattern or a length"),
    ],
)
def test_settings_that_cannot_be_read(values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(Holder, Settings({"rewards": {"part": values}}))
