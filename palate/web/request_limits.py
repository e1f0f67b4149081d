"""Middleware for every request: limits on the size and the time of its body, and security headers on its response."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
TOO_LARGE = "The request is larger than {:,} bytes, the most that this server reads. Send it in smaller parts."
TOO_SLOW = "The body of the request came too slowly. Send it again, in smaller parts if the network is slow."


@dataclass(frozen=True)
class Limits:
    """Largest body of a request in bytes, and how long it may take.

    Attributes:
        body: the limit for most paths.
        upload: the limit for paths that match `uploads`.
        public: the limit for paths that match `strangers`.
        uploads: pattern of the paths that import items or scores.
        strangers: pattern of the paths that take forms of people who are not signed in.
        seconds: how long any body may take.
        rate: bytes for which it may take a second more.
    """

    body: int = 256 * 1024
    upload: int = 64 * 1024 * 1024
    public: int = 16 * 1024
    uploads: str = r"/(api/)?projects/[^/]+/(items|scores)"
    strangers: str = r"/(signin|(setup|invitations|passwords|judge)/[^/]*)"
    seconds: float = 30.0
    rate: float = 10_000.0

    def of(self, path: str) -> int:
        """Return the limit for a path."""
        if re.fullmatch(self.uploads, path):
            return self.upload
        return min(self.body, self.public) if re.fullmatch(self.strangers, path) else self.body


def plain_refusal(message: str, status: int) -> Response:
    """Return a refusal as plain text."""
    return PlainTextResponse(message, status, headers={"Connection": "close"})


@dataclass(frozen=True)
class RequestLimits:
    """ASGI middleware that limits bodies and adds `HEADERS` that the response lacks.

    It answers 413 to a body that is too large, announced or not, and 408 to one that comes too slowly. `refusal` writes the answer to a
    body that announces its size, which the application does not see.
    """

    app: ASGIApp
    limits: Limits = Limits()
    secure: bool = False
    refusal: Callable[[str, int], Response] = plain_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and watch its body while it is read."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.of(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        send_with_headers = self._with_headers(send)
        if not re.fullmatch("[0-9]{1,15}", announced) or int(announced) > limit:
            await self.refusal(TOO_LARGE.format(limit), 413)(scope, receive, send_with_headers)
            return
        await self.app(scope, self._watched(receive, limit), send_with_headers)

    def _watched(self, receive: Receive, limit: int) -> Receive:
        """Return a `receive` that refuses to read more than `limit` bytes, or to wait for them too long."""
        loop = asyncio.get_running_loop()
        begun, received, is_complete = loop.time(), 0, False

        async def watched() -> Message:
            nonlocal received, is_complete
            if is_complete:  # what comes now is that the client has gone, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(begun + self.limits.seconds + received / self.limits.rate):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, TOO_SLOW, headers={"Connection": "close"}) from error
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > limit:
                raise HTTPException(413, TOO_LARGE.format(limit), headers={"Connection": "close"})
            return message

        return watched

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.secure:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        return send_with_headers
