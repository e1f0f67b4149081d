"""What a run keeps that reaches a limit: weights within the KL budget, and the model of a run that a guard stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.core import TrainingError
from palate.runs.record import read_record
from palate.stages.online import stage as online
from palate.training import checkpoints
from palate.training.guards import Guards, Limit
from palate.training.measured_weights import MeasuredWeights
from tests.unit.stages.online.toy import SLOW, alike, configured, stored, summary, trained, weights

FREE: dict[str, Any] = {"optimizer": SLOW, "method": {"advantage": "leave_one_out"}}
BUDGET: dict[str, Any] = {"control": {"kind": "budget_kl", "nats": 1.0, "price": {"coef": 0.0}}}
UNPRICED: dict[str, Any] = {"control": {"coef": 0.0}}


@pytest.mark.parametrize("asynchronous", [0, 1])
def test_the_weights_that_are_kept_were_measured_within_the_budget(
    asynchronous: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[int] = []
    accept = MeasuredWeights.accept

    def listed(self: MeasuredWeights, iteration: int) -> None:
        accepted.append(iteration)
        accept(self, iteration)

    monkeypatch.setattr(MeasuredWeights, "accept", listed)
    settings = {**FREE, "sampler": {"asynchronous": asynchronous}}
    run, rows = trained(configured(data, **settings, kl=BUDGET, iterations=20), tmp_path / "budget")
    # With asynchronous sampling the second iteration learns from completions of the weights that the first one also sampled with.
    assert accepted[:2] == [0, 1 - asynchronous]
    assert rows[-1]["kl/mean"] > 1.0
    assert summary(run)["is_spent"]
    kept = summary(run)["budget_step"]
    # The last iteration was sampled with weights that are beyond the budget, and that are one iteration old with asynchronous sampling.
    assert 0 < kept <= len(rows) - 2 - asynchronous
    assert kept >= len(rows) - 4 - asynchronous
    shorter, _ = trained(configured(data, **settings, kl=UNPRICED, iterations=kept), tmp_path / "shorter")
    assert alike(weights(run), weights(shorter))
    # A run that ends by its iterations just when it is beyond the budget has nothing that measures its last weights.
    ended, again = trained(configured(data, **settings, kl=BUDGET, iterations=len(rows) - 1), tmp_path / "ended")
    assert again == rows[:-1]
    assert summary(ended)["budget_step"] < len(rows) - 1
    assert summary(ended)["is_spent"]


def test_a_guard_that_stops_keeps_the_last_model_within_its_limit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**FREE, "kl": UNPRICED, "iterations": 14}
    stopping = configured(data, **settings, guards={"kl": {"warn": None, "stop": 1.0, "patience": 2}})
    message = r"the guard 'kl' stopped the run: .*best model .* as (\d+) iterations made it\. .* guards\.kl\.stop=none"
    with pytest.raises(TrainingError, match=message):
        trained(stopping, tmp_path)
    (directory,) = tmp_path.glob("online-*")
    with pytest.raises(TrainingError, match=r"guards\.kl\.stop=none"):
        trained(stopping, tmp_path)
    straight, rows = trained(configured(data, **settings), tmp_path / "straight")
    first = next(k for k, row in enumerate(rows) if row["kl/mean"] > 1.0 and rows[k + 1]["kl/mean"] > 1.0)
    assert len((directory / "metrics.jsonl").read_text().splitlines()) == first + 2, "the same command did not go further"
    shorter, _ = trained(configured(data, **{**settings, "iterations": first - 1}), tmp_path / "shorter")
    assert alike(stored(directory / "model"), weights(shorter))
    record = read_record(directory)
    assert record is not None
    assert record.status == "failed"
    went_on, all_rows = trained(configured(data, **settings, guards={"kl": {"warn": None, "stop": None, "patience": 2}}), tmp_path)
    assert went_on.directory == directory
    assert went_on.is_resumed
    assert all_rows == rows
    assert alike(weights(went_on), weights(straight))


def test_a_number_that_is_not_finite_leaves_the_model_of_the_last_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterate = online.Loop.iterate

    def broken(loop: online.Loop) -> dict[str, float]:
        metrics = iterate(loop)
        return {**metrics, "online/loss/mean": float("nan")} if loop.iteration == 3 else metrics

    monkeypatch.setattr(online.Loop, "iterate", broken)
    with pytest.raises(TrainingError, match="No weights were saved before that, so there is no model"):
        trained(configured(data, **FREE), tmp_path / "fast")
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(TrainingError, match="as 2 iterations made it. Lower optimizer.lr"):
        trained(configured(data, **FREE), tmp_path / "slow")
    (directory,) = (tmp_path / "slow").glob("online-*")
    monkeypatch.undo()
    shorter, _ = trained(configured(data, **{**FREE, "iterations": 2}), tmp_path / "shorter")
    assert alike(stored(directory / "model"), weights(shorter))


def test_only_limits_that_stop_cost_weights_on_disk() -> None:
    assert not Guards().can_stop
    assert Guards(kl=Limit(stop=3.0)).can_stop
