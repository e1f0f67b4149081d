"""Servers of models that tests of several folders ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from palate.testing.completions_server import Answer, CompletionsServer


@pytest.fixture
def serve_model() -> Iterator[Callable[[Answer], CompletionsServer]]:
    """Starts servers that answer through a function of the body."""
    servers: list[CompletionsServer] = []

    def start(answer: Answer) -> CompletionsServer:
        servers.append(CompletionsServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
