"""A name for the run in use: a link that is swapped in one step, and back."""

from __future__ import annotations

import os
from pathlib import Path

from palate.core import ConfigError, RunError
from palate.data.files import write_atomic


def swap(link: Path, run: Path) -> Path | None:
    """What `link` named before, or None; from now on it names `run`. Whoever reads sees the one or the other.

    Raises:
        ConfigError: there is no such run, or something that is no link stands in the link's place.
    """
    if not run.is_dir():
        raise ConfigError(f"{run} is no directory: name a run, or a model's directory")
    before = current(link)
    if before is not None:
        write_atomic(_former(link), f"{before}\n" + _read(_former(link)))
    _point(link, run.resolve())
    return before


def swap_back(link: Path) -> Path:
    """What `link` named before the last swap; it names that again.

    Raises:
        ConfigError: it never named anything else.
        RunError: that directory is gone.
    """
    current(link)
    former = _read(_former(link)).splitlines()
    if not former:
        raise ConfigError(f"{link} never named another run: there is nothing to go back to")
    run = Path(former[0])
    if not run.is_dir():
        raise RunError(f"{run}, which {link} named before, is gone: swap in another run")
    _point(link, run)
    write_atomic(_former(link), "".join(f"{line}\n" for line in former[1:]))
    return run


def current(link: Path) -> Path | None:
    """What `link` names, or None where there is no such link."""
    if not link.is_symlink():
        if link.exists():
            raise ConfigError(f"{link} is a file or directory of its own, not a link: choose another name")
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
