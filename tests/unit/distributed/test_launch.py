"""How `--launch` is read."""

import importlib.util
import socket

import pytest

from palate.cli import main
from palate.core import ConfigError, RunError
from palate.distributed.group import lost
from palate.distributed.launch import RAY, TORCHRUN, launch
from palate.distributed.ranks import ALONE
from palate.distributed.ray_workers import _require_answer


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


def test_a_cluster_that_does_not_answer_is_named_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = "{}:{}".format(*closed.getsockname())
        with pytest.raises(RunError, match=rf"no cluster answers at {address} .* Is `ray start` running there"):
            _require_answer(address)
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{address}")
        with pytest.raises(RunError, match=rf"no cluster answers at {address}"):
            _require_answer(None)
        closed.listen()
        _require_answer(None)


@pytest.mark.parametrize(
    ("variables", "code", "told"),
    [
        (
            {"RANK": "one", "WORLD_SIZE": "2"},
            2,
            "the environment variable RANK is 'one': it must be a whole number. Unset it, or use --launch",
        ),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 4, "this process is rank 0 of 2, and MASTER_ADDR and MASTER_PORT are not set"),
    ],
)
def test_a_place_among_ranks_that_makes_no_sense_is_one_message(
    variables: dict[str, str], code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["runs"]) == code
    assert told in capsys.readouterr().err


def test_an_address_in_use_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PALATE_RANK_DEADLINE": "5"}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        assert main(["runs"]) == 4
    told = capsys.readouterr().err
    assert f"rank 0 of 2 cannot meet the others at 127.0.0.1:{port} (" in told
    assert "address already in use" in told
    assert "Is the address right, free, and open to every node?" in told


def test_what_nccl_says_is_told() -> None:
    reason = "NCCL error in: group.cpp:1, invalid usage\nDuplicate GPU detected"
    assert lost(ALONE, 60, reason).startswith(
        "rank 0 of 1 lost the others: one has ended, or did not answer for 60 s. NCCL says: NCCL error in: group.cpp:1, invalid usage. The"
    )
    assert "says" not in lost(ALONE, 60, "Connection closed by peer")
