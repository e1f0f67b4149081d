"""Webhooks: signed JSON for addresses on an allow-list. A private network is called only if the list names the address itself.

A name is looked up once per delivery, and the address found is the one that is called. So a name that changes its address between the check
and the call does not gain anything. Redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import SplitResult, urlsplit

from palate.core import ConfigError

TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3
LONGEST_QUEUE = 10_000

Resolve = Callable[[str, int], list[str]]
"""Returns the addresses of a host name and port."""


def addresses(host: str, port: int) -> list[str]:
    """Return the addresses that the system's resolver gives."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Webhooks:
    """Where events are sent.

    Attributes:
        urls: addresses; each gets every event.
        allowed: host names or addresses that may be called. A private address must be listed itself.
        secret: key for the signature `X-Palate-Signature: sha256=HMAC(body)`.
        resolve: looks up the addresses of a name.
    """

    urls: tuple[str, ...] = ()
    allowed: frozenset[str] = frozenset()
    secret: str = ""
    resolve: Resolve = field(default=addresses, repr=False)

    def __post_init__(self) -> None:
        for url in self.urls:
            self.parts(url)

    def parts(self, url: str) -> SplitResult:
        """Return the parts of a URL that may be called.

        Raises:
            ConfigError: it is not an http URL, holds a password, or its host is not on the allow-list.
        """
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 (raises if it is not a number)
        except ValueError as error:
            raise ConfigError(f"webhook {url!r} cannot be read: {error}.") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password is not None:
            raise ConfigError(f"webhook {url!r} must be http:// or https:// with a host and without a password.")
        if parts.hostname not in self.allowed:
            raise ConfigError(f"webhook host {parts.hostname!r} is not on the allow-list. Add it with --webhook_allow {parts.hostname}.")
        return parts

    def address(self, host: str, port: int) -> str:
        """Return the address to call.

        Raises:
            ConfigError: the name is unknown, or one of its addresses is private, local or reserved and not on the allow-list itself.
        """
        try:
            resolved = self.resolve(host, port)
        except OSError as error:
            raise ConfigError(f"webhook host {host!r} cannot be resolved: {error}.") from error
        for text in resolved:
            if not is_public(text) and text not in self.allowed:
                raise ConfigError(f"webhook host {host!r} resolves to {text}, not a public address. Allow it with --webhook_allow {text}.")
        return resolved[0]

    def send(self, url: str, event: Mapping[str, object]) -> int:
        """Deliver one event and return the HTTP status.

        Raises:
            ConfigError: the address may not be called.
            OSError: the server does not answer.
        """
        parts = self.parts(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        raw = socket.create_connection((self.address(host, port), port), TIMEOUT_SECONDS)
        body = json.dumps(event, separators=(",", ":")).encode()
        connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        try:
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if parts.scheme == "https" else raw
            signature = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
            headers = {"Content-Type": "application/json", "User-Agent": "palate", "X-Palate-Signature": f"sha256={signature}"}
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, headers)
            return connection.getresponse().status
        except HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            raw.close()
            connection.close()


def is_public(text: str) -> bool:
    """Whether an address belongs to the public Internet. An IPv6 address that wraps an IPv4 address counts as the wrapped one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and not address.is_reserved


class WebhookSender:
    """A thread that delivers events, with up to three attempts each. It calls `lost(url, reason)` for what it cannot deliver."""

    def __init__(self, webhooks: Webhooks, lost: Callable[[str, str], None], pause: Callable[[float], None] = time.sleep) -> None:
        self._webhooks, self._lost, self._pause = webhooks, lost, pause
        self._queue: queue.Queue[Mapping[str, object] | None] = queue.Queue(LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._deliver, name="palate-webhooks", daemon=True)
        if webhooks.urls:
            self._thread.start()

    def enqueue(self, event: Mapping[str, object]) -> None:
        """Queue an event without waiting. If the queue is full, the event is lost and `lost` is called."""
        if not self._webhooks.urls:
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._lost("every webhook", f"{LONGEST_QUEUE} events are waiting already")

    def close(self) -> None:
        """Deliver what is queued, for at most 10 seconds."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(10)

    def _deliver(self) -> None:
        while (event := self._queue.get()) is not None:
            for url in self._webhooks.urls:
                if reason := self._failure(url, event):
                    self._lost(url, reason)

    def _failure(self, url: str, event: Mapping[str, object]) -> str:
        """Deliver an event and return "", or why it could not be delivered."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(2.0**attempt)
            try:
                status = self._webhooks.send(url, event)
            except ConfigError as error:
                return str(error)
            except OSError as error:
                reason = str(error)
            else:
                if status < 300:
                    return ""
                reason = f"status {status}"
        return reason
