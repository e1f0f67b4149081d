"""Middleware for every request: a limit on its body, and security headers on its response."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
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
TOO_LARGE = "The request is larger than {} bytes."


@dataclass(frozen=True)
class Limits:
    """Largest body of a request in bytes.

    Attributes:
        body: the limit for most paths.
        upload: the limit for paths that match `uploads`.
        uploads: pattern of the paths that import items or scores.
    """

    body: int = 256 * 1024
    upload: int = 64 * 1024 * 1024
    uploads: str = r"/(api/)?projects/[^/]+/(items|scores)"

    def of(self, path: str) -> int:
        """Return the limit for a path."""
        return self.upload if re.fullmatch(self.uploads, path) else self.body


@dataclass(frozen=True)
class RequestLimits:
    """ASGI middleware that answers 413 to a body that is too large, announced or not, and adds `HEADERS` that the response lacks."""

    app: ASGIApp
    limits: Limits = Limits()
    secure: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its bytes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.of(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        send_with_headers = self._with_headers(send)
        if not announced.isdigit() or int(announced) > limit:
            refusal = PlainTextResponse(TOO_LARGE.format(limit), 413, headers={"Connection": "close"})
            await refusal(scope, receive, send_with_headers)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, TOO_LARGE.format(limit))
            return message

        await self.app(scope, counted, send_with_headers)

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
