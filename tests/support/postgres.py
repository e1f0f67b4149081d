"""A real PostgreSQL server for tests, made anew in a temporary folder and stopped at the end."""

import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from palate.ratings import open_ratings
from tests.support.waiting import LIMIT_SECONDS

USERS = ("postgres", "nobody")
"""Who runs the server where we are root, which PostgreSQL refuses."""

_numbers = count()


def folder_of_programs() -> Path | None:
    """Where `initdb` and `postgres` are; None where they are not installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0
    )
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


def why_not() -> str:
    """Why no server can be started here; "" where one can."""
    if folder_of_programs() is None:
        return "PostgreSQL is not installed (initdb was not found)"
    if os.geteuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no other user to run it as"
    return ""


@contextmanager
def server() -> Iterator[str]:
    """The address of a running server's first database. It listens on a socket file alone."""
    programs = folder_of_programs()
    assert programs is not None, why_not()
    folder = Path(tempfile.mkdtemp(prefix="palate-pg-"))
    user = _user() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = folder / "data"
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "max_connections": "200"}
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())

    def run(program: str, *words: str) -> None:
        subprocess.run([programs / program, *words], check=True, cwd=folder, capture_output=True, timeout=LIMIT_SECONDS, **identity)

    try:
        run("initdb", "-D", str(data), "-U", "palate", "--auth=trust", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8")
        run("pg_ctl", "-D", str(data), "-w", "-t", f"{LIMIT_SECONDS:.0f}", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://palate@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(address: str) -> str:
    """The address of a new empty database on the server."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with _connected(address) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return address.replace("/postgres?", f"/{name}?")


def without_rows(address: str) -> str:
    """The address of a database with the tables of today and no rows: always the same one, because to make one takes half a second.

    Rows are deleted. To truncate so many tables takes three times as long, however few rows there are.
    """
    made = _with_tables(address)
    with _connected(made) as connection:
        connection.execute("SET lock_timeout = '20s'; SET session_replication_role = replica")  # without the triggers that keep answers
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename != 'alembic_version'")
        used = connection.execute("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL")
        emptied = [*(f"DELETE FROM {name}" for (name,) in tables), *(f"ALTER SEQUENCE {name} RESTART" for (name,) in used)]
        connection.execute("; ".join(emptied))  # type: ignore[call-overload]
    return made


@functools.cache
def _with_tables(address: str) -> str:
    made = new_database(address)
    open_ratings(made, create=True).close()
    return made


def _connected(address: str) -> psycopg.Connection:
    return psycopg.connect(address.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def _user() -> pwd.struct_passwd | None:
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None
