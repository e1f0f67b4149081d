"""Telling images and clips from texts."""

from __future__ import annotations

import re

from palate.stores.exchange.content import Candidate

IMAGES = ("png", "jpg", "jpeg", "gif", "webp", "bmp")
CLIPS = ("mp4", "webm", "mov")
_MEDIA = re.compile(rf"(?:[a-z]+://|/|\./)?[^\s<>\"'|*]+\.(?:{'|'.join((*IMAGES, *CLIPS))})(?:\?[^\s<>\"']*)?", re.IGNORECASE)


def media_or_text(said: str) -> Candidate:
    """The candidate: a path or address that ends as images and clips do is a medium, anything else a text."""
    return Candidate(media=said) if _MEDIA.fullmatch(said) else Candidate(text=said)


def is_clip(media: str) -> bool:
    """Whether a medium moves and is played, by its ending."""
    return media.partition("?")[0].lower().endswith(CLIPS)
