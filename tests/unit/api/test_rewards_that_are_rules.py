"""A classifier of rules is refused where a stage takes a reward model, by its path and before anything is sampled."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import palate
from palate.core import ModelError
from palate.models.causal import CausalPolicy
from palate.models.reward_file import RULE_HEAD
from palate.models.scalar import scalar_from
from palate.samplers.local import LocalSampler

ASKED = ["the cook has rice", "the cook has beans"]

STAGES: dict[str, Callable[[str, str, Path], object]] = {
    "rerank.reward": lambda model, reward, runs: palate.rerank(model=model, prompts=ASKED, reward=reward, n=2, runs=runs),
    "evaluate.held_out_reward": lambda model, reward, runs: palate.evaluate(model=model, prompts=ASKED, held_out_reward=reward, runs=runs),
    "compare.reward": lambda model, reward, runs: palate.compare(
        policies={"one": model, "other": str(Path(model).with_name("other"))}, prompts=ASKED, reward=reward, runs=runs
    ),
    "online.reward": lambda model, reward, runs: palate.online(model=model, prompts=ASKED, reward=reward, runs=runs),
}


@pytest.mark.parametrize("setting", STAGES)
def test_a_classifier_of_rules_is_refused_before_anything_is_sampled(
    setting: str, base: CausalPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.save(tmp_path / "base")
    scalar_from(str(tmp_path / "base"), (RULE_HEAD,), seed=1).save(tmp_path / "rules")
    base.save(tmp_path / "other")
    sampled = []
    generate = LocalSampler.generate
    monkeypatch.setattr(LocalSampler, "generate", lambda *given, **named: sampled.append(1) or generate(*given, **named))
    with pytest.raises(ModelError, match=f"{setting}: {re.escape(str(tmp_path / 'rules'))} is a classifier of rules and not a reward"):
        STAGES[setting](str(tmp_path / "base"), str(tmp_path / "rules"), tmp_path / "runs")
    assert not sampled


def test_a_classifier_of_rules_is_not_loaded_as_a_reward(base: CausalPolicy, tmp_path: Path) -> None:
    base.save(tmp_path / "base")
    scalar_from(str(tmp_path / "base"), (RULE_HEAD,), seed=1).save(tmp_path / "rules")
    with pytest.raises(ModelError, match=f"{re.escape(str(tmp_path / 'rules'))} is a classifier of rules"):
        palate.load_reward(tmp_path / "rules")
