"""Post JSON to one address, or get what is there, with a deadline for the whole exchange, retries, and a limit on what is read.

Redirects are not followed.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, cast
from urllib.parse import urlsplit

from palate.core import ConfigError

MAX_BYTES = 16 << 20
"""Longest answer that is read, where an endpoint does not say another length."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the first retry, doubled each time, up to the longest. Each pause is drawn between half of it and the whole, so that many
clients that were refused together do not come back together."""

FailureKind = Literal["timeout", "unreachable", "status", "invalid"]


class RequestFailed(Exception):  # noqa: N818 (a reason that callers record, not a fault of this program)
    """A request that brought no usable answer. The text says why.

    Attributes:
        kind: `timeout` (the deadline passed), `unreachable` (refused or broken off), `status` (anything but 200 and 201), or `invalid`
            (an answer that is too long, is not JSON, or lacks what was asked for).
        status: the HTTP status of kind `status`, otherwise 0.
        is_sent: whether the server may have answered, and charged, although no answer came: the request broke off after it was sent.
        wait_seconds: how long the server asks to wait before the next request (its header Retry-After), otherwise 0.
        body: the answer of kind `status`, otherwise empty.
    """

    def __init__(
        self,
        reason: str,
        kind: FailureKind,
        status: int = 0,
        *,
        is_sent: bool = False,
        wait_seconds: float = 0.0,
        body: bytes = b"",
    ) -> None:
        super().__init__(reason)
        self.kind, self.status, self.body = kind, status, body
        self.is_sent, self.wait_seconds = is_sent, wait_seconds

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.kind == "unreachable" or self.status == 429 or self.status >= 500


@dataclass(frozen=True)
class Endpoint:
    """The address of a server.

    Attributes:
        scheme: http or https.
        host: name or number.
        port: None takes the scheme's own.
        path: path and query.
        max_bytes: longest answer that is read; None takes MAX_BYTES.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    max_bytes: int | None = None

    @staticmethod
    def of(kind: str, url: str) -> Endpoint:
        """Return the endpoint at a URL. Errors begin with `kind`, the setting's name.

        Raises:
            ConfigError: the URL is not http(s) with a host, or it holds a user name (settings are written to run.json).
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"{kind}: url {url!r} cannot be read: {error}") from error
        if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
            raise ConfigError(f"{kind}: url must be http://host/path or https://host/path, got {url!r}")
        if parts.username is not None:
            raise ConfigError(f"{kind}: url must hold no user name or password, because settings are written to run.json; use key_variable")
        return Endpoint(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))

    def post(
        self,
        content: object,
        headers: Mapping[str, str],
        deadline: float,
        *,
        attempts: int | None = None,
        before_retry: Callable[[RequestFailed], None] | None = None,
    ) -> object:
        """Post JSON and return the JSON value of the answer; see `send`.

        Raises:
            RequestFailed: no attempt brought a usable answer, or it is of kind `invalid` because the answer is not JSON.
        """
        return _json_of(self.send(content, headers, deadline, attempts=attempts, before_retry=before_retry))

    def send(
        self,
        content: object,
        headers: Mapping[str, str],
        deadline: float,
        *,
        attempts: int | None = None,
        before_retry: Callable[[RequestFailed], None] | None = None,
    ) -> bytes:
        """Post JSON and return the answer as it is. Refused or broken connections, 429 and 5xx are tried again.

        The pause before a retry doubles each time, with jitter. Where the server says how long to wait, it is at least that long.

        Args:
            content: JSON values.
            headers: headers beside the content type.
            deadline: the `time.monotonic()` at which the request fails. Only the look-up of the host's name can take longer.
            attempts: most attempts; None tries until the deadline.
            before_retry: called with each failure after which the request is sent again; what it raises ends the attempts.

        Raises:
            RequestFailed: no attempt brought a usable answer.
        """
        body = json.dumps(content, allow_nan=False).encode()
        return self._tried("POST", body, {**headers, "Content-Type": "application/json"}, deadline, attempts, before_retry)

    def get(self, headers: Mapping[str, str], deadline: float, *, attempts: int | None = None) -> bytes:
        """Get what is at the address, as it is. It is tried again, and fails, as in `send`."""
        return self._tried("GET", None, headers, deadline, attempts, None)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet, of which no single step may take longer than `timeout` seconds."""
        connect = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return connect(self.host, self.port, timeout=timeout)

    def _tried(
        self,
        method: Literal["GET", "POST"],
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
        attempts: int | None,
        before_retry: Callable[[RequestFailed], None] | None,
    ) -> bytes:
        longest, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                return self._send_once(method, body, headers, deadline)
            except RequestFailed as error:
                if not error.is_temporary:
                    raise
                pause = max(random.uniform(longest / 2, longest), error.wait_seconds)
                if tries == attempts or time.monotonic() + pause >= deadline:
                    raise _given_up(error, tries, attempts) from error
                if before_retry is not None:
                    before_retry(error)
            time.sleep(pause)
            longest = min(2 * longest, LONGEST_PAUSE)

    def _send_once(self, method: str, body: bytes | None, headers: Mapping[str, str], deadline: float) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise RequestFailed("no answer within the deadline", "timeout")
        connection = self.connection(remaining)
        timer, is_sent = None, False
        try:
            connection.connect()
            is_sent = True
            # A server that sends a byte now and then never runs into the socket's own timeout.
            timer = threading.Timer(max(deadline - time.monotonic(), 0), shut_down, [connection.sock])
            timer.daemon = True
            timer.start()
            connection.request(method, self.path, body, dict(headers))
            response = connection.getresponse()
            most = MAX_BYTES if self.max_bytes is None else self.max_bytes
            text = response.read(most + 1)
            if response.length and len(text) <= most:  # a read of so many bytes does not complain about fewer
                raise http.client.IncompleteRead(text, response.length)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise RequestFailed("no whole answer within the deadline", "timeout", is_sent=is_sent) from error
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, http.client.IncompleteRead):
                reason = f"the answer broke off after {len(error.partial)} bytes"
            raise RequestFailed(reason, "unreachable", is_sent=is_sent) from error
        finally:
            if timer is not None:
                timer.cancel()
            connection.close()
        if time.monotonic() >= deadline:
            raise RequestFailed("no whole answer within the deadline", "timeout", is_sent=True)
        return checked(response, text, most)


def checked(response: http.client.HTTPResponse, text: bytes, most: int) -> bytes:
    """Return the answer if it is one: 200 or 201, and at most `most` bytes. Raises RequestFailed otherwise."""
    excerpt, status = text[:200].decode("utf-8", "replace"), response.status
    if 300 <= status < 400:
        location = response.getheader("Location")
        raise RequestFailed(f"redirects to {location!r}, which is not followed: write that address as url", "status", status)
    if status not in {200, 201}:
        wait = _seconds_to_wait(response.getheader("Retry-After"))
        raise RequestFailed(f"answered {status}: {excerpt!r}", "status", status, wait_seconds=wait, body=text)
    if len(text) > most:
        raise RequestFailed(f"answered with more than {most} bytes", "invalid", is_sent=True)
    return text


def _json_of(text: bytes) -> object:
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError) as error:
        excerpt = text[:200].decode("utf-8", "replace")
        raise RequestFailed(f"answered with something that is not JSON: {excerpt!r}", "invalid", is_sent=True) from error


def _given_up(error: RequestFailed, tries: int, attempts: int | None) -> RequestFailed:
    """Return the failure with the number of attempts."""
    times = "once" if tries == 1 else f"{tries} times" if tries == attempts else f"{tries} times until the deadline"
    return RequestFailed(f"{error} (tried {times})", error.kind, error.status, is_sent=error.is_sent, wait_seconds=error.wait_seconds)


def _seconds_to_wait(header: str | None) -> float:
    """Return the seconds in a header Retry-After, which holds a number or a date; 0 where it holds neither."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max((when - datetime.now(UTC)).total_seconds(), 0.0) if when.tzinfo is not None else 0.0


def shut_down(sock: socket.socket) -> None:
    """End what another thread waits for. Works on the bare socket, so that a TLS object does not change under its reader."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def bearer(key: str) -> dict[str, str]:
    """The header with an API key; empty if there is no key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def key_header(kind: str, variable: str | None) -> dict[str, str]:
    """The header with the key in an environment variable; empty if no variable is named. Errors begin with `kind`.

    Raises:
        ConfigError: the variable is not set.
    """
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key or not key.isprintable() or not key.isascii():
        raise ConfigError(f"{kind}: the environment variable {variable} holds no key. Set it, or leave out key_variable")
    return bearer(key)
