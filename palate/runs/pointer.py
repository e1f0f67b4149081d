"""A link that names the run in use. One step swaps it to another run, or back."""

from __future__ import annotations

import os
from pathlib import Path

from palate.config.artifacts import refuse_retired
from palate.core import ConfigError, RunError
from palate.data.files import write_atomic


def swap(link: Path, run: Path) -> Path | None:
    """Let `link` name `run`, and return what it named before, or None. Readers see one run or the other.

    Raises:
        ConfigError: the run does not exist, or the link's name belongs to a file or directory.
        RunError: the run is retired.
    """
    refuse_retired(run)
    if not run.is_dir():
        raise ConfigError(f"{run} is not a directory. Name a run or a model directory.")
    before = current(link)
    if before is not None:
        write_atomic(_former(link), f"{before}\n" + _read(_former(link)))
    _point(link, run.resolve())
    return before


def swap_back(link: Path) -> Path:
    """Let `link` name what it named before the last swap, and return that.

    Raises:
        ConfigError: the link never named anything else.
        RunError: that directory no longer exists, or is retired.
    """
    current(link)
    former = _read(_former(link)).splitlines()
    if not former:
        raise ConfigError(f"{link} never named another run, so there is nothing to go back to")
    run = Path(former[0])
    if not run.is_dir():
        raise RunError(f"{run}, which {link} named before, no longer exists. Swap in another run.")
    refuse_retired(run)
    _point(link, run)
    write_atomic(_former(link), "".join(f"{line}\n" for line in former[1:]))
    return run


def current(link: Path) -> Path | None:
    """Return what `link` names, or None where the link does not exist."""
    if not link.is_symlink():
        if link.exists():
            raise ConfigError(f"{link} is a file or directory, not a link. Choose another name.")
        return None
    return link.resolve()


def _point(link: Path, run: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    neighbour = link.with_name(f".{link.name}.{os.getpid()}")
    neighbour.unlink(missing_ok=True)
    neighbour.symlink_to(run, target_is_directory=True)
    neighbour.replace(link)


def _former(link: Path) -> Path:
    return link.with_name(f"{link.name}.former")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
