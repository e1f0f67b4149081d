"""The loop: every example once an epoch, from the step's number alone; resumed runs end as straight ones."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from palate.core import Advance, ConfigError, Interrupted, TrainingError
from palate.objectives.reduce import Sums
from palate.training import checkpoints
from palate.training.fit import Epochs, fit, measured
from palate.training.keep import Best, BestReward, HeldOut, HeldOutMeasurement
from palate.training.learner import Learner
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
        self.logged: list[int] = []

    keeps_state = False

    stage = "toy"

    @property
    def stop_requested(self) -> bool:
        return self.stop_after is not None and len(self.rows) >= self.stop_after

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert step not in self.rows
        self.rows[step] = metrics
        self.logged.append(step)

    def rewind(self, step: int) -> None:
        self.rows = {k: row for k, row in self.rows.items() if k < step}

    @contextmanager
    def progress(self, total: int, label: str) -> Iterator[Advance]:
        yield lambda n=1, note="": None

    def check_stop(self) -> None:
        if self.stop_requested:
            raise Interrupted("stopped")


EPOCHS = Epochs(10, 4, 2.0, 0)


def work(
    run: Notes, keep: Best | BestReward | None = None, measured: Sequence[float | HeldOutMeasurement] = ()
) -> tuple[dict[str, float], Tensor]:
    """Trains; with `keep`, what is measured after step k is `measured[k - 1]`."""
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    data = torch.randn(10, 3)
    learner = Learner({"net": net}, AdamW(lr=0.1), EPOCHS.steps)

    def loss(rows: Tensor) -> Sums:
        return Sums((net(rows) - 1).square().sum(), torch.tensor(float(len(rows))), {})

    held_out = None if keep is None else HeldOut(keep, lambda: measured[learner.steps_done - 1])
    last = fit(run, learner, EPOCHS, lambda indices: list(data[indices].split(3)), loss, held_out)
    return last, net.weight.detach().clone()


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
    assert stopped.logged == list(range(6)), "no step is taken twice"
    assert again == last  # also where nothing was left to do


def test_a_kill_costs_the_steps_since_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = Notes(tmp_path / "straight")
    _, weight = work(straight)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
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


def weight_after(steps: int, folder: Path) -> Tensor:
    """The weight after so many steps of a run whose best weights are those."""
    return work(Notes(folder), Best(every=1), [0.0 if k + 1 == steps else 1.0 for k in range(6)])[1]


@pytest.mark.parametrize(
    ("keep", "measured", "at", "best"),
    [
        (Best(every=1), [5, 4, 3, 2, 1, 0], [1, 2, 3, 4, 5, 6], 6),
        (Best(every=1), [5, 2, 3, 4, 2, 9], [1, 2, 3, 4, 5, 6], 2),
        (Best(every=4), [0, 0, 0, 7, 0, 8], [4, 6], 4),
        (Best(), [0, 0, 7, 0, 0, 6], [3, 6], 6),
        (Best(every=1, patience=2), [5, 4, 6, 3, 4, 4], [1, 2, 3, 4, 5, 6], 4),
        (Best(every=1, patience=2), [5, 4, 6, 4, 1, 1], [1, 2, 3, 4], 2),
        (Best(every=1, patience=1), [5, 6, 1, 1, 1, 1], [1, 2], 1),
    ],
)
def test_the_weights_that_did_best_are_kept(keep: Best, measured: list[float], at: list[int], best: int, tmp_path: Path) -> None:
    run = Notes(tmp_path / "run")
    last, weight = work(run, keep, measured)
    assert [step + 1 for step, row in run.rows.items() if "toy/held_out_loss/mean" in row] == at
    assert max(run.rows) + 1 == at[-1]
    assert (last["best_step"], last["best_held_out_loss"]) == (best, measured[best - 1])
    assert torch.equal(weight, weight_after(best, tmp_path / "other"))


@pytest.mark.parametrize(
    ("budget", "rewards", "kls", "best"),
    [
        (None, [1, 2, 9, 3, 4, 5], [1, 2, 50, 4, 5, 6], 3),  # at any distance
        (5, [1, 2, 9, 3, 4, 8], [1, 2, 50, 4, 5, 6], 5),  # the highest within the budget, its bound included
        (5, [1, 1, 1, 1, 1, 1], [5, 4, 3, 2, 1, 0], 1),  # equal ones: the first
        (5, [9, 8, 1, 7, 7, 7], [60, 50, 4, 30, 20, 10], 3),  # one within the budget beats all beyond it
        (5, [1, 9, 2, 3, 4, 5], [9, 60, 8, 7, 8, 9], 4),  # none within it: the nearest to it
        (5, [-3, -1, -2, -4, -5, -6], [1, 1, 1, 1, 1, 1], 2),
    ],
)
def test_the_highest_reward_within_the_budget_is_kept(
    budget: float | None, rewards: list[float], kls: list[float], best: int, tmp_path: Path
) -> None:
    run = Notes(tmp_path / "run")
    found = [HeldOutMeasurement.of_reward(*pair, {}) for pair in zip(rewards, kls, strict=True)]
    last, weight = work(run, BestReward(kl_budget=budget), found)
    assert [row["toy/held_out_reward/mean"] for row in run.rows.values()] == rewards
    assert [row["toy/held_out_kl/mean"] for row in run.rows.values()] == kls
    assert (last["best_step"], last["best_held_out_reward"], last["best_held_out_kl"]) == (best, rewards[best - 1], kls[best - 1])
    assert torch.equal(weight, weight_after(best, tmp_path / "other"))


def test_a_budget_is_above_0() -> None:
    with pytest.raises(ConfigError, match="kl_budget must be above 0, got 0"):
        BestReward(kl_budget=0)
    with pytest.raises(ConfigError, match="patience must be at least 1, got 0"):
        BestReward(patience=0)


@pytest.mark.parametrize("killed_at", [0, 2, 3, 4])
def test_the_search_for_the_best_goes_on_as_if_it_had_not_been_stopped(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, measured = Best(every=1, patience=3), [5.0, 2, 3, 4, 4, 1]
    straight = Notes(tmp_path / "straight")
    expected = work(straight, keep, measured)
    assert len(straight.rows) == 5
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    run = Notes(tmp_path / "killed")
    log = run.log

    def deadly(step: int, metrics: Mapping[str, float]) -> None:
        log(step, metrics)
        if step == killed_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "log", deadly)
        work(run, keep, measured)
    last, weight = work(run, keep, measured)
    assert run.rows == straight.rows
    assert last == expected[0]
    assert torch.equal(weight, expected[1])


def test_a_held_out_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="after step 2 the loss on held-out data is nan"):
        work(Notes(tmp_path / "run"), Best(every=1), [1.0, float("nan")])


@pytest.mark.parametrize("setting", [{"every": 0}, {"patience": 0}])
def test_searches_that_look_never_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} must be at least 1, got 0"):
        Best(**setting)


def test_the_mean_loss_is_over_units_not_over_batches() -> None:
    parts = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]
    weight = torch.ones(1, requires_grad=True)
    assert measured(parts, lambda x: Sums((weight * x).sum(), torch.tensor(float(len(x))), {})).loss == 4.0
    assert weight.grad is None


def test_a_loss_that_is_no_number_names_the_examples_and_saves_the_weights_before(tmp_path: Path) -> None:
    epochs = Epochs(10, 4, 2.0, 0, lambda k: f"file:{k}")
    net = nn.Linear(3, 1)
    learner = Learner({"net": net}, AdamW(lr=0.1), epochs.steps)
    data = torch.randn(10, 3)
    broken = epochs.indices(2)[0]
    assert not {broken} & {k for step in (0, 1) for k in epochs.indices(step)}
    data[broken] = float("nan")

    def loss(rows: Tensor) -> Sums:
        return Sums(net(rows).square().sum(), torch.tensor(float(len(rows))), {})

    named = ", ".join(f"file:{k}" for k in sorted(epochs.indices(2)))
    with pytest.raises(
        TrainingError, match=rf"step 2: the loss is nan .* examples: {named}\. The weights before this step are in .*/run/learner"
    ):
        fit(Notes(tmp_path / "run"), learner, epochs, lambda indices: list(data[indices].split(1)), loss)
    before = net.weight.detach().clone()
    fresh = nn.Linear(3, 1)
    again = Learner({"net": fresh}, AdamW(lr=0.1), epochs.steps)
    assert again.load(tmp_path / "run" / "learner") is not None
    assert again.steps_done == 2
    assert torch.equal(fresh.weight, before)


def test_large_steps_are_not_named_to_their_end() -> None:
    assert Epochs(100, 60, 1.0, 0).names(0).endswith(" and 20 more")
    assert Epochs(3, 3, 1.0, 0).names(0) == "example 1, example 2, example 3"
