"""Shared by the tests of rewards: expected values, prompts with completions, the user's modules, and servers."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from palate.clients import http as http_client
from palate.core import Completion, Message, Prompt
from palate.rewards import remote
from palate.rewards.batch import ScoringBatch
from tests.support.warm_python import executable

DEADLINES = (0.5, 4.0, 32.0, 128.0)
"""Of a batch in which one completion hangs: where the machine is too busy to score the others by the first, the next one is tried."""


@pytest.fixture(autouse=True)
def is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of users' functions are forked from one that has loaded Palate."""
    monkeypatch.setattr(sys, "executable", executable())


GOLDEN = Path(__file__).parents[2] / "golden" / "oracle.json"


@pytest.fixture
def oracle() -> Callable[[str], dict[str, Any]]:
    """Case by id: inputs, expected, source."""
    cases = json.loads(GOLDEN.read_text())["cases"]
    return lambda case: cases[case]


def prompt(text: str = "what can we make", **fields: object) -> Prompt:
    """A question with further columns."""
    return Prompt(text, (Message("user", text),), fields)


def batch(*texts: str, ended: bool = True, **fields: object) -> ScoringBatch:
    """Completions of one prompt."""
    return ScoringBatch((prompt(**fields),), (tuple(Completion(text, stop="eos" if ended else "length") for text in texts),))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes a module of a text, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def make(text: str) -> str:
        made.append(f"users_{len(made)}")
        (tmp_path / f"{made[-1]}.py").write_text(textwrap.dedent(text))
        return made[-1]

    yield make
    for name in made:
        sys.modules.pop(name, None)


class Clock:
    """A clock that runs on only while somebody sleeps: what depends on it takes no time, and the machine's pace changes nothing."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of requests to servers."""
    made = Clock()
    for place in (http_client, remote):
        monkeypatch.setattr(place, "time", made)
    return made


class Server:
    """A real server in a thread.

    Attributes:
        url: its address.
        asked: what was sent to it: (path, headers, body).
    """

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, Any], None]) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, dict(self.headers), body))
                try:
                    answer(self, body)
                except OSError:
                    self.close_connection = True  # the client hung up

            def do_GET(self) -> None:
                server.asked.append((self.path, dict(self.headers), None))
                reply(self, {"scores": [0]})

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Stops it."""
        self._http.shutdown()
        self._http.server_close()


def reply(handler: BaseHTTPRequestHandler, value: object, status: int = 200, **headers: str) -> None:
    """Answers with JSON, or with bytes as they are."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    handler.send_response(status)
    for name, text in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, text)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler, Any], None]], Server]]:
    """Starts servers, and stops them after the test."""
    servers: list[Server] = []

    def start(answer: Callable[[BaseHTTPRequestHandler, Any], None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
