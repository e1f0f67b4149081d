"""The options of `palate label`. This module imports nothing heavy, so that `--help` is quick."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LabelOptions:
    """The options of `palate label`.

    Attributes:
        ratings: the database of ratings: a path, or the address of a PostgreSQL database.
        host: address to listen on; 127.0.0.1 is this machine only.
        port: port to listen on; 0 takes a free one.
        items: a file to import into `project` first, of any kind that `palate exchange` reads.
        project: name of the project for `items`; it is made if it does not exist.
        rules: a file of rules that `items` are asked about; their project gets these rules and guidelines with their examples.
        media: folder with images and clips; None serves no media.
        https: people come by https through a proxy. Cookies are sent by https only, and the proxy's word on addresses is trusted.
        webhooks: addresses that each judgment is sent to.
        webhook_hosts: hosts that webhooks may call.
        model_url: address of an OpenAI-compatible API for probe tasks.
        model: the model's name there.
        backup: file to copy the ratings to, instead of serving.
        open: open the pages in a browser, where there is one with a window.
        restore: such a copy to put into an empty database, instead of serving.
    """

    ratings: str = "ratings.db"
    host: str = "127.0.0.1"
    port: int = 8080
    items: Path | None = None
    project: str = "First project"
    rules: Path | None = None
    media: Path | None = None
    https: bool = False
    webhooks: tuple[str, ...] = ()
    webhook_hosts: tuple[str, ...] = ()
    model_url: str = ""
    model: str = ""
    backup: Path | None = None
    restore: Path | None = None
    open: bool = False


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    defaults = LabelOptions()
    parser.add_argument(
        "--ratings", default=defaults.ratings, metavar="URL", help="a file or postgresql+psycopg://... (default: %(default)s)"
    )
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=defaults.port, metavar="N", help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="a file to add first: prompts and completions, or any kind that `exchange` reads"
    )
    parser.add_argument("--project", default=defaults.project, metavar="NAME", help="project for --items (default: %(default)s)")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="a file of rules: raters say whether the items break them")
    parser.add_argument("--media", type=Path, metavar="DIR", help="folder with the images and clips that items name")
    parser.add_argument("--https", action="store_true", help="people come by https, through a proxy on this machine")
    parser.add_argument("--webhook", action="append", default=[], metavar="URL", help="send each judgment to this address; repeatable")
    parser.add_argument("--webhook_allow", action="append", default=[], metavar="HOST", help="a host that webhooks may call; repeatable")
    parser.add_argument("--model_url", default="", metavar="URL", help="an OpenAI-compatible API, for tasks that probe a live model")
    parser.add_argument("--model", default="", metavar="NAME", help="the model's name there")
    parser.add_argument("--open", action="store_true", help="open the pages in a browser, where there is one with a window")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--upgrade", action="store_true", help="bring a database of an older version up to date, then stop")
    actions.add_argument("--backup", type=Path, metavar="FILE", help="copy the ratings to a new file, then stop; works beside a server")
    actions.add_argument("--restore", type=Path, metavar="FILE", help="put such a copy into an empty database, then stop")


def label_options(arguments: argparse.Namespace) -> LabelOptions:
    """Return the options in parsed arguments."""
    return LabelOptions(
        ratings=arguments.ratings,
        host=arguments.host,
        port=arguments.port,
        items=arguments.items,
        project=arguments.project,
        rules=arguments.rules,
        media=arguments.media,
        https=arguments.https,
        webhooks=tuple(arguments.webhook),
        webhook_hosts=tuple(arguments.webhook_allow),
        model_url=arguments.model_url,
        model=arguments.model,
        backup=arguments.backup,
        restore=arguments.restore,
        open=arguments.open,
    )
