"""Commands about a model in use: `serve` answers by HTTP, `feedback` turns what users said into data."""

from __future__ import annotations

import time
from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.config.artifacts import require_models
from palate.core import ConfigError
from palate.pipeline.table import Stages
from palate.web.listener import listen


def serve_parser() -> Parser:
    """What `palate serve` takes."""
    from palate.serving.serve_options import add_serve_options

    parser = Parser("serve", COMMANDS["serve"])
    add_serve_options(parser)
    return parser


def serve(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate serve`; returns the exit status."""
    from palate.serving.serve_options import serve_options

    options = serve_parser().parse([underscored(word) for word in words])
    if options.new_key is not None and options.keys is None:
        raise ConfigError("--new_key adds a key to the file of --keys. Name that file too.")
    if not (options.model or options.upstream) and options.new_key is None:
        raise ConfigError("palate serve needs MODEL: a policy, or the run that trained it. With --upstream URL another server draws.")
    if options.new_key is not None:
        from palate.serving.api_keys import add_key

        say(f"{add_key(options.keys, options.new_key)}\nThis key is shown once. {options.keys} has its hash.")
        return 0
    settings = serve_options(options)
    require_models(*(path for path in (settings.model, settings.rule_model, *settings.reward) if path))
    with listen(settings.host, settings.port) as listener:
        say(f"Palate loads {settings.model or settings.upstream} ...")
        from palate.serving import server

        server.serve_model(settings, listener, say)
    return 0


def feedback_parser() -> Parser:
    """What `palate feedback` takes."""
    parser = Parser("feedback", COMMANDS["feedback"])
    parser.add_argument(
        "store", type=Path, metavar="DIR", help="the folder that `palate serve --store` filled; the server may run meanwhile"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the folder itself)")
    parser.add_argument("--database", metavar="URL", help="put what was said into this database of ratings too, as judgments")
    parser.add_argument("--project", metavar="NAME", help="the database's project; verdicts on single answers go to `NAME: METRIC`")
    return parser


def feedback(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate feedback`; returns the exit status."""
    options = feedback_parser().parse(words)
    from palate.serving.feedback_rows import write_feedback_files

    if (options.database is None) != (options.project is None):
        raise ConfigError("--database and --project belong together: the database of ratings, and the project there. Give both.")
    for line in write_feedback_files(options.store, options.out or options.store):
        say(line)
    if options.database is not None:
        _write_judgments(options.store, options.database, options.project)
    return 0


def _write_judgments(store: Path, database: str, project: str) -> None:
    """Put feedback into a database of ratings, and say what was new."""
    from palate.cli.exchange_command import opened_ratings
    from palate.serving.feedback_judgments import feedback_exchanges
    from palate.serving.feedback_rows import feedback_file

    with opened_ratings(database, create=True) as ratings:
        tasks = {one.name: one.task for one in ratings.projects()}
        for name, judgments in feedback_exchanges(feedback_file(store), project, tasks).items():
            say(f"{database}: {ratings.import_exchange(judgments, name, time.time())}")
