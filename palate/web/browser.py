"""Open a page in the user's browser, where there is one with a window."""

from __future__ import annotations

import os
import sys
import webbrowser


def open_page(address: str) -> bool:
    """Open the address, and return whether a browser took it. Nothing is opened without a terminal or without a window."""
    return sys.stdout.isatty() and has_window() and webbrowser.open(address)


def has_window() -> bool:
    """Whether a browser can open a window. Elsewhere Python would start one inside the terminal."""
    return sys.platform in {"darwin", "win32"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
