"""Ensembles that stage `reward` trains: what members share and what not, resuming, heads on one trunk, adapters on one base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.config.artifacts import model_at, models_at
from palate.config.read import dump_config
from palate.core import Completion, ConfigError, Interrupted, Message, Prompt, derive_seed
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.load import load_policy, load_tokenizer
from palate.models.scalar import load_scalar
from palate.pipeline.estimates.model_origins import origin_at
from palate.rewards.combination import RewardModels
from palate.rewards.composition import Composition
from palate.rewards.ensemble import Mean, Worst
from palate.rewards.learned import LearnedReward, ReportCard
from palate.rewards.model import ModelReward
from palate.runs.record import Parent, RunPlan, read_record
from palate.runs.run import open_run_at
from palate.stages.reward import Reward
from palate.testing import byte_tokenizer, tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training.bootstrap import Members, bootstrapped, drawn_prompts, on_shared_trunk
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.optimizer import AdamW
from tests.support.stages import ran, rows_of, summary_of

DIMENSIONS = ("kind", "taste")
GROUP = [Completion(text) for text in ("rice today", "salt and beans", "no", "the cook has two guests")]
PROMPTS = [Prompt(str(k), (Message("user", words),)) for k, words in enumerate(("what can we make", "no salt"))]


def text(k: int) -> str:
    return f"the cook has {WORDS[k % 7]} {WORDS[k // 7]}"


def rows(numbers: range) -> list[dict[str, object]]:
    """Salt is tasty and rice is kind; a few judges err."""
    return [
        {"prompt": text(k), "chosen": sides[k % 7 == 0], "rejected": sides[k % 7 != 0], "dimension": dimension}
        for k in numbers
        for dimension, sides in {"taste": (" make salt today", " make rice"), "kind": (" make rice", " make salt today")}.items()
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("members")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    write_rows(folder / "pairs.jsonl", rows(range(20)))
    write_rows(folder / "held.jsonl", rows(range(20, 28)))
    return folder


def stage_of(home: Path, **settings: Any) -> Reward:
    start = Reward(
        str(home / "base"), str(home / "pairs.jsonl"), held_out=str(home / "held.jsonl"), prompts_per_step=4, epochs=1,
        optimizer=AdamW(lr=1e-2), members=Members(count=3),
    )  # fmt: skip
    return replace(start, **settings)


@pytest.fixture(scope="module")
def ensemble(home: Path) -> Path:
    """The run of an ensemble of three, whose record has the settings."""
    stage = stage_of(home)
    with open_run_at(home / "ensemble", RunPlan("reward", "reward", seed=1, config=dump_config(stage))).active() as run:
        stage.run(run)
    return run.directory


Train = Callable[..., Path]


@pytest.fixture
def train(home: Path, tmp_path: Path) -> Train:
    return lambda name="run", **settings: ran(stage_of(home, **settings), tmp_path / name, "reward")


def weights_of(path: Path | str) -> dict[str, torch.Tensor]:
    return load_scalar(model_at(str(path))).state_dict()


def same_weights(one: Path | str, other: Path | str) -> bool:
    before, after = weights_of(one), weights_of(other)
    return before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())


def test_each_member_is_a_model_with_a_card_and_the_predictions_are_their_mean(ensemble: Path) -> None:
    members = models_at(str(ensemble))
    assert members == tuple(str(ensemble / "members" / str(k)) for k in (1, 2, 3))
    weights = [weights_of(path) for path in members]
    assert all(not torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in ("score.weight", "model.norm.weight"))
    assert all(ReportCard.read_from(model_at(path)) is not None for path in members)
    tables = [rows_of(Path(path), "predictions.jsonl") for path in members]
    for mean, *same in zip(rows_of(ensemble, "predictions.jsonl"), *tables, strict=True):
        assert mean["chosen"] == pytest.approx(np.mean([one["chosen"] for one in same]))
        assert mean["rejected"] == pytest.approx(np.mean([one["rejected"] for one in same]))
        assert {name: mean[name] for name in ("prompt", "dimension", "observed")} == {
            name: same[0][name] for name in ("prompt", "dimension", "observed")
        }
    summary = summary_of(ensemble)
    assert [one["spread"] for one in summary["members"]] == [summary_of(Path(path))["spread"] for path in members]
    assert summary["held_out"]["overall"]["n"] == 16
    assert not (ensemble / "model").exists()


def test_members_differ_by_seed_alone_where_nothing_is_drawn_and_hardly_where_heads_are_the_same(train: Train) -> None:
    still: dict[str, Any] = {"optimizer": AdamW(lr=1e-9), "epochs": 0.3}
    own = train("own", members=Members(count=2, bootstrap="none"), **still)
    same = train("same", members=Members(count=2, bootstrap="none", heads="same"), **still)
    heads = [[weights_of(path)["score.weight"] for path in models_at(str(run))] for run in (own, same)]
    assert float((heads[0][0] - heads[0][1]).abs().max()) > 1e-3
    torch.testing.assert_close(heads[1][0], heads[1][1], atol=1e-6, rtol=0)


def test_a_run_of_members_is_an_ensemble_wherever_a_reward_model_is_named(ensemble: Path) -> None:
    models = RewardModels.load((str(ensemble),), Worst())
    assert list(models.members) == list(models_at(str(ensemble)))
    found = models.score(PROMPTS, [GROUP, GROUP])
    alone = [LearnedReward.load(model_at(path)).table(PROMPTS, [GROUP, GROUP])[0] for path in models_at(str(ensemble))]
    torch.testing.assert_close(found.members, torch.stack(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.scores, torch.stack(alone).amin(0), atol=1e-5, rtol=0)
    part = ModelReward(model=(str(ensemble),), ensemble=Worst())
    reward = Composition.load({"taste": part}).score(PROMPTS, [GROUP, GROUP])
    torch.testing.assert_close(reward.rewards, found.scores.sum(1), atol=1e-5, rtol=0)
    assert origin_at(str(ensemble)).shape == origin_at(models_at(str(ensemble))[0]).shape
    with pytest.raises(ConfigError, match=r"holds an ensemble, and this setting takes one model. Name a member, such as .*/members/1"):
        model_at(str(ensemble))


def test_an_ensemble_without_one_of_its_members_is_refused(ensemble: Path, tmp_path: Path) -> None:
    for number in (2, 3):
        copy = shutil.copytree(ensemble, tmp_path / f"without {number}")
        shutil.rmtree(copy / "members" / str(number))
        with pytest.raises(ConfigError, match=f"members/{number} has no model: the run of this ensemble of 3 .* copied without it"):
            models_at(str(copy))


def test_a_run_that_was_stopped_between_members_goes_on_with_the_next(
    ensemble: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = Reward._trained

    def stopping(self: Reward, run: Any, *given: Any) -> dict[str, object]:
        trained.append(run.directory.name)
        if trained == ["1", "2"]:
            raise KeyboardInterrupt
        return train(self, run, *given)

    monkeypatch.setattr(Reward, "_trained", stopping)
    with pytest.raises(Interrupted, match="was stopped at once"):
        ran(stage_of(home), tmp_path / "stopped", "reward")
    with pytest.raises(ConfigError, match=r"members/2 has no model: the run of this ensemble of 2 is not finished"):
        models_at(str(tmp_path / "stopped"))
    stopped = ran(stage_of(home), tmp_path / "stopped", "reward")
    assert trained == ["1", "2", "2", "3"]
    assert summary_of(stopped) == summary_of(ensemble)
    assert all(same_weights(one, other) for one, other in zip(models_at(str(stopped)), models_at(str(ensemble)), strict=True))


@pytest.fixture(scope="module")
def judged(home: Path) -> list[JudgedPrompt]:
    from palate.data.formats import read_preferences

    return judged_prompts(read_preferences(home / "pairs.jsonl").rows, load_tokenizer(home / "base"), 100)[0]


def test_a_draw_is_of_whole_prompts_with_replacement(judged: list[JudgedPrompt]) -> None:
    drawn = drawn_prompts(2000, 3)
    assert drawn == drawn_prompts(2000, 3) != drawn_prompts(2000, 4)
    assert (len(drawn), min(drawn) >= 0, max(drawn) < 2000) == (2000, True, True)
    assert 1 - len(set(drawn)) / 2000 == pytest.approx(np.exp(-1), abs=0.03)
    mine = bootstrapped(judged, Members(), 7)
    assert [judged.index(prompt) for prompt in mine] == drawn_prompts(len(judged), derive_seed(7, "bootstrap"))
    assert bootstrapped(judged, Members(bootstrap="none"), 7) == judged


def test_on_a_shared_trunk_each_member_weighs_the_prompts_that_it_drew(judged: list[JudgedPrompt]) -> None:
    members = Members(count=3, trunk="shared")
    seen = np.zeros((3, len(judged)))
    sources = [prompt.source for prompt in judged]
    for prompt in on_shared_trunk(judged, DIMENSIONS, members, 5):
        assert len(prompt.pairs) == len(prompt.preferences)
        for pair, preference in zip(prompt.pairs, prompt.preferences, strict=True):
            dimension, _, number = pair.dimension.partition(".")
            assert dimension == preference.dimension
            if dimension == "taste":
                seen[int(number) - 1, sources.index(prompt.source)] += pair.weight
    expected = [np.bincount(drawn_prompts(len(judged), derive_seed(5, "bootstrap", k)), minlength=len(judged)) for k in range(3)]
    assert seen.tolist() == np.array(expected).tolist()
    whole = on_shared_trunk(judged, DIMENSIONS, replace(members, bootstrap="none"), 5)
    assert [len(prompt.pairs) for prompt in whole] == [6] * len(judged)


def test_heads_on_a_shared_trunk_are_members_and_the_model_alone_is_their_mean(train: Train) -> None:
    run = train(members=Members(count=3, trunk="shared"))
    models = RewardModels.load((str(run),))
    assert list(models.members) == [f"{run}#{k}" for k in (1, 2, 3)]
    assert models.heads == ("taste", "kind")
    found = models.score(PROMPTS, [GROUP, GROUP])
    assert float((found.members[0] - found.members[1]).abs().max()) > 1e-2
    model = LearnedReward.load(model_at(str(run)))
    assert model.model.heads == ("taste.1", "kind.1", "taste.2", "kind.2", "taste.3", "kind.3")
    table, _ = model.table(PROMPTS, [GROUP, GROUP])
    torch.testing.assert_close(table.sum(1), found.scores.sum(1), atol=1e-5, rtol=0)
    raw = models.raw(found.members)
    plain = model.model
    gain, bias = torch.tensor(plain.normalisation.gain), torch.tensor(plain.normalisation.bias)
    torch.testing.assert_close(raw.transpose(0, 1).flatten(1), (table - bias) / gain, atol=1e-4, rtol=0)
    part = Composition.load({"taste": ModelReward(model=(str(run),), ensemble=Worst())}).score(PROMPTS, [GROUP, GROUP])
    torch.testing.assert_close(part.rewards, Worst()(found.members).sum(1), atol=1e-5, rtol=0)
    assert summary_of(run)["held_out"]["overall"]["n"] == 16


def test_each_member_on_a_shared_trunk_has_a_scale_of_its_own(train: Train, home: Path) -> None:
    from palate.data.formats import read_preferences

    run = train(members=Members(count=2, trunk="shared"))
    models = RewardModels.load((str(run),))
    pairs = read_preferences(home / "pairs.jsonl").rows
    prompts = list({one.prompt.conversation: one.prompt for one in pairs}.values())
    sides = [Completion(" make salt today"), Completion(" make rice")]
    totals = models.score(prompts, [sides] * len(prompts)).members.sum(2)
    torch.testing.assert_close(totals.mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(totals.std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_adapters_of_members_stay_small_and_share_one_base_in_memory(train: Train, home: Path) -> None:
    run = train(adapters=LoRA(rank=2, merge=False), members=Members(count=2), epochs=1)
    assert all(not (Path(path) / "model").exists() for path in models_at(str(run)))
    models = RewardModels.load((str(run),))
    places = [
        {name: p.data_ptr() for name, p in member.reward.model.module.named_parameters() if "base_layer" in name}
        for member in models.members.values()
    ]
    assert places[0] == places[1]
    assert len(places[0]) > 5
    alone = [LearnedReward.load(model_at(path)).table(PROMPTS, [GROUP, GROUP])[0] for path in models_at(str(run))]
    torch.testing.assert_close(models.score(PROMPTS, [GROUP, GROUP]).members, torch.stack(alone), atol=1e-5, rtol=0)
    part = Composition.load({"taste": ModelReward(model=(str(run),))}).score(PROMPTS, [GROUP, GROUP])
    torch.testing.assert_close(part.rewards, Mean()(torch.stack(alone)).sum(1), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def other(home: Path) -> Path:
    """A model with the tokenizer of the base, which was drawn with another seed."""
    tiny_policy("qwen3", word_tokenizer(), seed=7).save(home / "other")
    return home / "other"


def test_members_start_in_turn_from_several_models(train: Train, home: Path, other: Path) -> None:
    members = Members(count=3, other_models=(str(other),))
    run = train(members=members, optimizer=AdamW(lr=1e-9), epochs=0.3)
    starts = [load_policy(place).module.model.state_dict() for place in (home / "base", other, home / "base")]
    assert not torch.equal(starts[0]["embed_tokens.weight"], starts[1]["embed_tokens.weight"])
    for path, start in zip(models_at(str(run)), starts, strict=True):
        found = weights_of(path)
        for name, weight in start.items():
            torch.testing.assert_close(found[f"model.{name}"], weight, atol=1e-6, rtol=0)
    assert RewardModels.load((str(run),), Worst()).score(PROMPTS, [GROUP, GROUP]).scores.isfinite().all()


def test_a_member_records_the_model_it_started_from(home: Path, other: Path, tmp_path: Path) -> None:
    parents = (
        Parent("model", str(home / "base"), "key of base"),
        Parent("members.other_models.0", str(other), "key of other"),
        Parent("preferences", str(home / "pairs.jsonl"), "key of pairs"),
    )
    stage = stage_of(home, members=Members(count=2, other_models=(str(other),)), epochs=0.3)
    plan = RunPlan("run", "reward", dump_config(stage), 1, parents)
    with open_run_at(tmp_path / "run", plan).active() as run:
        stage.run(run)
    records = [read_record(Path(path)) for path in models_at(str(tmp_path / "run"))]
    assert [None if one is None else one.config["model"] for one in records] == [str(home / "base"), str(other)]
    named = [{parent.field: parent.key for parent in one.parents} for one in records if one is not None]
    rest = {"members.other_models.0": "key of other", "preferences": "key of pairs"}
    assert named == [{"model": "key of base", **rest}, {"model": "key of other", **rest}]
    assert [one.identity["config"]["model"] for one in records if one is not None] == ["key of base", "key of other"]  # type: ignore[index]


def test_an_ensemble_of_several_starts_goes_on_with_the_next(
    home: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_of(home, members=Members(count=2, other_models=(str(other),)), epochs=0.5)
    straight = ran(stage, tmp_path / "straight", "reward")
    train = Reward._trained

    def stopping(self: Reward, run: Any, *given: Any) -> dict[str, object]:
        if run.directory.name == "2":
            raise KeyboardInterrupt
        return train(self, run, *given)

    monkeypatch.setattr(Reward, "_trained", stopping)
    with pytest.raises(Interrupted, match="was stopped at once"):
        ran(stage, tmp_path / "stopped", "reward")
    monkeypatch.undo()
    stopped = ran(stage, tmp_path / "stopped", "reward")
    assert (stopped / "predictions.jsonl").read_bytes() == (straight / "predictions.jsonl").read_bytes()
    assert all(same_weights(one, same) for one, same in zip(models_at(str(stopped)), models_at(str(straight)), strict=True))


def test_models_that_read_other_tokens_are_refused_before_any_member_trains(home: Path, other: Path, tmp_path: Path) -> None:
    tiny_policy("qwen3", byte_tokenizer()).save(tmp_path / "bytes")
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "short")
    config = tmp_path / "short" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 24}))
    names = (str(other), str(tmp_path / "bytes"), str(tmp_path / "short"))
    with pytest.raises(ConfigError, match="members of an ensemble must read the same tokens") as refused:
        ran(stage_of(home, members=Members(count=4, other_models=names)), tmp_path / "run", "reward")
    assert f"{names[1]} has another tokenizer or chat template" in str(refused.value)
    assert f"{names[2]} takes 24 tokens and {home / 'base'} " in str(refused.value)
    assert names[0] not in str(refused.value)
    assert "Name models in members.other_models" in str(refused.value)
    assert not (tmp_path / "run" / "members").exists()


def test_a_model_stands_once_among_the_starts(home: Path, other: Path) -> None:
    for names in ((str(home / "base"), str(other)), (str(other), str(other))):
        with pytest.raises(ConfigError, match="members.other_models names .* a second time"):
            stage_of(home, members=Members(count=3, other_models=names)).check()
    stage_of(home, members=Members(count=3, other_models=(str(other),))).check()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trunk": "shared", "other_models": ("a",)}, "members.other_models needs a trunk for each member"),
        ({"heads": "same", "other_models": ("a",)}, "models that start from other weights cannot be averaged"),
        ({"count": 2, "other_models": ("a", "b")}, "count is 2, and `model` with members.other_models are 3 models"),
        ({"count": 1}, "members.count must be 2 or more, got 1"),
        ({"trunk": "shared", "heads": "same"}, "has no meaning on a shared trunk"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Members(**settings)
