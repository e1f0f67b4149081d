"""Commands about a model in use: `serve` answers by HTTP, `feedback` turns what users said into data."""

from __future__ import annotations

from pathlib import Path

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.core import ConfigError
from palate.pipeline.table import Stages


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
    try:
        if options.new_key is not None:
            from palate.serving.api_keys import add_key

            say(f"{add_key(options.keys, options.new_key)}\nThis key is shown once. {options.keys} has its hash.")
            return 0
        from palate.serving import server
    except ImportError as error:
        raise ConfigError(f"palate serve needs {error.name}. Install palate[train,label].") from error
    server.serve_model(serve_options(options), say)
    return 0


def feedback_parser() -> Parser:
    """What `palate feedback` takes."""
    parser = Parser("feedback", COMMANDS["feedback"])
    parser.add_argument(
        "store", type=Path, metavar="DIR", help="the folder that `palate serve --store` filled; the server may run meanwhile"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the folder itself)")
    return parser


def feedback(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate feedback`; returns the exit status."""
    options = feedback_parser().parse(words)
    from palate.serving.feedback_rows import write_feedback_files

    for line in write_feedback_files(options.store, options.out or options.store):
        say(line)
    return 0
