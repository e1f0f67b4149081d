"""Pages for the person at this machine alone: what else a request has to show where nobody signs in with a password."""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names of this machine."""


@dataclass(frozen=True)
class OwnMachineOnly:
    """ASGI middleware that answers only this machine, under its own names.

    A page elsewhere could otherwise let its own name mean this machine, and read what is served here. It answers 403 to everybody else.
    """

    app: ASGIApp
    command: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it comes from this machine and asks for it by name."""
        if scope["type"] != "http" or (is_own_name(Headers(scope=scope).get("host", "")) and is_own_address(scope.get("client"))):
            await self.app(scope, receive, send)
            return
        message = f"This server answers to the name of this machine only. Open the address that `{self.command}` printed."
        await PlainTextResponse(message, 403)(scope, receive, send)


def is_own_name(host: str) -> bool:
    """Whether a Host header names this machine."""
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK
    except ValueError:
        return False


def is_own_address(client: tuple[str, int] | None) -> bool:
    """Whether a connection comes from this machine."""
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class OwnJudging:
    """One person of this machine judges one project without a password.

    Attributes:
        key: the secret in the link that `palate judge` prints.
        account: id of the account that judges. It does not have a password, and belongs to no other project.
        project: id of the project that `palate judge` made.
        result: the last page; the file appears once the reward model has learned.
        begun: somebody has opened the link and begun.
        delivered: the last page has been sent.
    """

    key: str
    account: str
    project: str
    result: Path
    begun: threading.Event = field(default_factory=threading.Event)
    delivered: threading.Event = field(default_factory=threading.Event)
