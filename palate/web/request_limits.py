"""What every request passes first: bodies no larger than allowed, and headers that keep pages from doing what they should not."""

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
    """Bytes that a request may bring: `body` as a rule, `upload` where items are imported (paths that match `uploads`)."""

    body: int = 256 * 1024
    upload: int = 64 * 1024 * 1024
    uploads: str = r"/(api/)?projects/[^/]+/(items|scores)"

    def of(self, path: str) -> int:
        """Bytes that a request to this path may bring."""
        return self.upload if re.fullmatch(self.uploads, path) else self.body


@dataclass(frozen=True)
class RequestLimits:
    """ASGI middleware: 413 for a body that is too large, announced or not, and `HEADERS` where a response does not set its own."""

    app: ASGIApp
    limits: Limits = Limits()
    secure: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.limits.of(scope["path"])
        announced = Headers(scope=scope).get("content-length", "0")
        guarded = self._guarded(send)
        if not announced.isdigit() or int(announced) > most:
            refusal = PlainTextResponse(TOO_LARGE.format(most), 413, headers={"Connection": "close"})
            await refusal(scope, receive, guarded)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, TOO_LARGE.format(most))
            return message

        await self.app(scope, counted, guarded)

    def _guarded(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.secure:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        return guarded
