"""The service that every handler needs. It is made once, when the server starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from palate.ratings import Progress, Project, Ratings
from palate.web.credentials import Passwords, Tokens
from palate.web.figure_cache import CachedFigure, FigureCache
from palate.web.figures import ProjectFigures, project_figures
from palate.web.own_machine import OwnJudging
from palate.web.probe_model import ProbeModel
from palate.web.request_limits import Limits
from palate.web.webhooks import WebhookSender

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

DAY = 86400.0


@dataclass(frozen=True)
class WebSettings:
    """How the server behaves.

    Attributes:
        media: folder with images and clips; None if items have text only.
        secure: people reach the server by https through a proxy, so cookies are sent by https only.
        session_seconds: how long a sign-in lasts.
        key_seconds: how long a key for programs lasts.
        attempts: failed sign-ins with one name from one address in `window_seconds` before the sender has to wait.
        name_attempts: the same with one name from anywhere.
        address_attempts: the same from one address with any name.
        window_seconds: how long a failed sign-in counts.
        pass_mark: share of qualification items that a rater must answer correctly.
        limits: limits on the bodies of requests.
        probe: the live model of probe tasks; None if there is none.
        own: who judges without a password, on this machine alone; None if everybody signs in.
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
    probe: ProbeModel | None = None
    own: OwnJudging | None = None


@dataclass(frozen=True)
class Service:
    """The store, the settings, and the sources of time, randomness and secrets."""

    ratings: Ratings
    settings: WebSettings
    clock: Clock
    token: Tokens
    random: Random
    passwords: Passwords
    webhooks: WebhookSender
    _figures: FigureCache[ProjectFigures] = field(default_factory=FigureCache, repr=False)
    _progress: FigureCache[Progress] = field(default_factory=FigureCache, repr=False)

    def audit(self, actor: str, action: str, subject: str, detail: dict[str, object] | None = None) -> None:
        """Write a row of the audit log."""
        self.ratings.audit(actor, action, subject, self.clock(), detail)

    def progress(self, project: str, *, fresh: bool = False) -> Progress:
        """Return the progress of a project. It may be some seconds old (`palate.web.figure_cache`) unless it must be fresh."""
        now = self.clock()
        read = self._progress.renew if fresh else self._progress.get
        return read(project, None, now, lambda: self.ratings.progress(project, now)).value

    def figures_of(self, project: Project) -> tuple[CachedFigure[ProjectFigures], int | None]:
        """Return the figures of a project, and how many rows of judgments came since they were computed.

        The second value is None if the figures are of the present state. Otherwise they are some seconds old (`palate.web.figure_cache`).
        """
        mark = self.ratings.project_state(project.id)
        figures = self._figures.get(project.id, mark, self.clock(), lambda: project_figures(self.ratings, project, mark.number))
        return figures, None if figures.mark == mark else self.ratings.num_rows_since(project.id, figures.value.number)
