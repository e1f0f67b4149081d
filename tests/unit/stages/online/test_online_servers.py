"""Online training whose completions vLLM's servers draw: it learns, a server may die, and a run without servers goes on later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from palate.config.types import fields_outside_key
from palate.core import RunError
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy, new_policy
from palate.testing import word_tokenizer
from palate.training import checkpoints
from tests.support.real_vllm import vllm_python, vllm_serving
from tests.support.vllm_server import ServedVLLM
from tests.unit.samplers.conftest import VLLM_SIZE
from tests.unit.stages.online.toy import SLOW, configured, gain, trained, weights

Rows = list[dict[str, float]]


@pytest.fixture(scope="module")
def base(data: Path) -> CausalPolicy:
    return load_policy(data / "base")


@pytest.fixture
def start(base: CausalPolicy) -> Iterator[Callable[[], ServedVLLM]]:
    """Starts a server with the base model."""
    running: list[ServedVLLM] = []

    def started() -> ServedVLLM:
        running.append(ServedVLLM(base))
        return running[-1]

    yield started
    for one in running:
        one.close()


def asked(data: Path, *served: ServedVLLM, **changed: Any) -> Any:
    sampler = {"kind": "vllm_servers", "servers": [one.url for one in served], "model": "small", "attempts": 2}
    few = {"prompts_per_iteration": 4, "samples_per_prompt": 8}  # a request for each prompt
    return configured(data, sampler={**sampler, **changed.pop("sampler", {})}, **few, **changed)


def near(rows: Rows, others: Rows) -> None:
    """The same run but for rounding."""
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        for name in ("score/mean", "length/mean", "kl/mean"):
            assert row[name] == pytest.approx(other[name], abs=1e-4)


@pytest.mark.parametrize("sampler", [{}, {"asynchronous": 1}, {"correction": None, "sleep": True}])
def test_it_learns_what_it_learns_from_its_own_completions(
    sampler: Mapping[str, object], data: Path, tmp_path: Path, start: Callable[[], ServedVLLM]
) -> None:
    run, rows = trained(asked(data, start(), start(), sampler=sampler), tmp_path)
    assert gain(rows) > 1.6
    is_late = bool(sampler.get("asynchronous"))
    assert [row["staleness/mean"] for row in rows] == [0, *[float(is_late)] * (len(rows) - 1)]
    if "correction" in sampler:
        assert all("engine_gap/mean" not in row for row in rows)
    elif not is_late:
        assert all(row["engine_gap/mean"] < 1e-5 for row in rows)
        assert all(abs(row["engine_ratio/mean"] - 1) < 1e-4 for row in rows)
    assert not (run.directory / "state").exists()


def test_a_server_that_is_killed_changes_no_number(
    data: Path, tmp_path: Path, start: Callable[[], ServedVLLM], capfd: pytest.CaptureFixture[str]
) -> None:
    _, whole = trained(asked(data, start(), start(), iterations=3), tmp_path / "whole")
    one, other = start(), start()

    def dying(body: Mapping[str, Any]) -> Any:
        if one.told.count("reload_weights") < 2:
            return one.complete(body)
        threading.Thread(target=one.close).start()
        return 200, b"{", {"Content-Length": "1000"}

    one.answering(dying)
    _, rows = trained(asked(data, one, other, iterations=3), tmp_path / "killed")
    near(rows, whole)
    assert capfd.readouterr().err.count(f"{one.url} cannot be reached") == 1


@pytest.mark.parametrize("asynchronous", [0, 1])
def test_a_run_without_servers_stops_with_one_message_and_goes_on_with_others(
    asynchronous: int, data: Path, tmp_path: Path, start: Callable[[], ServedVLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    settings: dict[str, Any] = {"iterations": 3, "sampler": {"asynchronous": asynchronous}}
    one = start()
    whole, expected = trained(asked(data, one, **settings), tmp_path / "whole")
    last = start()

    def gone(body: Mapping[str, Any]) -> Any:
        if last.told.count("reload_weights") < 2:
            return last.complete(body)
        threading.Thread(target=last.close).start()
        return 200, b"{", {"Content-Length": "1000"}

    last.answering(gone)
    with pytest.raises(RunError, match="no server of sampler.servers draws completions.*the same command goes on from the last checkpoint"):
        trained(asked(data, last, **settings), tmp_path / "stopped")
    run, rows = trained(asked(data, start(), **settings), tmp_path / "stopped")
    assert run.is_resumed
    near(rows, expected)
    ours, theirs = weights(run), weights(whole)
    assert all(ours[name].allclose(theirs[name], atol=1e-4) for name in theirs)


def test_the_adapter_alone_may_go_to_the_servers(data: Path, tmp_path: Path, start: Callable[[], ServedVLLM]) -> None:
    one = start()
    held = {"held_out": {"prompts": str(data / "prompts.jsonl"), "limit": 6}, "keep": {"kind": "best_reward", "kl_budget": 8.0}}
    stage = asked(data, one, sampler={"update": "adapter"}, adapters={"rank": 4}, iterations=2, **held)
    _, rows = trained(stage, tmp_path)
    assert all(row["engine_gap/max"] < 1e-4 for row in rows)
    assert all("held_out_reward/mean" in row for row in rows)
    assert "reload_weights" not in one.told
    assert one.adapters == {}


def test_addresses_and_limits_are_no_part_of_what_a_run_is(data: Path, start: Callable[[], ServedVLLM]) -> None:
    outside = {name for name in fields_outside_key(asked(data, start())) if name.startswith("sampler.")}
    names = ("servers", "model", "directory", "key_variable", "concurrency", "timeout_seconds", "attempts", "sleep")
    assert outside == {f"sampler.{name}" for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [{}, {"asynchronous": 1}])
def test_it_learns_from_what_the_servers_of_vllm_draw(sampler: Mapping[str, object], data: Path, tmp_path: Path) -> None:
    vllm_python()
    new_policy(word_tokenizer(), VLLM_SIZE, seed=1).save(tmp_path / "base")
    (tmp_path / "prompts.jsonl").write_bytes((data / "prompts.jsonl").read_bytes())
    with vllm_serving(tmp_path / "base") as address:
        given = {"kind": "vllm_servers", "servers": [address], "model": "small", "attempts": 1, **sampler}
        _, rows = trained(configured(tmp_path, sampler=given, optimizer={**SLOW, "lr": 0.004}), tmp_path / "runs")
    assert gain(rows) > 1.3
    assert [row["staleness/mean"] for row in rows] == [0, *[float("asynchronous" in sampler)] * (len(rows) - 1)]
    assert max(row["first_log_ratio/max"] for row in rows[:1]) < 1e-3
    if not sampler:
        assert all(0 < row["engine_gap/mean"] < 1e-4 for row in rows)
