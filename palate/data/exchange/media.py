"""Telling images and clips from texts."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from palate.data.exchange.exchange import Candidate

IMAGES = ("png", "jpg", "jpeg", "gif", "webp", "bmp")
CLIPS = ("mp4", "webm", "mov")
SHOWN = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".webm")
"""Endings of what the rating pages show."""
_MEDIA = re.compile(rf"(?:[a-z]+://|/|\./)?[^\s<>\"'|*]+\.(?:{'|'.join((*IMAGES, *CLIPS))})(?:\?[^\s<>\"']*)?", re.IGNORECASE)


def media_or_text(said: str) -> Candidate:
    """The candidate: a path or address that ends as images and clips do is a medium, anything else a text."""
    return Candidate(media=said) if _MEDIA.fullmatch(said) else Candidate(text=said)


def is_clip(media: str) -> bool:
    """Whether a medium moves and is played, by its ending."""
    return media.partition("?")[0].lower().endswith(CLIPS)


def is_shown(media: str) -> bool:
    """Whether the rating pages can show it: a path inside the media folder with an ending of `SHOWN`."""
    path = PurePosixPath(media)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\\" not in media and "://" not in media and media.isprintable()
    return is_inside and path.suffix.lower() in SHOWN
