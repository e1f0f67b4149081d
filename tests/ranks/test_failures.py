"""Whatever ends a run of several ranks, one message says it, and the run goes on with another number of ranks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from palate.cli import main
from tests.device.work import PIPELINE
from tests.ranks.commands import Runs, palate, runs_at, torchrun
from tests.ranks.forked import on_ranks
from tests.support.run_numbers import Numbers, numbers

pytestmark = pytest.mark.slow

TRAINED = """\
name: failing
seed: 4
inputs: {base: null, tuned: null, world: null, reward: null}
stages:
  sft: {stage: sft, model: $base, data: $world, demonstrations_per_step: 4, epochs: 1}
  ppo:
    stage: online
    model: $tuned
    reward: $reward
    prompts: $world
    iterations: 4
    prompts_per_iteration: 4
    samples_per_prompt: 2
    minibatches: 2
    epochs_per_batch: 1
    sampling: {max_tokens: 20}
    sampler: {asynchronous: 1}
    reward_requirements: {min_accuracy: 0}
"""


@pytest.fixture(scope="module")
def words(alone: Runs, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that run two stages of ten and of eight steps."""
    file = tmp_path_factory.mktemp("failing") / "failing.yaml"
    file.write_text(TRAINED)
    return [str(file), f"tuned={alone['sft'][0]}", *(f"{name}={alone[name][0]}" for name in ("base", "world", "reward"))]


@pytest.fixture(scope="module")
def straight(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Numbers]:
    """The numbers that the stages end with if nothing goes wrong."""
    folder = tmp_path_factory.mktemp("straight")
    assert main(["run", *words, "--runs", str(folder)]) == 0
    return {name: numbers(path) for name, (path, _) in runs_at(folder).items()}


@pytest.mark.parametrize(
    ("failure", "ranks", "then", "told"),
    [
        ("die:0:sft:4", 2, 1, "rank 1 of 2 lost the others"),
        ("die:1:ppo:2", 3, 2, "lost the others: one has ended, or did not answer for 60 s"),
        ("fail:1:sft:4", 2, 3, "no memory is left on this rank"),
        ("fill:0:sft:4", 2, 1, "no space left on the disk for the checkpoint"),
        ("half:0:sft:4", 2, 1, "rank 1 of 2 lost the others"),
        ("stop:1:ppo:2", 2, 1, "rank 1 was asked to stop, and the run is saved"),
    ],
)
def test_a_run_whose_ranks_fail_goes_on_with_another_number(
    straight: dict[str, Numbers], words: list[str], tmp_path: Path, failure: str, ranks: int, then: int, told: str
) -> None:
    stage, runs = failure.split(":")[2], tmp_path / "runs"
    command = ["run", *words, "--only", stage, "--runs", str(runs)]
    ended = on_ranks(ranks, command, tmp_path / "failing", failure, PALATE_RANK_DEADLINE="60")
    assert 0 not in ended.codes
    check_told(ended.stderr, told)
    check_is_kept(runs, stage)
    again = on_ranks(then, command, tmp_path / "again")
    assert again.codes == [0] * then, again.stderr
    path, record = runs_at(runs)[stage]
    assert record.status == "done"
    reached, wanted = numbers(path), straight[stage]
    assert reached.keys() == wanted.keys()
    assert {at for at in wanted if not math.isclose(wanted[at], reached[at], rel_tol=1e-5, abs_tol=1e-5)} == set()


def test_ranks_compute_a_step_again_together_where_a_gradient_overflows_on_one(words: list[str], tmp_path: Path) -> None:
    metrics = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        command = ["run", *words, "--only", "sft", "sft.dtype=float16", "--runs", str(folder / "runs")]
        ended = on_ranks(ranks, command, folder, "overflow")
        assert ended.codes == [0] * ranks, ended.stderr
        path, _ = runs_at(folder / "runs")["sft"]
        metrics.append([json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()])
    assert [row["step"] for row in metrics[1]] == list(range(10))
    for one, two in zip(*metrics, strict=True):
        assert two["sft/loss/mean"] == pytest.approx(one["sft/loss/mean"], rel=1e-2)
        assert two["sft/gradient/norm"] == pytest.approx(one["sft/gradient/norm"], rel=2e-2)


@pytest.mark.parametrize(
    ("failure", "told", "patience"),
    [
        ("die:1:sft:4", "rank 0 of 2 lost the others", 120),  # torchrun ends rank 0, which must have the time to say why
        ("hang:1:sft:4", "one has ended, or did not answer for 10 s", 5),  # rank 0 has said it; rank 1 never ends by itself
    ],
)
def test_torchrun_ends_all_ranks_when_one_is_killed_or_hangs(
    words: list[str], tmp_path: Path, failure: str, told: str, patience: int
) -> None:
    script = [str(Path(__file__).with_name("deadly.py")), failure, "run", *words, "--only", "sft", "--runs", str(tmp_path)]
    done = torchrun(2, patience, *script, PALATE_RANK_DEADLINE="10")
    assert done.returncode != 0
    check_told(done.stderr, told)
    check_is_kept(tmp_path, "sft")


def check_told(stderr: str, told: str) -> None:
    """One rank says why, and only one."""
    assert told in stderr
    assert stderr.count("palate: ") + stderr.count("MemoryError: ") == 1, stderr


def check_is_kept(runs: Path, stage: str) -> None:
    path, record = runs_at(runs)[stage]
    assert record.status != "done"
    assert (path / "state" / "learner").is_dir()


@pytest.mark.parametrize("how", ["torchrun", "torchrun:0", "slurm:2"])
def test_a_launcher_that_does_not_exist_is_refused(how: str) -> None:
    done = palate("run", str(PIPELINE), "--launch", how)
    assert done.returncode == 2
    assert f"--launch {how}: use torchrun:N" in done.stderr


def test_ranks_that_cannot_meet_say_where(tmp_path: Path) -> None:
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = palate("run", str(PIPELINE), "--runs", str(tmp_path), **place, PALATE_RANK_DEADLINE="1")
    assert done.returncode == 4
    assert "rank 1 of 2 cannot meet the others at 127.0.0.1:1" in done.stderr


def test_a_deadline_that_is_no_number_is_refused(tmp_path: Path) -> None:
    done = palate("run", str(PIPELINE), "--runs", str(tmp_path), WORLD_SIZE="2", PALATE_RANK_DEADLINE="soon")
    assert done.returncode == 4
    assert "PALATE_RANK_DEADLINE is 'soon': give seconds above 0" in done.stderr
