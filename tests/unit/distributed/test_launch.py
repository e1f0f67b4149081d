"""How `--launch` is read."""

import importlib.util

import pytest

from palate.core import ConfigError
from palate.distributed.launch import RAY, TORCHRUN, launch


@pytest.mark.parametrize(
    ("how", "count", "address"),
    [
        ("ray", None, None),
        ("ray:4", "4", None),
        ("ray:4:10.0.0.1:6379", "4", "10.0.0.1:6379"),
        ("ray:head:6379", None, "head:6379"),
        ("ray:10.0.0.1:6379", None, "10.0.0.1:6379"),
        ("ray:auto", None, "auto"),
    ],
)
def test_the_workers_and_the_address_of_ray(how: str, count: str | None, address: str | None) -> None:
    match = RAY.fullmatch(how)
    assert match is not None
    assert match.groups() == (count, address)


@pytest.mark.parametrize("how", ["torchrun", "torchrun:", "torchrun:0", "torchrun:-1", "torchrun:two", "slurm:2", ""])
def test_another_launcher_is_refused_with_the_right_form(how: str) -> None:
    assert TORCHRUN.fullmatch(how) is None
    with pytest.raises(ConfigError, match="use torchrun:N, where N is the number of processes"):
        launch(how, "run", [])


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_message_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'ray\[train\]'"):
        launch("ray:2", "run", [])
