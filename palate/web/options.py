"""The options of `palate label`. Loads nothing heavy, so that `--help` is quick."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Label:
    """The settings of `palate label`.

    Attributes:
        ratings: where the ratings are: a path, or an address of PostgreSQL.
        host: address to listen at; 127.0.0.1 is this machine alone.
        port: its port; 0 takes a free one.
        items: a file to be imported into `project` first, of any kind that `palate exchange` reads.
        project: name of the project for `items`; it is made if it is not there.
        media: folder with images and clips.
        https: people come by https, through a proxy: cookies go by https alone, and the proxy's word on addresses is taken.
        webhooks: addresses that are told of each judgment; `webhook_hosts`: the hosts that may be called.
        model_url: address of an OpenAI-compatible API for probe tasks; `model`: the model's name there.
        backup: file to copy the ratings to, in place of serving; `restore`: one to put into an empty database.
    """

    ratings: str = "ratings.db"
    host: str = "127.0.0.1"
    port: int = 8080
    items: Path | None = None
    project: str = "First project"
    media: Path | None = None
    https: bool = False
    webhooks: tuple[str, ...] = ()
    webhook_hosts: tuple[str, ...] = ()
    model_url: str = ""
    model: str = ""
    backup: Path | None = None
    restore: Path | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declares them."""
    own = Label()
    parser.add_argument("--ratings", default=own.ratings, metavar="URL", help="a file, or postgresql+psycopg://... (default: %(default)s)")
    parser.add_argument("--host", default=own.host, help="address to listen at (default: %(default)s, this machine alone)")
    parser.add_argument("--port", type=int, default=own.port, metavar="N", help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="a file to add first: prompts and completions, or any that `exchange` reads"
    )
    parser.add_argument("--project", default=own.project, metavar="NAME", help="project that --items go to (default: %(default)s)")
    parser.add_argument("--media", type=Path, metavar="DIR", help="folder with the images and clips that items name")
    parser.add_argument("--https", action="store_true", help="people come by https, through a proxy on this machine")
    parser.add_argument("--webhook", action="append", default=[], metavar="URL", help="told of each judgment; may be given again")
    parser.add_argument(
        "--webhook_allow", action="append", default=[], metavar="HOST", help="a host that webhooks may call; may be given again"
    )
    parser.add_argument("--model_url", default="", metavar="URL", help="an OpenAI-compatible API, for tasks that probe a live model")
    parser.add_argument("--model", default="", metavar="NAME", help="the model's name there")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--upgrade", action="store_true", help="bring a database of an older version up to date, and stop")
    instead.add_argument("--backup", type=Path, metavar="FILE", help="copy the ratings to a new file, also while they are in use, and stop")
    instead.add_argument("--restore", type=Path, metavar="FILE", help="put such a copy into an empty database, and stop")


def label_of(found: argparse.Namespace) -> Label:
    """The settings that the words gave."""
    return Label(
        ratings=found.ratings,
        host=found.host,
        port=found.port,
        items=found.items,
        project=found.project,
        media=found.media,
        https=found.https,
        webhooks=tuple(found.webhook),
        webhook_hosts=tuple(found.webhook_allow),
        model_url=found.model_url,
        model=found.model,
        backup=found.backup,
        restore=found.restore,
    )
