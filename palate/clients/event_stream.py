"""Post JSON and read the answer while it comes: server-sent events, as OpenAI-compatible servers stream them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from palate.clients.http import Endpoint, RequestFailed, checked, shut_down

DONE = b"[DONE]"
"""What follows the last event."""

MAX_LINE = 4 << 20
"""Longest line that is read, in bytes."""

MAX_REFUSAL = 64 << 10
"""Longest answer of another status than 200 that is read, in bytes."""


class EventStream:
    """One request whose answer is a stream of events. Another thread can end it.

    Attributes:
        is_cancelled: whether one did.
    """

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str], pause_seconds: float) -> None:
        """Prepare a request.

        Args:
            endpoint: where to post.
            headers: headers beside the content type.
            pause_seconds: the longest wait for the connection, the first event and each next one.
        """
        self._endpoint, self._headers, self._pause = endpoint, headers, pause_seconds
        self._socket: socket.socket | None = None
        self._lock, self.is_cancelled = threading.Lock(), False

    def values(self, content: object) -> Iterator[dict[str, Any]]:
        """Post the content, and yield the object of each event until the stream says that it is done, or ends.

        Raises:
            RequestFailed: nothing came in time (`timeout`), the server is away or broke off (`unreachable`), it refused (`status`), or what
                it sends is not a stream of JSON objects (`invalid`).
        """
        body = json.dumps(content, allow_nan=False).encode()
        self._check_is_wanted()
        is_sent, connection = False, self._endpoint.connection(self._pause)
        try:
            connection.connect()
            is_sent = True
            self._hold(connection.sock)
            connection.request("POST", self._endpoint.path, body, {**self._headers, "Content-Type": "application/json"})
            with connection.getresponse() as response:
                if response.status not in {200, 201}:
                    checked(response, response.read(MAX_REFUSAL), MAX_REFUSAL)
                yield from self._events(response)
        except TimeoutError as error:
            raise self._too_slow(is_sent=is_sent) from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailed(f"{type(error).__name__}: {error}", "unreachable", is_sent=is_sent) from error
        finally:
            connection.close()

    def cancel(self) -> None:
        """End the request, whatever it waits for. It may have ended before."""
        with self._lock:
            self.is_cancelled = True
            if self._socket is not None:
                shut_down(self._socket)

    def _hold(self, opened: socket.socket) -> None:
        """Keep the socket, which the connection itself forgets when the answer begins."""
        with self._lock:
            self._socket = opened
        self._check_is_wanted()

    def _check_is_wanted(self) -> None:
        if self.is_cancelled:
            raise RequestFailed("the request was given up", "unreachable")

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """Yield the values of the lines that hold data. Other lines, such as comments, only keep the connection open."""
        last = time.monotonic()
        while line := response.readline(MAX_LINE):
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == DONE:
                    return
                yield _value(data)
                last = time.monotonic()
            elif line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise RequestFailed(f"answered with something that is not a stream of events: {_excerpt(line)}", "invalid", is_sent=True)
            elif time.monotonic() - last > self._pause:
                raise self._too_slow(is_sent=True)

    def _too_slow(self, *, is_sent: bool) -> RequestFailed:
        return RequestFailed(f"sent nothing for {self._pause:g} s", "timeout", is_sent=is_sent)


def _value(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestFailed(f"sent an event that is not JSON: {_excerpt(data)}", "invalid", is_sent=True) from error
    if not isinstance(value, dict):
        raise RequestFailed(f"sent an event that is not a JSON object: {_excerpt(data)}", "invalid", is_sent=True)
    return value


def _excerpt(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))
