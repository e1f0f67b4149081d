"""Telling other programs: signed JSON to addresses on an allow-list, never into a private network that was not named.

A name is looked up once for each delivery and the address found is the one that is called, so that a name which changes its address between
check and call gains nothing. Redirects are not followed.
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
"""Addresses of a host name and port."""


def addresses(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class Webhooks:
    """Where events go.

    Attributes:
        urls: each gets every event.
        allowed: host names (or addresses) that may be called; a private address only if it is listed itself.
        secret: key of the signature `X-Palate-Signature: sha256=HMAC(body)`.
        resolve: looks a name up.
    """

    urls: tuple[str, ...] = ()
    allowed: frozenset[str] = frozenset()
    secret: str = ""
    resolve: Resolve = field(default=addresses, repr=False)

    def __post_init__(self) -> None:
        for url in self.urls:
            self.parts(url)

    def parts(self, url: str) -> SplitResult:
        """The pieces of an address that may be called.

        Raises:
            ConfigError: it is no http address, holds a password, or its host is not on the allow-list.
        """
        try:
            found = urlsplit(url)
            found.port  # noqa: B018 (raises when it is no number)
        except ValueError as error:
            raise ConfigError(f"webhook {url!r} is no address: {error}.") from error
        if found.scheme not in {"http", "https"} or not found.hostname or found.username or found.password is not None:
            raise ConfigError(f"webhook {url!r} must be http:// or https:// with a host and without a password.")
        if found.hostname not in self.allowed:
            raise ConfigError(f"webhook host {found.hostname!r} is not on the allow-list; add it with --webhook_allow {found.hostname}.")
        return found

    def address(self, host: str, port: int) -> str:
        """The address to call.

        Raises:
            ConfigError: any address of the name is private, local or reserved, and not itself on the allow-list.
        """
        try:
            found = self.resolve(host, port)
        except OSError as error:
            raise ConfigError(f"webhook host {host!r} is not known: {error}.") from error
        for text in found:
            if not is_public(text) and text not in self.allowed:
                raise ConfigError(f"webhook host {host!r} leads to {text}, which is no public address; add it with --webhook_allow {text}.")
        return found[0]

    def send(self, url: str, event: Mapping[str, object]) -> int:
        """The status of one delivery.

        Raises:
            ConfigError: the address may not be called.
            OSError: nobody answers.
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
    """Whether an address belongs to the open Internet; one that wraps an IPv4 address is judged by what it wraps."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and not address.is_reserved


class WebhookSender:
    """A thread that delivers events, each up to three times; what cannot be delivered is handed to `lost(url, reason)`."""

    def __init__(self, webhooks: Webhooks, lost: Callable[[str, str], None], pause: Callable[[float], None] = time.sleep) -> None:
        self._webhooks, self._lost, self._pause = webhooks, lost, pause
        self._waiting: queue.Queue[Mapping[str, object] | None] = queue.Queue(LONGEST_QUEUE)
        self._thread = threading.Thread(target=self._deliver, name="palate-webhooks", daemon=True)
        if webhooks.urls:
            self._thread.start()

    def tell(self, event: Mapping[str, object]) -> None:
        """Queues an event; never waits. With a full queue the event is lost, and said to be."""
        if not self._webhooks.urls:
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._lost("every webhook", f"{LONGEST_QUEUE} events are waiting already")

    def close(self) -> None:
        """Delivers what is queued, waiting 10 seconds at most."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(10)

    def _deliver(self) -> None:
        while (event := self._waiting.get()) is not None:
            for url in self._webhooks.urls:
                if reason := self._failure(url, event):
                    self._lost(url, reason)

    def _failure(self, url: str, event: Mapping[str, object]) -> str:
        """Why it could not be delivered; "" when it was."""
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
