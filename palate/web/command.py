"""`palate label`: open the ratings, and serve the pages until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import SystemRandom

import uvicorn

from palate.core import ConfigError
from palate.data.exchange import read_exchange, rule_questions
from palate.data.rule_file import RuleFile
from palate.ratings import Link, Ratings, open_ratings, upgrade_ratings, use_ratings
from palate.web.app import create_app
from palate.web.browser import open_page
from palate.web.connections import allow_many_connections, server_config
from palate.web.credentials import Passwords, hashed
from palate.web.options import LabelOptions
from palate.web.probe_model import ProbeModel
from palate.web.service import DAY, Service, WebSettings
from palate.web.transfer import upload_notes
from palate.web.webhooks import Webhooks, WebhookSender

SECRET, MODEL_KEY = "PALATE_WEBHOOK_SECRET", "PALATE_MODEL_KEY"
"""Environment variables."""


def upgrade(options: LabelOptions, say: Callable[[str], None]) -> None:
    """Bring an older database to this version's schema."""
    before, after = upgrade_ratings(options.ratings)
    say(f"the schema was {before} and is {after}" if before != after else f"the schema is {after} already; nothing was changed")


def serve(options: LabelOptions, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Serve the pages at a socket until Ctrl-C.

    Raises:
        ConfigError: the database, the media folder, or a webhook cannot be used.
        DataError: a row of `items` is invalid.
    """
    if options.media is not None and not options.media.is_dir():
        raise ConfigError(f"--media {options.media} is not a folder.")
    if options.rules is not None and options.items is None:
        raise ConfigError("--rules is about the items of --items. Name a file with them too.")
    with closing(open_ratings(options.ratings, create=True)) as ratings:
        service = make_service(options, ratings)
        if options.items is not None:
            say(import_items(service, options.items, options.project, options.rules))
        allow_many_connections()
        address = f"http://{options.host}:{listener.getsockname()[1]}"
        say(f"Palate listens at {address}")
        token = owner_link(service)
        if token:
            say(f"There is no owner yet. This link makes the first one. It works once, for a day:\n\n    {address}/setup/{token}\n")
        say("Ctrl-C stops it.")
        if options.open:
            open_page(f"{address}/setup/{token}" if token else address)
        config = server_config(create_app(service), behind_proxy=options.https)
        uvicorn.Server(config).run(sockets=[listener])


def make_service(options: LabelOptions, ratings: Ratings) -> Service:
    """Return the service of a real server, with real clocks and secrets.

    Raises:
        ConfigError: a webhook or the model's address cannot be used.
    """
    webhooks = Webhooks(options.webhooks, frozenset(options.webhook_hosts), os.environ.get(SECRET, ""))
    if webhooks.urls and not webhooks.secret:
        raise ConfigError(f"webhooks are signed: put a secret into the environment variable {SECRET}.")

    def record_loss(url: str, reason: str) -> None:
        ratings.audit("", "webhook lost", url, time.time(), {"reason": reason})

    key = os.environ.get(MODEL_KEY, "").strip()
    probe = ProbeModel.at(options.model_url, options.model, key) if options.model_url else None
    settings = WebSettings(media=options.media, secure=options.https, probe=probe)
    sender = WebhookSender(webhooks, record_loss)
    return Service(ratings, settings, time.time, lambda: secrets.token_urlsafe(32), SystemRandom(), Passwords(), sender)


def owner_link(service: Service) -> str:
    """Issue the set-up link of the first owner and return its token, "" if there is an owner."""
    if any(account.role == "owner" for account in service.ratings.accounts()):
        return ""
    token = service.token()
    now = service.clock()
    service.ratings.issue_link(hashed(token, "setup"), Link("setup", None, now + DAY), now)
    return token


def import_items(service: Service, path: Path, project: str, rules: Path | None = None) -> str:
    """Import a file into a project and say what was imported. With a file of rules, each item is a question about one of them.

    Raises:
        ConfigError: the file does not exist.
        DataError: a row is invalid, none of the media that the rows name exists, or the rules cannot be used. Nothing was added.
    """
    if not path.exists():
        raise ConfigError(f"--items {path} does not exist. Give the path of a file; docs/exchange.md shows the kinds.")
    exchange = read_exchange(path)
    if rules is not None:
        exchange = rule_questions(exchange, RuleFile.read(rules), project)
    notes = upload_notes(exchange, service.settings.media)
    parts = [str(service.ratings.import_exchange(exchange, project, service.clock()))]
    if exchange.dropped:
        first = exchange.dropped[0]
        parts.append(f"left out with nothing to judge: {len(exchange.dropped)}, the first {first.source} ({first.reason})")
    return "\n".join(["; ".join(parts), *(f"Note: {note}." for note in notes)])


def backup(options: LabelOptions, say: Callable[[str], None]) -> None:
    """Copy the ratings at one moment to a new file. The server may run meanwhile.

    Raises:
        ConfigError: the file exists, its folder does not exist, or the ratings cannot be opened.
        RunError: no space is left.
    """
    assert options.backup is not None
    if options.backup.exists():
        raise ConfigError(f"--backup {options.backup} exists already. Name a new file, or move the old one away first.")
    with use_ratings(options.ratings) as ratings:
        ratings.backup(options.backup)
    say(f"{options.backup}: {options.backup.stat().st_size} bytes. It holds names and password hashes: protect it like the ratings.")


def restore(options: LabelOptions, say: Callable[[str], None]) -> None:
    """Put a copy into a new or empty database.

    Raises:
        ConfigError: the database is not empty, or cannot be opened.
        DataError: the file is not a backup, is damaged, or was made by a newer version.
        RunError: no space is left.
    """
    assert options.restore is not None
    with use_ratings(options.ratings, create=True) as ratings:
        notes = ratings.restore(options.restore)
        counts = f"{len(ratings.projects())} projects, {len(ratings.accounts())} accounts"
    say(f"{options.restore} is restored: {counts}. Everybody has to sign in again.")
    for note in notes:
        say(f"Note: {note}.")
