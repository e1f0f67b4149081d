"""Every stage gives the same numbers on another device, which refuses tensors of the CPU as a GPU does."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import spawn
from pathlib import Path

import pytest
import yaml

from palate.runs.record import list_runs, read_record
from palate.testing.pretend_device import NAME
from tests.device import work
from tests.support.once import once
from tests.support.quantised import needs_bitsandbytes
from tests.support.run_numbers import numbers
from tests.support.warm_python import executable

STAGES = tuple(yaml.safe_load(work.PIPELINE.read_text())["stages"])
NARROW = ("sft-lora", "sft-half")
"""They compute in bfloat16, which keeps 8 bits, or in float16, which keeps 11."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process that knows the device, with the libraries loaded."""
    own = os.fsdecode(spawn.get_executable())
    spawn.set_executable(executable())
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), work.prepare) as made:
            made.submit(os.getpid).result()  # it is started with the first task
            spawn.set_executable(own)
            yield made
    finally:
        spawn.set_executable(own)


def directories(**folders: Path) -> dict[str, dict[str, Path]]:
    """The directories of the stages, by device and name."""
    return {device: {record.name: path for path, record in list_runs(folder)} for device, folder in folders.items()}


@pytest.fixture(scope="module")
def runs(pool: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """The directories of the stages, by device and name. On the CPU they ran in a process that does not know the device."""
    folder = tmp_path_factory.mktemp("device")
    pool.submit(work.on_the_device, folder).result()
    return directories(cpu=once(tmp_path_factory, "every-stage", work.on_the_cpu), **{NAME: folder})


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_the_numbers_of_the_cpu(runs: dict[str, dict[str, Path]], stage: str) -> None:
    here, there = numbers(runs["cpu"][stage]), numbers(runs[NAME][stage])
    assert here.keys() == there.keys()
    far = {at: (here[at], there[at]) for at in here if not math.isclose(here[at], there[at], rel_tol=1e-5, abs_tol=limit(stage))}
    assert far == {}


def limit(stage: str) -> float:
    return 1e-2 if stage in NARROW else 1e-5


def test_the_record_says_where_models_were(runs: dict[str, dict[str, Path]]) -> None:
    recorded = {device: read_record(paths["sft"]).device for device, paths in runs.items()}  # type: ignore[union-attr]
    assert recorded == {"cpu": "cpu", NAME: NAME}
    assert read_record(runs[NAME]["world"]).device is None  # type: ignore[union-attr]


def test_the_record_says_what_auto_meant(runs: dict[str, dict[str, Path]]) -> None:
    recorded = {stage: read_record(runs[NAME][stage]).dtype for stage in ("sft", "sft-lora", "samples", "world")}  # type: ignore[union-attr]
    assert recorded == {"sft": "float32", "sft-lora": None, "samples": "float32", "world": None}


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    there, on_the_cpu = pool.submit(work.continued, tmp_path).result()
    assert there == 0
    assert on_the_cpu < 1e-5


def test_tokens_are_drawn_on_the_cpu_where_the_device_has_no_float64(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    assert pool.submit(work.drawn, tmp_path).result() == [True] * 3


@pytest.mark.slow
@needs_bitsandbytes
def test_on_a_base_of_four_bits_stages_give_the_numbers_of_the_cpu(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    folders = {"cpu": tmp_path / "cpu", NAME: tmp_path / NAME}
    pool.submit(work.on_the_cpu, folders["cpu"], work.QUANTISED).result()
    pool.submit(work.on_the_device, folders[NAME], work.QUANTISED).result()
    found = directories(**folders)
    for stage in ("sft", "reward", "direct", "ppo"):
        here, there = numbers(found["cpu"][stage]), numbers(found[NAME][stage])
        assert here.keys() == there.keys()
        assert {at: (here[at], there[at]) for at in here if not math.isclose(here[at], there[at], rel_tol=1e-5, abs_tol=2e-5)} == {}


def test_a_loaded_model_is_on_the_device_and_its_results_are_on_the_cpu(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    found = pool.submit(work.devices_of_results, tmp_path).result()
    assert found.pop("module") == NAME
    assert found.pop("path") == "packed", "a transfer that is forgotten there lets the model take the padded path"
    assert set(found.values()) == {"cpu"}
    assert len(found) == 6


def test_a_single_stage_computes_on_its_device(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    assert pool.submit(work.tuned, tmp_path).result() == (NAME, NAME)


def test_a_model_that_is_larger_than_the_device_is_refused_before_it_is_loaded(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    code, told = pool.submit(work.refused, tmp_path, 80e9).result()
    assert code == 2
    assert "sft: its weights, gradients and moments alone need 128.5 GB of pretend, which has 80.0 GB: policy 128.5 (weights 32.1, " in told
    assert not (tmp_path / "runs" / "sft").exists()
    code, told = pool.submit(work.refused, tmp_path, 200e9).result()
    assert "no file named model.safetensors" in told


def test_frozen_models_are_on_the_device_only_while_they_compute(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    found = pool.submit(work.offloaded, tmp_path, method={"advantage": "leave_one_out"}).result()
    assert found.rows[0] == found.rows[1]
    assert found.is_alike
    off = {(NAME, "cpu", "cpu")}
    assert found.at == {"sample": off, "reward": {(NAME, "cpu", NAME)}, "reference": {(NAME, NAME, "cpu")}, "learn": off}


def test_a_reference_that_is_the_policy_without_its_adapter_stays(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    found = pool.submit(work.offloaded, tmp_path, adapters={"rank": 2}).result()
    assert found.rows[0] == found.rows[1]
    assert found.at["learn"] == {(NAME, NAME, "cpu")}


def test_a_value_head_on_the_policy_is_where_the_policy_is(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    found = pool.submit(work.offloaded, tmp_path, method={"value_trunk": "shared"}, iterations=1).result()
    assert found.rows[0] == found.rows[1]
    assert found.is_alike


def test_weights_come_back_as_they_were(pool: ProcessPoolExecutor) -> None:
    places, is_same, is_tied, lost = pool.submit(work.moved_and_back).result()
    assert places == [NAME, "cpu", "cpu", NAME, "cpu", NAME, "cpu"]
    assert is_same
    assert is_tied
    assert lost == 0


def test_new_heads_are_where_their_backbone_is(pool: ProcessPoolExecutor) -> None:
    assert pool.submit(work.devices_of_new_heads).result() == {NAME}
