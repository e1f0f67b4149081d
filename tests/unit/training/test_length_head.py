"""A length head beside the quality head: the loss as written down, any split of a batch, and what is left after training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from palate.core import Completion, ConfigError, Message, Preference, Prompt
from palate.data.jsonl import write_rows
from palate.models.adapters import LoRA
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.objectives.bradley_terry import BradleyTerry
from palate.stages.reward import Reward
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.text.pack import pack
from palate.training.comparisons import JudgedPrompt, judged_prompts
from palate.training.learner import Learner
from palate.training.length_head import LengthBatch, LengthHead, LengthPenalty, with_length, without_length
from palate.training.optimizer import AdamW
from palate.training.reward_batches import RewardBatch, RewardBatches
from tests.support.stages import column_of, ran, summary_of

DIMENSIONS = ("kind", "taste")
FILLER = " and so and so"


def preferences(count: int = 6) -> list[Preference]:
    """Pairs of different lengths on two dimensions."""
    found = []
    for k in range(count):
        prompt = Prompt(str(k), (Message("text", f"the cook {'has ' * (k % 3)}rice"),))
        sides = [Completion(" salt today" + FILLER * (k % 2)), Completion(" beans" + FILLER * ((k + 1) % 3))]
        found += [Preference(prompt, *sides, 0.9, dimension="kind"), Preference(prompt, *sides[::-1], 0.7, dimension="taste")]
    return found


@pytest.fixture
def model() -> ScalarModel:
    return scalar_from(tiny_policy("qwen3", word_tokenizer()), with_length(DIMENSIONS), seed=3)


@pytest.fixture
def judged(model: ScalarModel) -> list[JudgedPrompt]:
    return judged_prompts(preferences(), model.tokenizer, 100)[0]


Batches = Callable[[list[int]], Iterator[LengthBatch]]


def prepared(model: ScalarModel, judged: list[JudgedPrompt], tokens: int, settings: LengthHead) -> tuple[LengthPenalty, Batches]:
    data = RewardBatches.of(BradleyTerry(), judged, {})
    penalty = LengthPenalty(settings, model, data.loss_of_scores(None, lambda: 0.0))
    batches: Callable[[list[int]], Iterator[RewardBatch]] = data.batches(DIMENSIONS, tokens)
    return penalty, penalty.batches(batches)


def written_down(model: ScalarModel, judged: list[JudgedPrompt], settings: LengthHead) -> Tensor:
    """The loss of a whole batch, from the formula and nothing else."""
    trees = [one.tree for one in judged]
    scores = model.scores(pack(trees)).double()
    quality, length = scores[:, :2], scores[:, 2:]
    lengths = torch.tensor([float(len(branch.ids)) for tree in trees for branch in tree.branches], dtype=torch.float64)

    def correlation(column: Tensor) -> Tensor:
        both = torch.stack([column, lengths])
        return torch.corrcoef(both)[0, 1]

    losses, weights, start = [], 0, 0
    for one in judged:
        for pair in one.pairs:
            k = DIMENSIONS.index(pair.dimension)
            both = quality[:, k] + length[:, k]
            d = both[start + pair.chosen] - both[start + pair.rejected]
            losses.append(
                -pair.probability * torch.nn.functional.logsigmoid(d) - (1 - pair.probability) * torch.nn.functional.logsigmoid(-d)
            )
            weights += 1
        start += len(one.tree.branches)
    weight = model.module.get_submodule("score").weight.double()
    cosines = [torch.nn.functional.cosine_similarity(weight[k], weight[k + 2], 0).abs() for k in range(2)]
    apart = sum(correlation(quality[:, k]).abs() - correlation(length[:, k]) for k in range(2)) / 2
    return sum(losses) / weights + settings.decorrelation * apart + settings.orthogonality * sum(cosines) / 2  # type: ignore[return-value]


@pytest.mark.parametrize("settings", [LengthHead(), LengthHead(decorrelation=3.0, orthogonality=0.0), LengthHead(decorrelation=0.0)])
def test_the_gradient_is_that_of_the_formula_in_any_split_of_the_batch(
    model: ScalarModel, judged: list[JudgedPrompt], settings: LengthHead
) -> None:
    expected = written_down(model, judged, settings)
    expected.backward()  # type: ignore[no-untyped-call]
    wanted = {name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None}
    for tokens in (10_000, 40):
        model.module.zero_grad()
        penalty, batches = prepared(model, judged, tokens, settings)
        parts = list(batches(list(range(len(judged)))))
        assert (len(parts) > 2) == (tokens == 40)
        sums = [penalty(part) for part in parts]
        loss = sum(one.loss for one in sums) / sum(one.count for one in sums)
        loss.backward()  # type: ignore[union-attr]
        torch.testing.assert_close(loss.detach().double(), expected.detach(), atol=1e-5, rtol=1e-5)  # type: ignore[union-attr]
        for name, p in model.module.named_parameters():
            if name in wanted:
                torch.testing.assert_close(p.grad, wanted[name], atol=2e-6, rtol=1e-3, msg=name)


def test_a_step_reports_both_correlations(model: ScalarModel, judged: list[JudgedPrompt]) -> None:
    penalty, batches = prepared(model, judged, 40, LengthHead())
    learner = Learner({"reward": model.module}, AdamW(lr=1e-2), 10)
    metrics = [learner.step(batches(list(range(len(judged)))), penalty) for _ in range(10)]
    assert metrics[-1]["length_by_length/mean"] > metrics[0]["length_by_length/mean"]
    assert 0 <= metrics[0]["quality_by_length/mean"] <= 1


def test_the_length_heads_are_dropped_and_the_quality_heads_stay_as_they_are(model: ScalarModel, judged: list[JudgedPrompt]) -> None:
    trees = pack([one.tree for one in judged])
    with torch.inference_mode():
        before = model.scores(trees)
        kept = without_length(model)
        assert kept.heads == DIMENSIONS
        torch.testing.assert_close(kept.scores(trees), before[:, :2])


LONG = " and so and so and so"


def world(count: int, seed: int) -> list[dict[str, object]]:
    """Salt is better than rice, and judges like length beside it: the longer side wins three times in four."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        sides = [" salt today" + LONG * draw.randint(0, 2), " make rice" + LONG * draw.randint(0, 2)]
        is_longer = len(sides[0]) - len(sides[1])
        better = draw.random() < (0.75 if is_longer == 0 else 0.95 if is_longer > 0 else 0.35)
        rows.append({"prompt": " ".join(draw.choices(WORDS, k=5)), "chosen": sides[not better], "rejected": sides[better]})
    return rows


@pytest.mark.slow
def test_with_a_length_head_the_scores_follow_length_less(tmp_path: Path) -> None:
    tiny_policy("qwen3", word_tokenizer()).save(tmp_path / "base")
    write_rows(tmp_path / "pairs.jsonl", world(400, 1))
    write_rows(tmp_path / "held.jsonl", world(200, 2))
    settings: dict[str, Any] = {"held_out": str(tmp_path / "held.jsonl"), "prompts_per_step": 16, "epochs": 4, "optimizer": AdamW(lr=5e-3)}
    run = ran(
        Reward(str(tmp_path / "base"), str(tmp_path / "pairs.jsonl"), length_head=LengthHead(), **settings), tmp_path / "run", "reward"
    )
    length = summary_of(run)["length"]
    both, quality = length["both_heads"], length["quality_head"]
    assert both["correlation"]["low"] > 0.2
    assert quality["effect"]["high"] < both["effect"]["low"]
    assert abs(quality["correlation"]["value"]) < both["correlation"]["value"] / 3
    assert column_of(run, "reward/length_by_length/mean")[-1] > 0.8
    model = load_scalar(run / "model")
    assert model.heads == ("overall",)
    plain = AutoModelForSequenceClassification.from_pretrained(run / "model")
    assert plain.config.num_labels == 1


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="decorrelation must be >= 0"):
        LengthHead(decorrelation=-1)
    with pytest.raises(ConfigError, match="Leave one of them out"):
        Reward("m", "p", held_out="h", length_head=LengthHead(), adapters=LoRA()).check()
