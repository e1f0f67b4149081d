"""The held-out reward model can score a part of the completions: the first ones of each prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.models.scalar import scalar_from
from palate.stages.online.measurements import held_out_scores
from palate.testing import tiny_policy, word_tokenizer
from tests.unit.stages.online.toy import configured, started


@pytest.mark.parametrize(("most", "count"), [(1, 8), (3, 24), (None, 32)])
def test_it_scores_the_first_completions_of_each_prompt(most: int | None, count: int, data: Path, tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(tmp_path / "other")
    loop = started(configured(data, held_out={"reward": str(tmp_path / "other"), "completions": most}), tmp_path / "loop")
    assert loop.held_out_reward is not None
    rollouts = loop.sample(loop.prompt(8))
    _, metrics = loop.score(rollouts)
    scores = held_out_scores(loop.held_out_reward, rollouts).view(8, 4)[:, :most]
    assert scores.numel() == count
    assert metrics["held_out_score/mean"] == pytest.approx(float(scores.mean()), abs=1e-6)
    assert metrics["held_out_score/se"] == pytest.approx(float(scores.mean(1).std()) / 8**0.5, rel=1e-4)  # prompts are the units
