"""The loop: every example once an epoch, from the step's number alone; resumed runs end as straight ones."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from palate.core import Advance, ConfigError, Interrupted
from palate.objectives.reduce import Sums
from palate.training import loop
from palate.training.learner import Learner
from palate.training.loop import Epochs, fit
from palate.training.optimizer import AdamW


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5))
def test_every_example_comes_once_an_epoch(examples: int, per_step: int, epochs: int, seed: int) -> None:
    order = Epochs(examples, per_step, epochs, seed)
    assert order.steps == epochs * order.steps_per_epoch
    for epoch in range(epochs):
        steps = [order.indices(epoch * order.steps_per_epoch + k) for k in range(order.steps_per_epoch)]
        assert Counter(index for step in steps for index in step) == Counter(range(examples))
        assert all(len(step) == per_step for step in steps[:-1])
        assert 1 <= len(steps[-1]) <= per_step


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [Epochs(50, 50, 2, seed).indices(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_steps_number_is_enough_to_go_on() -> None:
    fresh = [Epochs(17, 4, 3, 7).indices(step) for step in range(15)]
    assert [Epochs(17, 4, 3, 7).indices(step) for step in reversed(range(15))] == fresh[::-1]


def test_parts_of_an_epoch() -> None:
    assert [Epochs(100, 10, epochs, 0).steps for epochs in (0.01, 0.5, 1.0, 2.5)] == [1, 5, 10, 25]


@pytest.mark.parametrize(("examples", "per_step", "epochs"), [(0, 1, 1.0), (5, 0, 1.0), (5, 2, 0.0)])
def test_orders_without_steps_are_refused(examples: int, per_step: int, epochs: float) -> None:
    with pytest.raises(ConfigError):
        Epochs(examples, per_step, epochs, 0)


class Notes:
    """A tracker in memory that is asked to stop after some steps."""

    def __init__(self, state: Path, stop_after: int | None = None) -> None:
        self.state, self.stop_after = state, stop_after
        self.rows: dict[int, Mapping[str, float]] = {}

    @property
    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.rows) >= self.stop_after

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert step not in self.rows
        self.rows[step] = metrics

    def rewind(self, step: int) -> None:
        self.rows = {k: row for k, row in self.rows.items() if k < step}

    @contextmanager
    def progress(self, total: int, label: str) -> Iterator[Advance]:
        yield lambda n=1, note="": None

    def check_stop(self) -> None:
        if self.stop_requested:
            raise Interrupted("stopped")


EPOCHS = Epochs(10, 4, 2.0, 0)


def work(run: Notes) -> tuple[dict[str, float], Tensor]:
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    data = torch.randn(10, 3)
    learner = Learner({"net": net}, AdamW(lr=0.1), EPOCHS.steps)

    def loss(rows: Tensor) -> Sums:
        return Sums((net(rows) - 1).square().sum(), torch.tensor(float(len(rows))), {})

    last = fit(run, learner, EPOCHS, lambda indices: list(data[indices].split(3)), loss, "toy")
    return last, net.weight.detach()


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(steps: int, tmp_path: Path) -> None:
    straight = Notes(tmp_path / "straight")
    last, weight = work(straight)
    assert list(straight.rows) == list(range(6))
    assert {f"toy/{name}": value for name, value in last.items()} == straight.rows[5]

    stopped = Notes(tmp_path / "stopped", stop_after=steps)
    with pytest.raises(Interrupted):
        work(stopped)
    assert len(stopped.rows) == steps
    stopped.stop_after = None
    again, resumed = work(stopped)
    assert torch.equal(resumed, weight)
    assert stopped.rows == straight.rows
    assert again == last  # also where nothing was left to do


def test_a_kill_costs_the_steps_since_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = Notes(tmp_path / "straight")
    _, weight = work(straight)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    run = Notes(tmp_path / "killed")
    log = run.log

    def deadly(step: int, metrics: Mapping[str, float]) -> None:
        log(step, metrics)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "log", deadly)
        work(run)
    assert sorted(run.rows) == [0, 1, 2, 3]  # the fourth was logged, but not saved
    _, resumed = work(run)
    assert torch.equal(resumed, weight)
    assert run.rows == straight.rows
