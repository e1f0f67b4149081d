"""Send a picture or clip of an item so that nothing but the picture tells whose it is.

The response does not carry the name or the date of the file, and its tag is of this server and this address only. The file goes without its
metadata. What stays visible is what the browser needs: the format, the number of bytes, the size in pixels and the length of a clip.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from palate.web.clip_metadata import Patch, patches
from palate.web.display import MEDIA_HEADERS
from palate.web.picture_metadata import without_metadata

CHUNK = 256 * 1024
_SECRET = secrets.token_bytes(32)
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


@dataclass(frozen=True)
class _Picture:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        yield self.data[start:end]


@dataclass(frozen=True)
class _Clip:
    path: Path
    size: int
    patches: tuple[Patch, ...]

    def read(self, start: int, end: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end and (chunk := bytearray(file.read(min(CHUNK, end - start)))):
                for at, instead in self.patches:
                    first, last = max(at, start), min(at + len(instead), start + len(chunk))
                    if first < last:
                        chunk[first - start : last - start] = instead[first - at : last - at]
                yield bytes(chunk)
                start += len(chunk)


def media_response(request: Request, path: Path, content_type: str) -> Response:
    """Return the response with the file, or with the part of it that the request asks for (one range of bytes)."""
    status = path.stat()
    marks = (path, status.st_mtime_ns, status.st_size)
    content = _Picture(_picture(*marks)) if content_type.startswith("image/") else _Clip(path, status.st_size, _patches(*marks))
    named = f"{request.url.path} {status.st_mtime_ns} {status.st_size}"
    tag = f'"{hmac.new(_SECRET, named.encode(), "sha256").hexdigest()[:24]}"'
    headers = {**MEDIA_HEADERS, "Accept-Ranges": "bytes", "ETag": tag, "Content-Type": content_type}
    wanted = _wanted(request, tag, content.size)
    if wanted is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{content.size}"})
    start, end = wanted
    is_part = (start, end) != (0, content.size)
    headers |= {"Content-Length": str(end - start)} | ({"Content-Range": f"bytes {start}-{end - 1}/{content.size}"} if is_part else {})
    return StreamingResponse(content.read(start, end), 206 if is_part else 200, headers)


def _wanted(request: Request, tag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte to send and the one after the last, None if there is no such part. What cannot be read means all."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or request.headers.get("if-range", tag) != tag:
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if last and int(last) else (0, size)
    start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size:
        return None
    return (start, end) if start < end else (0, size)


@lru_cache(maxsize=32)
def _picture(path: Path, changed: int, size: int) -> bytes:  # noqa: ARG001 - a file that changes is read anew
    return without_metadata(path.read_bytes())


@lru_cache(maxsize=512)
def _patches(path: Path, changed: int, size: int) -> tuple[Patch, ...]:  # noqa: ARG001 - as above
    return patches(path)
