"""Connections: how long and how large the head of a request may be, and when a connection that does not get on is closed.

uvicorn alone waits for ever for the end of a head. A stranger could then hold every connection that the system gives a process.
"""

from __future__ import annotations

import asyncio
import resource

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""How long the head of a request may take, from the connection or from its first byte."""

DRAIN_SECONDS = 10.0
"""How long the rest of a body is read and thrown away after its request was refused. If the connection were cut at once, the client
would often not see the answer."""

HEAD_BYTES = 16 * 1024
"""Largest head of a request. A larger one is answered 400."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection stays open between two answers. Most people read an item in less time."""


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which closes connections whose head, or whose refused body, does not end in time."""

    head_seconds = HEAD_SECONDS
    drain_seconds = DRAIN_SECONDS
    _deadline: asyncio.TimerHandle | None = None
    _reason: str = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the client time for its first head."""
        super().connection_made(transport)
        self._allow("head", self.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Read on, and stop the time of a head that has ended."""
        super().data_received(data)
        self._renew()

    def on_response_complete(self) -> None:
        """Go on to the next request. A body that was not read gets a last while."""
        super().on_response_complete()
        self._renew()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _renew(self) -> None:
        is_answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is h11.IDLE:
            if self.conn.trailing_data[0]:
                self._allow("head", self.head_seconds)
            elif is_answered:
                self._stop()  # the time for keeping alive runs
        elif self.conn.their_state is h11.SEND_BODY and is_answered:
            self._allow("body", self.drain_seconds)
        else:
            self._stop()

    def _allow(self, reason: str, seconds: float) -> None:
        """Let the clock run, unless it runs already for this reason."""
        if self._deadline is None or self._reason != reason:
            self._stop()
            self._deadline, self._reason = self.loop.call_later(seconds, self._close), reason

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self.transport.close()


def server_config(app: ASGIApp, *, behind_proxy: bool = False, shutdown_seconds: int | None = None) -> uvicorn.Config:
    """Return how uvicorn serves an application.

    Args:
        app: the application.
        behind_proxy: people come through a proxy on this machine, whose word on addresses is trusted.
        shutdown_seconds: how long open requests may take when the server ends; None waits for them.
    """
    return uvicorn.Config(
        app,
        http=PatientProtocol,  # httptools, which uvicorn prefers, does not limit heads
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="127.0.0.1" if behind_proxy else None,
        timeout_graceful_shutdown=shutdown_seconds,
    )


def allow_many_connections() -> None:
    """Let this process have as many connections as the system allows it. Many systems begin with 1024 or fewer."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if most == resource.RLIM_INFINITY else min(65_536, most)
    if least != resource.RLIM_INFINITY and least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
