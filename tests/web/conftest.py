"""A running server for each test, and one Chromium for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import postgres
from tests.support.house import House, open_house

expect.set_options(timeout=20_000)  # a machine that runs other tests is slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Sit = Callable[..., Page]


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""For tests of the main ways: they run on SQLite, and on a real PostgreSQL server."""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    reason = postgres.why_not()
    if reason:
        pytest.skip(reason)
    with postgres.server() as address:
        yield address


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; "" for SQLite in the test's folder, which is the rule."""
    kind = getattr(request, "param", "sqlite")
    return "" if kind == "sqlite" else postgres.new_database(request.getfixturevalue("server"))


@pytest.fixture
def house(tmp_path: Path, database: str) -> Iterator[House]:
    with open_house(tmp_path, database=database) as opened:
        yield opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install the package chromium")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def sit(house: House, browser: Browser) -> Iterator[Sit]:
    """`sit(name, path)` is a page at which this person is signed in; scripts that fail, and requests elsewhere, fail the test."""
    contexts, faults = [], []

    def open_page(name: str, path: str = "/", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        context.add_cookies([{"name": "palate", "value": house.cookie(name), "url": house.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None)
        page.on(
            "request", lambda request: faults.append(request.url) if not request.url.startswith((house.url, "data:", "blob:")) else None
        )
        page.goto(house.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
