"""Reward models as a part: tokens and texts, heads, ensembles, completions that cannot be scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from palate.core import Completion, ConfigError, Message, ModelError, Prompt, TrainingError
from palate.models.load import load_tokenizer
from palate.models.reward_file import RULE_HEAD, Normalisation
from palate.models.scalar import scalar_from
from palate.rewards.batch import ScoringBatch
from palate.rewards.composition import Composition
from palate.rewards.ensemble import Mean, Worst
from palate.rewards.learned import LearnedReward
from palate.rewards.model import Member, ModelReward, ModelScorer
from palate.testing import byte_tokenizer, tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree
from palate.text.spans import prompt_ids, split_ids
from palate.text.tokens import tokenizer_digest

HEADS = ("helpful", "honest")
PROMPTS = (Prompt("a", (Message("user", "what can we make"),)), Prompt("b", (Message("user", "no salt"),)))
TEXTS = (("rice and beans", "the cook has salt"), ("so what", "rice"))


def saved(path: Path, seed: int = 0, heads: Sequence[str] = HEADS, policy=None) -> str:
    """A tiny reward model in a directory, its heads of different scale."""
    model = scalar_from(policy or tiny_policy(), heads, seed=seed)
    model.normalisation = Normalisation(tuple(2.0 + k for k in range(len(heads))), tuple(0.5 - k for k in range(len(heads))))
    model.save(path)
    return str(path)


def sampled(tokenizer, texts=TEXTS, ended=True):
    """Trees as a sampler leaves them: a completion that was cut off has no end token."""
    trees = []
    for prompt, group in zip(PROMPTS, texts, strict=True):
        _, branches = split_ids(tokenizer, prompt.conversation, group)
        kept = [ids if ended else ids[:-1] for ids in branches]
        trees.append(Tree(prompt_ids(tokenizer, prompt), tuple(Branch(ids, (True,) * len(ids)) for ids in kept)))
    return trees


def scores_of(part: ModelReward, tokenizer, trees, groups):
    composition = Composition.load({"taste": part}, tokenizer)
    return composition.score(PROMPTS, groups, trees)


def groups_of(texts=TEXTS, stop="eos"):
    return [[Completion(text, stop=stop) for text in group] for group in texts]


def alone(path: str, trees) -> torch.Tensor:
    """Normalised scores (b, h) by transformers' own forward pass, a row at a time."""
    rows = [tree.trunk + branch.ids for tree in trees for branch in tree.branches]
    plain = AutoModelForSequenceClassification.from_pretrained(path)
    with torch.inference_mode():
        scores = torch.cat([plain(input_ids=torch.tensor([row])).logits for row in rows])
    return scores * torch.tensor([2.0, 3.0]) + torch.tensor([0.5, -0.5])


def close(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_sampled_tokens_are_scored_as_they_are(tmp_path) -> None:
    path = saved(tmp_path)
    trees = sampled(word_tokenizer())
    # Texts that say something else: with the same tokenizer they are not looked at.
    found = scores_of(ModelReward(model=(path,)), word_tokenizer(), trees, groups_of((("x", "x"), ("x", "x"))))
    expected = alone(path, trees)
    close(found.table["taste/helpful"], expected[:, 0])
    close(found.table["taste/honest"], expected[:, 1])
    close(found.rewards, expected.sum(1))
    assert found.failures == ()


@pytest.mark.parametrize("ended", [True, False])
def test_texts_give_the_scores_of_tokens(tmp_path, ended) -> None:
    """A completion that was cut off is not closed on its way through text."""
    part = ModelReward(model=(saved(tmp_path),))
    trees = sampled(word_tokenizer(), ended=ended)
    groups = groups_of(stop="eos" if ended else "length")
    by_tokens = scores_of(part, word_tokenizer(), trees, groups)
    by_texts = scores_of(part, None, None, groups)
    close(by_texts.rewards, by_tokens.rewards)
    other = scores_of(part, None, None, groups_of(stop="length" if ended else "eos"))
    assert ((other.rewards - by_texts.rewards).abs() > 1e-3).all()


def test_a_model_with_another_tokenizer_scores_texts(tmp_path) -> None:
    path = saved(tmp_path, policy=tiny_policy(tokenizer=byte_tokenizer()))
    found = scores_of(ModelReward(model=(path,)), word_tokenizer(), sampled(word_tokenizer()), groups_of())
    close(found.rewards, alone(path, sampled(byte_tokenizer())).sum(1))


def test_a_tokenizer_without_a_template_is_the_same_as_its_export_which_has_the_fallback(tmp_path) -> None:
    exported = load_tokenizer(saved(tmp_path))
    assert exported.chat_template != word_tokenizer().chat_template
    assert tokenizer_digest(exported) == tokenizer_digest(word_tokenizer())


@pytest.mark.parametrize("change", ["chat_template", "eos_token"])
def test_a_model_with_another_template_or_end_scores_texts(tmp_path, change) -> None:
    tokenizer = word_tokenizer()
    if change == "chat_template":
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}.{% endfor %}{% if add_generation_prompt %} {% endif %}"
    else:
        tokenizer.eos_token = "<pad>"
    path = saved(tmp_path, policy=tiny_policy(tokenizer=tokenizer))
    part = ModelReward(model=(path,))
    found = scores_of(part, word_tokenizer(), sampled(word_tokenizer()), groups_of())
    close(found.rewards, scores_of(part, None, None, groups_of()).rewards)
    wrong = alone(path, sampled(word_tokenizer())).sum(1)
    assert ((found.rewards - wrong).abs() > 1e-3).all()


def test_heads(tmp_path) -> None:
    path = saved(tmp_path)
    both = scores_of(ModelReward(model=(path,)), None, None, groups_of())
    one = scores_of(ModelReward(model=(path,), heads=("honest",)), None, None, groups_of())
    assert list(one.table) == ["taste/honest"]
    close(one.rewards, both.table["taste/honest"])
    with pytest.raises(ConfigError, match=r"rewards\.taste: .* has the heads helpful, honest, not kind"):
        scores_of(ModelReward(model=(path,), heads=("kind",)), None, None, groups_of())


def test_an_ensemble_is_formed_head_by_head(tmp_path) -> None:
    paths = tuple(saved(tmp_path / str(seed), seed) for seed in (0, 1, 2))
    single = [scores_of(ModelReward(model=(path,)), None, None, groups_of()).table for path in paths]
    for ensemble in (Mean(), Worst()):
        found = scores_of(ModelReward(model=paths, ensemble=ensemble), None, None, groups_of())
        expected = {dimension: ensemble(torch.stack([table[dimension] for table in single])) for dimension in found.table}
        for dimension, column in expected.items():
            close(found.table[dimension], column)
        close(found.rewards, sum(expected.values()))


def test_an_ensemble_needs_the_same_heads(tmp_path) -> None:
    paths = (saved(tmp_path / "a"), saved(tmp_path / "b", heads=("honest", "kind")))
    with pytest.raises(ConfigError, match="name heads that all models have"):
        Composition.load({"taste": ModelReward(model=paths)})
    assert Composition.load({"taste": ModelReward(model=paths, heads=("honest",))}).score(PROMPTS, groups_of()).failures == ()


def test_a_model_is_one_member_however_it_is_written_and_a_classifier_of_rules_is_none(tmp_path) -> None:
    path = saved(tmp_path / "a")
    for again in (path, f"{path}/", f"{tmp_path}/./a"):
        with pytest.raises(ConfigError, match="the ensemble names a model twice"):
            Composition.load({"taste": ModelReward(model=(path, again))})
    classifier = saved(tmp_path / "rules", heads=(RULE_HEAD,))
    with pytest.raises(ModelError, match="rules is a classifier of rules and not a reward model"):
        Composition.load({"taste": ModelReward(model=(classifier,))})
    with pytest.raises(ModelError, match="is a classifier of rules and not a reward model"):
        LearnedReward.load(classifier).table(PROMPTS, groups_of())


def test_the_sum_is_called_score_also_where_a_head_is(tmp_path) -> None:
    found = LearnedReward.load(saved(tmp_path, heads=("score", "kind"))).score(PROMPTS, groups_of())
    apart = LearnedReward.load(saved(tmp_path, heads=("helpful", "kind"))).score(PROMPTS, groups_of())
    assert found["score"] == apart["score"] != apart["helpful"]


def test_a_model_that_two_parts_name_is_loaded_and_asked_once(tmp_path, monkeypatch) -> None:
    path = saved(tmp_path)
    asked = []
    score_trees = LearnedReward.score_trees
    monkeypatch.setattr(LearnedReward, "score_trees", lambda self, trees: asked.append(1) or score_trees(self, trees))
    parts = {dimension: ModelReward(model=(path,), heads=(dimension,), weight=k + 1) for k, dimension in enumerate(HEADS)}
    composition = Composition.load(parts)
    found = composition.score(PROMPTS, groups_of())
    close(found.rewards, found.table["helpful/helpful"] + 2 * found.table["honest/honest"])
    assert len(asked) == 1
    composition.score(PROMPTS, groups_of())
    assert len(asked) == 2
    assert list(composition.models) == [path]


@pytest.mark.parametrize("by_tokens", [True, False])
def test_a_completion_too_long_for_the_model_fails_alone(tmp_path, by_tokens) -> None:
    path = saved(tmp_path, policy=tiny_policy("gpt2"))  # 128 positions
    texts = (("rice", "rice " * 80), ("so what", "rice"))
    trees = sampled(word_tokenizer(), texts) if by_tokens else None
    composition = Composition.load({"taste": ModelReward(model=(path,))}, word_tokenizer(), max_failed=0.5)
    found = composition.score(PROMPTS, groups_of(texts), trees)
    assert found.rewards.isnan().tolist() == [False, True, False, False]
    ((failure),) = found.failures
    assert (failure.part, failure.completion) == ("taste", 1)
    assert "too long for the reward model" in failure.reason
    short = composition.score(PROMPTS, groups_of((("rice", "rice"), ("so what", "rice"))))
    close(found.rewards[[0, 2, 3]], short.rewards[[0, 2, 3]])


def test_a_model_whose_weights_are_lost_gives_reasons(tmp_path) -> None:
    """A head that is lost spoils the other one's scores too: a part has all of its heads or none."""
    composition = Composition.load({"taste": ModelReward(model=(saved(tmp_path),))}, max_failed=0.99)
    (reward,) = composition.models.values()
    with torch.no_grad():
        reward.model.module.get_submodule("score").weight[1] = float("nan")
    with pytest.raises(TrainingError, match="the model gave no finite number"):
        composition.score(PROMPTS, groups_of())
    outcome = ModelScorer(Member.all_of("a", reward), HEADS, Mean()).score(ScoringBatch(PROMPTS, tuple(map(tuple, groups_of()))))
    assert all(column.isnan().all() for column in outcome.heads.values())
    assert list(outcome.reasons) == [0, 1, 2, 3]


def test_an_ensembles_rule_needs_two_models(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.taste: ensemble wco needs two reward models or more, got one"):
        Composition.load({"taste": ModelReward(model=(saved(tmp_path),), ensemble=Worst())})


def test_members_that_read_other_tokens_or_contexts_are_refused_in_one_message(tmp_path) -> None:
    paths = (saved(tmp_path / "a"), saved(tmp_path / "b", policy=tiny_policy(tokenizer=byte_tokenizer())), saved(tmp_path / "c"))
    config = tmp_path / "c" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 24}))
    with pytest.raises(ConfigError, match="members of an ensemble must read the same tokens") as refused:
        Composition.load({"taste": ModelReward(model=paths)})
    assert f"{paths[1]} has another tokenizer or chat template" in str(refused.value)
    assert f"{paths[2]} takes 24 tokens and {paths[0]} " in str(refused.value)


@pytest.mark.parametrize("settings", [{"model": ()}, {"heads": ("x", "x")}])
def test_settings_that_make_no_sense(settings) -> None:
    with pytest.raises(ConfigError, match="model: "):
        ModelReward(**{"model": ("a",), **settings})
