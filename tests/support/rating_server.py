"""A rating server that truly runs: uvicorn on a free port, SQLite on the disk, and a clock that tests can move."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random

import httpx
from argon2 import PasswordHasher

from palate.core import Message
from palate.ratings import Account, Candidate, Item, Project, Ratings, Task, open_ratings
from palate.web.app import create_app
from palate.web.credentials import Passwords, hashed
from palate.web.service import Service, WebSettings
from palate.web.webhooks import Webhooks, WebhookSender
from tests.support.ratings import new_file
from tests.support.served import served
from tests.support.waiting import LIMIT_SECONDS

PASSWORD = "four words make one"
QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
"""Argon2id with the smallest parameters: tests sign in often."""


@dataclass
class ServerClock:
    """The time at which it was made, and what a test added to it: nothing runs out because a test is slow.

    It moves by a millisecond whenever somebody looks, so that what came later is later.
    """

    begun: float = field(default_factory=time.time)
    ahead: float = 0.0
    looks: Iterator[int] = field(default_factory=count)

    def __call__(self) -> float:
        return self.begun + self.ahead + next(self.looks) / 1000


@dataclass
class RatingServer:
    """A running server and its store."""

    url: str
    ratings: Ratings
    service: Service
    clock: ServerClock
    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, name: str, role: str = "rater", *projects: Project) -> Account:
        """A new account with `PASSWORD`, in these projects."""
        made = self.ratings.add_account(name, role, self.clock(), password_hash=QUICK.hash(PASSWORD))  # type: ignore[arg-type]
        for project in projects:
            self.ratings.join(project.id, made.id, self.clock())
        self.accounts[name] = made
        return made

    def project(self, name: str = "Taste", task: Task | None = None, items: int = 5, **settings: object) -> Project:
        """A project with items; candidate 0 of item n says `good n`, candidate 1 `bad n`."""
        made = self.ratings.add_project(replace(Project(name, task or Task(all_bad=True)), **settings), self.clock())  # type: ignore[arg-type]
        size = {"compare": 2, "rank": 4, "rule": 1, "rubric": 1, "write": 0, "probe": 0}[made.task.kind]
        words = ("good", "bad", "fair", "poor")
        rows = [
            Item((Message("user", f"question {n}"),), tuple(Candidate(f"{words[k]} {n}", policy=f"p{k}") for k in range(size)))
            for n in range(items)
        ]
        if rows:
            self.ratings.add_items(made.id, rows, self.clock())
        return made

    def client(self, name: str | None = None) -> Client:
        """A browser without scripts: a cookie jar that follows no redirect; signed in when a name is given."""
        client = Client(self)
        if name is not None:
            client.sign_in(name)
        return client

    @property
    def cookie_name(self) -> str:
        """The name of the session's cookie, which names the port."""
        return f"palate-{self.url.rpartition(':')[2]}"

    def cookie(self, name: str) -> str:
        """The token of a new session, for a browser's cookie jar."""
        token, now = secrets.token_urlsafe(32), self.clock()
        self.ratings.start_session(self.accounts[name].id, hashed(token, "cookie"), secrets.token_urlsafe(16), now, now + 3600)
        return token


class Client:
    """Requests as a browser sends them."""

    def __init__(self, server: RatingServer) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=LIMIT_SECONDS)
        self.csrf = ""

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        answer = self.http.post("/signin", data={"name": name, "password": password})
        if answer.status_code == 303:
            self.csrf = self.http.get("/api/session").json()["csrf"]
        return answer

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def post(self, path: str, data: dict[str, str] | None = None, **options: object) -> httpx.Response:
        """A form with the CSRF token in it."""
        return self.http.post(path, data={"csrf": self.csrf, **(data or {})}, **options)  # type: ignore[arg-type]

    def api(self, path: str, body: object = None, method: str = "POST") -> httpx.Response:
        """JSON with the CSRF token in a header."""
        return self.http.request(method, f"/api{path}", json={} if body is None else body, headers={"X-CSRF-Token": self.csrf})


@contextmanager
def open_rating_server(
    folder: Path, settings: WebSettings | None = None, webhooks: Webhooks | None = None, database: str = ""
) -> Iterator[RatingServer]:
    """A server on a free port, until the end of the block; its ratings lie in the folder, or in the database at an address."""
    ratings, clock = open_ratings(database or new_file(folder / "ratings.db")), ServerClock()

    def lost(url: str, reason: str) -> None:
        ratings.audit("", "webhook lost", url, clock(), {"reason": reason})

    sender = WebhookSender(webhooks or Webhooks(), lost, pause=lambda _: None)
    service = Service(ratings, settings or WebSettings(), clock, lambda: secrets.token_urlsafe(32), Random(7), QUICK, sender)
    try:
        with served(create_app(service)) as url:
            yield RatingServer(url, ratings, service, clock)
    finally:
        ratings.close()
