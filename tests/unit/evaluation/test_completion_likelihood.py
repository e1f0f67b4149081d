"""How likely a reward model's own language model finds the completions, and when that shows another tokenizer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from palate.agreement.estimates import Estimate
from palate.core import Completion, Message, Preference, Prompt
from palate.evaluation.reward_check.reading_habits import ReadingHabits, TokenLikelihood, reading_habits
from palate.evaluation.reward_check.score_book import ScoreBook, scored_pairs
from palate.models.scalar import scalar_from
from palate.rewards.combination import RewardModels
from palate.testing import tiny_policy
from tests.support.planted_rewards import cooks_tokenizer
from tests.unit.evaluation.test_chance_or_reversed import named

PAIRS = [
    Preference(Prompt("1", (Message("user", "what can we make?"),)), Completion("rice and beans."), Completion("mud."), dimension="kind"),
    Preference(
        Prompt("2", (Message("user", "what can we make today?"),)), Completion("we make butter."), Completion("no."), dimension="kind"
    ),
]


def habits_of(directory: Path, *, reads_likelihood: bool) -> ReadingHabits:
    scalar_from(tiny_policy("qwen3", cooks_tokenizer()), ("kind",), seed=0, reads_likelihood=reads_likelihood).save(directory)
    book = ScoreBook(RewardModels.load((str(directory),)))
    return reading_habits(book, scored_pairs(book, PAIRS)[0], combined=False)


def test_the_likelihood_is_the_mean_over_the_tokens_of_both_sides(tmp_path: Path) -> None:
    policy = tiny_policy("qwen3", cooks_tokenizer())
    policy.module.set_attn_implementation("eager")
    habits = habits_of(tmp_path / "model", reads_likelihood=True)
    book = ScoreBook(RewardModels.load((str(tmp_path / "model"),)))
    means = []
    for one in PAIRS:
        for side in (one.chosen, one.rejected):
            tree = book.models.first.tree(one.prompt, [side])
            ids = torch.tensor([tree.trunk + tree.branches[0].ids])
            logps = policy.module(input_ids=ids).logits[0].log_softmax(-1)
            own = range(len(tree.trunk), ids.shape[1])
            means.append(sum(logps[k - 1, ids[0, k]].item() for k in own) / len(own))
    assert habits.likelihood is not None
    assert habits.likelihood.mean.value == pytest.approx(sum(means) / len(means), abs=1e-5)
    assert habits.likelihood.guess == pytest.approx(-math.log(policy.module.config.vocab_size))
    assert not habits.likelihood.is_fault, "a head that nobody trained is about at the guess"


def test_a_model_that_reads_the_last_token_alone_has_none(tmp_path: Path) -> None:
    assert habits_of(tmp_path / "model", reads_likelihood=False).likelihood is None


@pytest.mark.parametrize(("mean", "names"), [(-1.0, []), (-4.5, []), (-5.05, []), (-5.2, ["tokenizer"]), (-9.0, ["tokenizer"])])
def test_completions_that_are_less_likely_than_a_guess_show_another_tokenizer(mean: float, names: list[str]) -> None:
    found = TokenLikelihood(Estimate(mean, 0.05, mean - 0.1, mean + 0.1, 50), -4.0)
    assert named(0.7, likelihood=found) == names
