"""Settings of all tests, and the servers that tests of several folders use."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import postgres, warm_python

if TYPE_CHECKING:
    from execnet import XSpec
    from playwright.sync_api import Browser

# The same examples every time, however slow the machine: a test that fails does so for everyone. Only here is said what may take long.
settings.register_profile("palate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("palate")

FIRST = ("tests/web/", "tests/e2e/")
"""Folders whose files take longest. They come first, so that no process is left with one of them at the end."""

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free in memory for the tests' files: they take a tenth of it."""

OBJECTS = 10_000
"""New objects after which Python looks for garbage."""

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Programs that will do, the lightest first: without a window's frame a page costs half of the processor time."""


def pytest_configure() -> None:
    """Files of tests are in memory where there is room: thousands of times a test waits until a disk has written."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir():
        system = os.statvfs(MEMORY)
        if system.f_bavail * system.f_frsize > ROOM and not system.f_flag & os.ST_NOEXEC:
            os.environ["TMPDIR"] = str(MEMORY)
            tempfile.tempdir = None  # it was perhaps chosen already


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: "list[XSpec]") -> None:
    """Processes that test are forked from one that has loaded torch and transformers: each alone takes ten seconds for that."""
    os.environ[warm_python.SHARED] = program = warm_python.executable()
    for spec in specs:
        spec.python = program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


def pytest_collection_finish() -> None:
    """What is there now stays to the end, and collections of garbage need not go through it: torch, transformers, eight thousand tests.

    They also come seldom. Python looks for garbage after 700 new objects, which takes a twentieth of the tests' processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """One Chromium for all tests of a process."""
    program = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: install the package chromium-headless-shell or chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a running PostgreSQL server."""
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with postgres.server() as address:
        yield address
