"""What is measured of the completions beside the reward: held-out scores of the first ones of each prompt, lengths and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palate.models.scalar import scalar_from
from palate.stages.online.measurements import held_out_scores
from palate.stages.online.score_metrics import written_metrics
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


def test_the_errors_of_lengths_and_refusals_have_prompts_as_the_units(data: Path, tmp_path: Path) -> None:
    loop = started(configured(data), tmp_path / "loop")
    drawn = loop.sample(loop.prompt(4))
    refused = ((True, True, True, False), (False, False, False, False), (True, False, False, False), (False, False, False, False))
    groups = tuple(
        tuple(replace(one, text="i can not help" if flag else "with rice") for one, flag in zip(group, flags, strict=True))
        for group, flags in zip(drawn.groups, refused, strict=True)
    )
    rollouts = replace(drawn, groups=groups)
    shares = torch.tensor(refused).float().mean(1)
    written = written_metrics(rollouts)
    assert (written["refusals/share"], written["refusals/se"]) == pytest.approx((0.25, float(shares.std()) / 2), rel=1e-5)
    one = written_metrics(replace(drawn, groups=groups[1:2], prompts=drawn.prompts[1:2]))
    assert one["refusals/share"] == 0.0
    assert "refusals/se" not in one
    scored, metrics = loop.score(drawn)
    recorded = loop.record(scored, 0.1, metrics)
    lengths = drawn.lengths.view(4, -1).float().mean(1)
    assert recorded["online/length/mean"] == pytest.approx(float(lengths.mean()))
    assert recorded["online/length/se"] == pytest.approx(float(lengths.std()) / 2, rel=1e-5)
