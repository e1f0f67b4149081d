"""Checking where a SQLite database may be: not on a network file system, and only where files can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from palate.core import ConfigError

NETWORK = frozenset(
    kind
    for kinds in (
        "nfs nfs4 cifs smb2 smb3 smbfs ncpfs afs 9p virtiofs vboxsf prl_fs ceph glusterfs lustre gpfs beegfs orangefs davfs",
        "fuse.sshfs fuse.glusterfs fuse.ceph fuse.s3fs fuse.gcsfuse fuse.rclone fuse.davfs",
    )
    for kind in kinds.split()
)
"""File systems whose locks or shared memory do not reach other machines, so that SQLite loses data."""

MOUNTS = Path("/proc/mounts")


def check_location(file: Path, *, mounts: Path = MOUNTS) -> None:
    """Check that a SQLite database can be written at `file`.

    Raises:
        ConfigError: the file is on a network file system, its folder is missing, or it cannot be written.
    """
    kind, where = file_system(file, mounts)
    if kind in NETWORK:
        raise ConfigError(
            f"{file} is on a network file system ({kind} at {where}), where SQLite loses data when two machines write. "
            "Put the ratings on a local disk, or use PostgreSQL (postgresql+psycopg://...)."
        )
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is not a folder, so it cannot hold {file.name}. Make the folder, or correct the path.")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder. Name a file in it, such as {file / 'ratings.db'}.")
    # Only a write shows whether writing works. SQLite keeps its log beside the database, so the folder must be writable as well.
    try:
        if file.exists():
            file.open("r+b").close()
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read and written ({error.strerror}). Give this user the right to do so, or name another file."
        ) from error
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"The folder {file.parent} cannot be written ({error.strerror}), and the ratings keep their log there. "
            "Give this user the right to write it, or choose another folder."
        ) from error


def file_system(path: Path, mounts: Path = MOUNTS) -> tuple[str, str]:
    """Return (type, mount point) of the file system that holds `path`; ("", "") if the system does not say."""
    target = path.absolute().parent.resolve() / path.name
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "", ""
    found = ("", "")
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        where = words[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        # The last mount at a mount point hides those before it.
        if target.is_relative_to(where) and len(where) >= len(found[1]):
            found = (words[2], where)
    return found
