"""Which device a setting names, and what is told where it is not there."""

from __future__ import annotations

import pytest
import torch

from palate.core import ConfigError
from palate.core.process import computing_on
from palate.distributed.launch import launch
from palate.models.devices import current_device, find_device, out_of_memory

HAS_CUDA = torch.cuda.is_available()


def test_a_process_computes_on_the_cpu_unless_it_is_told_another_device() -> None:
    assert current_device() == torch.device("cpu")
    with computing_on("auto"):
        assert current_device() == (torch.device("cuda", 0) if HAS_CUDA else torch.device("cpu"))
    with pytest.raises(ConfigError), computing_on("nowhere"):
        current_device()
    assert current_device() == torch.device("cpu")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch was built with CUDA")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_torch_without_cuda_says_so_and_what_to_install(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"device is {name}, and torch \S+ was built without CUDA. Install a build with it \(`pip install --force-reinstall",
    ):
        find_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "xla"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use auto, cpu, cuda, mps, or one of several such as cuda:1"):
        find_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_mps_is_apples() -> None:
    with pytest.raises(ConfigError, match="this machine has no MPS"):
        find_device("mps")


@pytest.mark.parametrize(
    ("name", "cards", "rank", "told"),
    [
        ("cuda", 0, 0, r"device is cuda, and torch \S+ \(CUDA 12.8\) finds no GPU that it can use. Look at nvidia-smi"),
        ("cuda:2", 2, 0, r"device is cuda:2, and there are 2 GPUs, counted from 0: use one of them"),
        ("auto", 2, 2, r"there are 2 GPUs on this machine, and rank 2 is number 2 on it, counted from 0. Start at most one rank per GPU"),
    ],
)
def test_cards_that_are_not_there_are_named(name: str, cards: int, rank: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    for variable in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(variable, str(rank))
    with pytest.raises(ConfigError, match=told):
        find_device(name)


def test_more_ranks_than_cards_are_refused_before_any_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--launch torchrun:3: this machine has 2 GPUs. Start at most one process per GPU"):
        launch("torchrun:3", "run", [])


def test_other_errors_do_not_speak_of_memory() -> None:
    assert out_of_memory(RuntimeError("CUDA error"), "cpu") is None
