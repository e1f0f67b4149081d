"""`palate watch`: follow running trainings on a live page."""

from __future__ import annotations

from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say
from palate.pipeline.table import Stages
from palate.web.listener import listen


def watch_parser() -> Parser:
    """What `palate watch` takes."""
    parser = Parser("watch", COMMANDS["watch"])
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="directories of runs, running or ended; one page shows all")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=8081, metavar="N", help="port; 0 takes a free one (default: %(default)s)")
    return parser


def watch(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate watch`; returns the exit status."""
    options = watch_parser().parse(words)
    with listen(options.host, options.port) as listener:
        from palate.web import watch_app

        watch_app.watch(options.runs, options.host, listener, say)
    return 0
