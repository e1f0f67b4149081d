"""Which device a setting names, and what is told where it is not there."""

from __future__ import annotations

import pytest
import torch

from palate.core import ConfigError
from palate.core.process import computing_on
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
    with pytest.raises(ConfigError, match=rf"device is {name}, and torch \S+ was built without CUDA. Install a build with it"):
        find_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "xla"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use auto, cpu, cuda, mps, or one of several such as cuda:1"):
        find_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_mps_is_apples() -> None:
    with pytest.raises(ConfigError, match="this machine has no MPS"):
        find_device("mps")


def test_other_errors_do_not_speak_of_memory() -> None:
    assert out_of_memory(RuntimeError("CUDA error"), "cpu") is None
