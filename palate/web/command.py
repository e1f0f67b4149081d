"""`palate label`: opens the ratings, and serves the pages until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import uvicorn

from palate.core import ConfigError
from palate.data.exchange import read_exchange
from palate.ratings import Link, Ratings, open_ratings, upgrade_ratings, use_ratings
from palate.web.app import create_app
from palate.web.credentials import Passwords, hashed
from palate.web.options import Label
from palate.web.probe_model import ProbeModel
from palate.web.service import DAY, Service, WebSettings
from palate.web.upload_checks import remarks
from palate.web.webhooks import Webhooks, WebhookSender

SECRET, MODEL_KEY = "PALATE_WEBHOOK_SECRET", "PALATE_MODEL_KEY"
"""Environment variables."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection is kept between two answers: longer than most people read."""


def upgrade(label: Label, say: Callable[[str], None]) -> None:
    """Brings an older database to this version's schema."""
    before, after = upgrade_ratings(label.ratings)
    say(f"the schema was {before} and is {after}" if before != after else f"the schema is {after} already; nothing was changed")


def serve(label: Label, say: Callable[[str], None]) -> None:
    """Serves until Ctrl-C.

    Raises:
        ConfigError: the database, the media folder, the port, or a webhook cannot be used.
        DataError: a row of `items` is at fault.
    """
    if label.media is not None and not label.media.is_dir():
        raise ConfigError(f"--media {label.media} is no folder.")
    ratings = open_ratings(label.ratings, create=True)
    try:
        service = make_service(label, ratings)
        if label.items is not None:
            say(import_items(service, label.items, label.project))
        with listen(label) as listener:
            address = f"http://{label.host}:{listener.getsockname()[1]}"
            say(f"Palate listens at {address}")
            token = owner_link(service)
            if token:
                say(f"There is no owner yet. This link makes the first; it works once, for a day:\n\n    {address}/setup/{token}\n")
            say("Ctrl-C stops it.")
            forwarded = "127.0.0.1" if label.https else None
            config = uvicorn.Config(
                create_app(service),
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                proxy_headers=label.https,
                forwarded_allow_ips=forwarded,
            )
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        ratings.close()


def listen(label: Label) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: host or port cannot be had.
    """
    try:
        listener = socket.create_server(
            (label.host, label.port), family=socket.AF_INET6 if ":" in label.host else socket.AF_INET, backlog=512
        )
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {label.host}:{label.port} ({error}). Choose another --port, or end what holds it.") from error
    # asyncio does not see that a socket made elsewhere is TCP; without this every small answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_service(label: Label, ratings: Ratings) -> Service:
    """What the pages need, with real clocks and secrets."""
    webhooks = Webhooks(label.webhooks, frozenset(label.webhook_hosts), os.environ.get(SECRET, ""))
    if webhooks.urls and not webhooks.secret:
        raise ConfigError(f"webhooks are signed: put a secret into the environment variable {SECRET}.")

    def lost(url: str, reason: str) -> None:
        ratings.audit("", "webhook lost", url, time.time(), {"reason": reason})

    key = os.environ.get(MODEL_KEY, "").strip()
    probe = ProbeModel.at(label.model_url, label.model, key) if label.model_url else None
    settings = WebSettings(media=label.media, secure=label.https, probe=probe)
    return Service(
        ratings, settings, time.time, lambda: secrets.token_urlsafe(32), SystemRandom(), Passwords(), WebhookSender(webhooks, lost)
    )


def owner_link(service: Service) -> str:
    """The token of the set-up link while there is no owner; "" afterwards."""
    if any(one.role == "owner" for one in service.ratings.accounts()):
        return ""
    token = service.token()
    now = service.clock()
    service.ratings.issue_link(hashed(token, "setup"), Link("setup", None, now + DAY), now)
    return token


def import_items(service: Service, path: Path, name: str) -> str:
    """What was imported, in words.

    Raises:
        ConfigError: there is no such file.
        DataError: a row is at fault, or no medium that the rows name is there; nothing was added.
    """
    if not path.exists():
        raise ConfigError(f"--items {path} does not exist. Give the path of a file; docs/exchange.md shows the kinds.")
    said = read_exchange(path)
    odd = remarks(said, service.settings.media)
    told = [str(service.ratings.import_exchange(said, name, service.clock()))]
    if said.dropped:
        told.append(f"{len(said.dropped)} rows with nothing to judge left out, the first: {said.dropped[0]}")
    return "\n".join(["; ".join(told), *(f"Note: {one}." for one in odd)])


def backup(label: Label, say: Callable[[str], None]) -> None:
    """Writes a copy of the ratings, of one moment, while others go on.

    Raises:
        ConfigError: the copy's file is there already, or its folder is not; or the ratings cannot be opened.
        RunError: no space is left.
    """
    assert label.backup is not None
    if label.backup.exists():
        raise ConfigError(f"--backup {label.backup} is there already. Name a new file, or take the old one away first.")
    with use_ratings(label.ratings) as ratings:
        ratings.backup(label.backup)
    say(f"{label.backup}: {label.backup.stat().st_size} bytes. It holds names and password hashes: keep it as you keep the ratings.")


def restore(label: Label, say: Callable[[str], None]) -> None:
    """Puts a copy into a new or empty database.

    Raises:
        ConfigError: the database is not empty, or cannot be opened.
        DataError: the copy is none, is damaged, or was made by a newer version.
        RunError: no space is left.
    """
    assert label.restore is not None
    with use_ratings(label.ratings, create=True) as ratings:
        ratings.restore(label.restore)
        counts = f"{len(ratings.projects())} projects, {len(ratings.accounts())} accounts"
    say(f"{label.restore} is restored: {counts}. Everybody has to sign in again.")
