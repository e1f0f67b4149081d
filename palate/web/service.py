"""What every handler needs, made once when the server starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from palate.clients.chat import ChatModel
from palate.ratings import Progress, Project, Ratings
from palate.web.credentials import Passwords, Tokens
from palate.web.figure_cache import CachedFigure, FigureCache
from palate.web.figures import ProjectFigures, findings
from palate.web.request_limits import Limits
from palate.web.webhooks import WebhookSender

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

DAY = 86400.0


@dataclass(frozen=True)
class WebSettings:
    """How the server behaves.

    Attributes:
        media: folder with images and clips; None: items have text only.
        secure: people reach it by https (a proxy in front): cookies go by https alone.
        session_seconds: how long a sign-in lasts; `key_seconds`: how long a key for programs.
        attempts: failed sign-ins with one name from one address in `window_seconds` before it has to wait; `name_attempts` with one name
            from anywhere, `address_attempts` from one address with any name.
        pass_mark: share of qualification items to be answered rightly.
        limits: bytes of requests.
        probe: the live model of probe tasks.
    """

    media: Path | None = None
    secure: bool = False
    session_seconds: float = 14 * DAY
    key_seconds: float = 90 * DAY
    attempts: int = 5
    name_attempts: int = 50
    address_attempts: int = 30
    window_seconds: float = 900.0
    pass_mark: float = 0.8
    limits: Limits = Limits()
    probe: ChatModel | None = None


@dataclass(frozen=True)
class Service:
    """The store, the settings, and the sources of time, chance and secrets."""

    ratings: Ratings
    settings: WebSettings
    clock: Clock
    token: Tokens
    random: Random
    passwords: Passwords
    courier: WebhookSender
    _findings: FigureCache[ProjectFigures] = field(default_factory=FigureCache, repr=False)
    _progress: FigureCache[Progress] = field(default_factory=FigureCache, repr=False)

    def audit(self, actor: str, action: str, subject: str, detail: dict[str, object] | None = None) -> None:
        """Writes a row of the audit log."""
        self.ratings.audit(actor, action, subject, self.clock(), detail)

    def progress(self, project: str, *, fresh: bool = False) -> Progress:
        """Where a project stands, as it was some seconds ago (`palate.web.figure_cache`) unless it must be fresh."""
        now = self.clock()
        ask = self._progress.renew if fresh else self._progress.get
        return ask(project, None, now, lambda: self.ratings.progress(project, now)).value

    def findings_of(self, project: Project) -> tuple[CachedFigure[ProjectFigures], int | None]:
        """What the answers say of their raters; None when that is of the present state, else how many rows of judgments came since.

        What is not of the present state is some seconds old (`palate.web.figure_cache`).
        """
        mark = self.ratings.project_state(project.id)
        counted = self._findings.get(project.id, mark, self.clock(), lambda: findings(self.ratings, project, mark.number))
        return counted, None if counted.mark == mark else self.ratings.num_rows_since(project.id, counted.value.number)
