"""Checkpoints: whole or absent, whenever the process is killed; a full disk leaves the one before."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from palate.core import RunError
from palate.models import tensor_files
from palate.training.learner import load_checkpoint, save_checkpoint


class Killed(BaseException):
    """Stands for SIGKILL: nothing that catches errors sees it."""


def save(directory: Path, number: int) -> None:
    save_checkpoint(directory, {"a": torch.full((3,), float(number)), "b.step": torch.tensor(number)}, {"number": number, "x": 0.1})


def saved(directory: Path) -> int | None:
    """The number of the checkpoint there; every part of it must be of the same one."""
    checkpoint = load_checkpoint(directory)
    if checkpoint is None:
        return None
    tensors, numbers = checkpoint
    assert numbers == {"number": numbers["number"], "x": 0.1}
    assert tensors["a"].tolist() == [numbers["number"]] * 3
    assert int(tensors["b.step"]) == numbers["number"]
    return int(str(numbers["number"]))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert saved(tmp_path / "c") is None
    for number in (1, 2, 3):
        save(tmp_path / "c", number)
        assert saved(tmp_path / "c") == number
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


# Where the kill comes, and which checkpoint must be found then: before, or the new one.
MOMENTS = {"while writing": 1, "before the first rename": 1, "between the renames": 1, "before cleaning up": 2, "while cleaning up": 2}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, replace, rmtree = tmp_path / "c", Path.replace, shutil.rmtree
    save(directory, 1)

    def write(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise Killed

    def rename(path: Path, target: Path) -> Path:
        if moment == ("before the first rename" if target.suffix == ".old" else "between the renames"):
            raise Killed
        return replace(path, target)

    def remove(path: Path, *, ignore_errors: bool) -> None:
        if path.suffix == ".old" and path.exists() and moment.endswith("cleaning up"):
            if moment.startswith("while"):
                (path / "numbers.json").unlink()
            raise Killed
        rmtree(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "while writing":
            patch.setattr(tensor_files, "save_file", write)
        patch.setattr(Path, "replace", rename)
        patch.setattr(shutil, "rmtree", remove)
        save(directory, 2)
    assert saved(directory) == MOMENTS[moment]
    for number in (3, 4):  # and what the kill left lying about is in nobody's way
        save(directory, number)
        assert saved(directory) == number
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    directory, seen = tmp_path / "c", 0
    for kill in range(12):
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:  # saves one checkpoint after the other until it is killed, and tells of each
            for number in range(seen + 1, 1 << 30):
                save(directory, number)
                os.write(tell, b".")
            os._exit(0)
        os.close(tell)
        for _ in range(3):
            assert os.read(told, 1) == b"."
        for _ in range(2000 * kill):  # the kill comes later in a save each time, about; nothing depends on when
            pass
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        least = seen + 3 + len(os.read(told, 1 << 16))
        os.close(told)
        found = saved(directory)
        assert found is not None
        assert least <= found <= least + 1  # the last one may have been whole, and not yet told of
        seen = found


def test_the_first_checkpoint_is_absent_until_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(path: Path, target: Path) -> Path:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", rename)
        save(tmp_path / "c", 1)
    assert saved(tmp_path / "c") is None
    save(tmp_path / "c", 2)
    assert saved(tmp_path / "c") == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), SafetensorError("I/O error: No space left (os error 28)")], ids=repr)
def test_a_full_disk_leaves_the_checkpoint_before(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "c", 1)

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch, pytest.raises(RunError, match="no space left on the disk for the checkpoint"):
        patch.setattr(tensor_files, "save_file", full)
        save(tmp_path / "c", 2)
    assert saved(tmp_path / "c") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_other_errors_keep_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tensors: object, path: Path) -> None:
        raise SafetensorError("a mistake")

    monkeypatch.setattr(tensor_files, "save_file", broken)
    with pytest.raises(SafetensorError):
        save(tmp_path / "c", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "content"), [("tensors.safetensors", b"half"), ("tensors.safetensors", None), ("numbers.json", b'{"num')])
def test_a_damaged_checkpoint_is_one_message(name: str, content: bytes | None, tmp_path: Path) -> None:
    save(tmp_path / "c", 1)
    (tmp_path / "c" / name).unlink()
    if content is not None:
        (tmp_path / "c" / name).write_bytes(content)
    with pytest.raises(RunError, match=r"the checkpoint \S+/c is damaged \(.*\)\. Put a whole copy of it back, or use --fresh"):
        load_checkpoint(tmp_path / "c")


def test_files_reach_the_disk_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(file: int) -> None:
        order.append(Path(f"/proc/self/fd/{file}").readlink().name)
        sync(file)

    def renamed(path: Path, target: Path) -> Path:
        order.append(f"{path.name} to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    save(tmp_path / "c", 1)
    assert sorted(order[:2]) == ["numbers.json", "tensors.safetensors"]
    assert order[2:] == ["c.new", "c.new to c"]
