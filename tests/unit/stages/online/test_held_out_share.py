"""The held-out reward model can score a part of the completions: the first ones of each prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.models.scalar import scalar_from
from palate.stages.online.measurements import held_out_scores
from palate.testing import tiny_policy, word_tokenizer
from tests.unit.stages.online.toy import configured, started, trained


@pytest.mark.parametrize(("most", "count"), [(1, 8), (3, 24), (None, 32)])
def test_it_scores_the_first_completions_of_each_prompt(most: int | None, count: int, data: Path, tmp_path: Path) -> None:
    scalar_from(tiny_policy("qwen3", word_tokenizer()), ("overall",), seed=0).save(tmp_path / "other")
    stage = configured(data, iterations=1, held_out={"reward": str(tmp_path / "other"), "completions": most})
    _, (row,) = trained(stage, tmp_path / "run")
    loop = started(stage, tmp_path / "loop")
    assert loop.held_out_reward is not None
    scores = held_out_scores(loop.held_out_reward, loop.sample(loop.prompt(8))).view(8, 4)[:, :most].flatten()
    assert len(scores) == count
    assert row["held_out_score/mean"] == pytest.approx(float(scores.mean()), abs=1e-6)
    assert row["held_out_score/se"] == pytest.approx(float(scores.std()) / count**0.5, rel=1e-4)
