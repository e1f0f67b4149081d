"""Images and clips from one folder: no path leads out of it, and the type follows from the ending alone."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
    "Content-Disposition": "inline",
}


def media_kind(name: str) -> str:
    """`image` or `video` for a file that can be shown, "" for any other."""
    return TYPES.get(PurePosixPath(name).suffix.lower(), "").partition("/")[0]


def media_file(folder: Path | None, name: str) -> tuple[Path, str] | None:
    """Path and content type of a media file inside the folder; None where there is none, or it lies elsewhere, also by way of a link."""
    kind = TYPES.get(PurePosixPath(name).suffix.lower())
    if folder is None or kind is None or "\x00" in name or "\\" in name or not name.isprintable():
        return None
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return None
    except OSError:  # a name too long for the file system
        return None
    return path, kind
