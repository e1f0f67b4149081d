"""A running server for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Route, expect

from tests.support import postgres
from tests.support.rating_server import RatingServer, open_rating_server
from tests.support.waiting import LIMIT_SECONDS, wait_until

LIMIT_MS = LIMIT_SECONDS * 1000
expect.set_options(timeout=LIMIT_MS)
Sit = Callable[..., Page]

COUNTED = """
window.requestsOpen = 0;
const send = window.fetch;
window.fetch = async (...words) => {
  window.requestsOpen += 1;
  const taken = () => setTimeout(() => { window.requestsOpen -= 1; });
  try {
    const response = await send(...words), read = response.json.bind(response);
    response.json = () => read().finally(taken);
    return response;
  } catch (error) { taken(); throw error; }
};
"""
"""Counts the requests of a page's scripts whose answers the scripts have not taken yet. The timer fires after they have."""


def until(page: Page, condition: str) -> None:
    """Waits for a condition. Playwright's own waiting evaluates text within the page, which its content policy forbids."""

    def holds() -> bool:
        try:
            return bool(page.evaluate(condition))
        except Error as error:
            if "context was destroyed" in str(error):  # the page is loading anew
                return False
            raise

    while_it_acts(page, holds, condition)


def while_it_acts(page: Page, condition: Callable[[], object], what: str = "") -> None:
    """Waits for a condition on our side. Requests that a test answers itself go on meanwhile."""
    wait_until(condition, lambda: what, pause=lambda seconds: page.wait_for_timeout(1000 * seconds))


def intercept(target: Page | BrowserContext, pattern: str, answer: Callable[[Route], object], **options: Any) -> None:
    """Answers a page's requests, or those of all pages, in the test from now on.

    Chromium says that it intercepts before its renderers have heard of it, so this asks each page until it does.
    """
    target.route(pattern, answer, **options)
    target.route("**/intercepted", lambda route: route.fulfill(json={}))
    for page in [target] if isinstance(target, Page) else target.pages:
        until(page, "fetch('/intercepted').then(async (response) => { await response.json().catch(() => {}); return response.ok; })")


def idle(page: Page) -> None:
    """Waits until the page's scripts have taken the answers to all that they asked."""
    until(page, "window.requestsOpen === 0")


both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
"""For tests of the main ways: they run on SQLite, and on a real PostgreSQL server."""


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The address of a database without rows; "" for SQLite in the test's folder, which is the rule."""
    kind = getattr(request, "param", "sqlite")
    if kind == "sqlite":
        return ""
    return postgres.without_rows(request.getfixturevalue("postgres_server"))


@pytest.fixture
def server(tmp_path: Path, database: str) -> Iterator[RatingServer]:
    with open_rating_server(tmp_path, database=database) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`visit(url)` is the page there; scripts that fail, and requests elsewhere, fail the test."""
    contexts, faults = [], list[str]()

    def open_page(url: str, cookies: Sequence[Any] = (), **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        context.add_init_script(COUNTED)
        context.add_cookies(list(cookies))
        page = context.new_page()
        home = "/".join(url.split("/")[:3])
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None)
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith((home, "data:", "blob:")) else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def sit(server: RatingServer, visit: Callable[..., Page]) -> Sit:
    """`sit(name, path)` is a page at which this person is signed in."""

    def open_page(name: str, path: str = "/", **options: object) -> Page:
        cookie = {"name": server.cookie_name, "value": server.cookie(name), "url": server.url}
        return visit(server.url + path, [cookie], **options)

    return open_page
