"""What every handler needs, made once when the server starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from palate.stores.ratings import Progress, Ratings
from palate.web.credentials import Passwords, Tokens
from palate.web.live import LiveModel
from palate.web.shield import Limits
from palate.web.webhooks import Courier

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

DAY = 86400.0
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class WebSettings:
    """How the server behaves.

    Attributes:
        media: folder with images and clips; None: items have text only.
        secure: people reach it by https (a proxy in front): cookies go by https alone.
        session_seconds: how long a sign-in lasts; `key_seconds`: how long a key for programs.
        attempts: failed sign-ins with one name in `window_seconds` before it has to wait; `address_attempts` from one address.
        pass_mark: share of qualification items to be answered rightly.
        limits: bytes of requests.
        probe: the live model of probe tasks.
    """

    media: Path | None = None
    secure: bool = False
    session_seconds: float = 14 * DAY
    key_seconds: float = 90 * DAY
    attempts: int = 5
    address_attempts: int = 30
    window_seconds: float = 900.0
    pass_mark: float = 0.8
    limits: Limits = Limits()
    probe: LiveModel | None = None


@dataclass(frozen=True)
class Service:
    """The store, the settings, and the sources of time, chance and secrets."""

    ratings: Ratings
    settings: WebSettings
    clock: Clock
    token: Tokens
    random: Random
    passwords: Passwords
    courier: Courier
    _progress: dict[str, tuple[float, Progress]] = field(default_factory=dict, repr=False)

    def audit(self, actor: str, action: str, subject: str, detail: dict[str, object] | None = None) -> None:
        """Writes a row of the audit log."""
        self.ratings.audit(actor, action, subject, self.clock(), detail)

    def progress(self, project: str, *, fresh: bool = False) -> Progress:
        """Where a project stands, counted at most every 5 seconds unless it must be fresh."""
        now = self.clock()
        kept = self._progress.get(project)
        if kept is not None and not fresh and 0 <= now - kept[0] < PROGRESS_SECONDS:
            return kept[1]
        found = self.ratings.progress(project, now)
        self._progress[project] = (now, found)
        return found
