"""One JSON request to one address: a deadline for all of it, retries, a limit to what is read, no redirects."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from palate.core import ConfigError

MOST_BYTES = 16 << 20
"""Longest answer that is read."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the first retry, doubled each time, up to the longest."""


class Unanswered(Exception):  # noqa: N818 (it is a reason, not an error of ours)
    """No usable answer; the text says why."""


class _Passing(Unanswered):
    """A reason that may have passed in a moment."""


@dataclass(frozen=True)
class Endpoint:
    """The address of a server.

    Attributes:
        scheme: http or https.
        host: name or number.
        port: None takes the scheme's own.
        path: path and query.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    @staticmethod
    def of(kind: str, url: str) -> Endpoint:
        """The endpoint that a URL names.

        Raises:
            ConfigError: no http(s) URL with a host, or one with a user's name in it: settings are written to run.json.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigError(f"{kind}: url {url!r} cannot be read: {error}") from error
        if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
            raise ConfigError(f"{kind}: url must be http://host/path or https://host/path, got {url!r}")
        if parts.username is not None:
            raise ConfigError(f"{kind}: url must hold no user name or password, since settings are written to run.json; use key_variable")
        return Endpoint(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))

    def ask(self, content: object, headers: dict[str, str], until: float) -> object:
        """The JSON value in answer to `content`; connections refused or broken, 429 and 5xx are tried again until the deadline.

        Args:
            content: JSON values.
            headers: besides the content's type.
            until: `time.monotonic()` at which all is over. Only looking up the host's name cannot be interrupted.

        Raises:
            Unanswered: with the reason.
        """
        body = json.dumps(content, allow_nan=False).encode()
        pause, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                return self._once(body, {**headers, "Content-Type": "application/json"}, until)
            except _Passing as error:
                if time.monotonic() + pause >= until:
                    times = "once" if tries == 1 else f"{tries} times until the deadline"
                    raise Unanswered(f"{error} (tried {times})") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, body: bytes, headers: dict[str, str], until: float) -> object:
        left = until - time.monotonic()
        if left <= 0:
            raise Unanswered("no answer within the deadline")
        make = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        connection = make(self.host, self.port, timeout=left)
        watch = None
        try:
            connection.connect()
            # A server that sends a byte now and then never runs into the socket's own timeout.
            watch = threading.Timer(max(until - time.monotonic(), 0), _cut, [connection.sock])
            watch.daemon = True
            watch.start()
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            text = response.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= until:
                raise Unanswered("no whole answer within the deadline") from error
            raise _Passing(f"{type(error).__name__}: {error}") from error
        finally:
            if watch is not None:
                watch.cancel()
            connection.close()
        if time.monotonic() >= until:
            raise Unanswered("no whole answer within the deadline")
        return self._read(response, text)

    def _read(self, response: http.client.HTTPResponse, text: bytes) -> object:
        shown = text[:200].decode("utf-8", "replace")
        if 300 <= response.status < 400:
            raise Unanswered(f"redirects to {response.getheader('Location')!r}, which is not followed: write that address as url")
        if response.status == 429 or response.status >= 500:
            raise _Passing(f"answered {response.status}: {shown!r}")
        if response.status != 200:
            raise Unanswered(f"answered {response.status}: {shown!r}")
        if len(text) > MOST_BYTES:
            raise Unanswered(f"answered with more than {MOST_BYTES} bytes")
        try:
            return cast("object", json.loads(text))
        except (ValueError, RecursionError) as error:
            raise Unanswered(f"answered what is no JSON: {shown!r}") from error


def _cut(sock: socket.socket) -> None:
    """Ends what another thread waits for; on the bare socket, so that a TLS object is not changed under its reader."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def key_header(kind: str, variable: str | None) -> dict[str, str]:
    """The header with the key that an environment variable holds; none where no variable is named.

    Raises:
        ConfigError: the variable is not set.
    """
    import os

    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key or not key.isprintable() or not key.isascii():
        raise ConfigError(f"{kind}: the environment variable {variable} holds no key. Set it, or leave out key_variable")
    return {"Authorization": f"Bearer {key}"}
