"""The command line: `palate run FILE`, `palate STAGE ...`, `palate runs`, ... It imports heavy parts only when a command needs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from palate import __version__
from palate.cli import (
    completion,
    coverage_command,
    demo_command,
    exchange_command,
    forget_command,
    front_command,
    gate_command,
    init_command,
    judge_fit_command,
    model_commands,
    peak_command,
    plan_command,
    push_command,
    rater_commands,
    reward_commands,
    run_commands,
    serve_command,
    watch_command,
)
from palate.cli.help_page import show
from palate.cli.parser import COMMANDS, overview
from palate.cli.stage_command import stage
from palate.config.extras import not_installed
from palate.config.settings import nearest
from palate.core import OUT_OF_SPACE, WRONG_PATH, ConfigError, PalateError, RunError
from palate.core.process import limit_spinning, place
from palate.core.terminal_text import printable
from palate.pipeline.table import STAGES, Stages

__all__ = ["COMMANDS", "main"]

SERVERS = frozenset({"serve", "label", "watch"})
"""Commands that run until Ctrl-C."""


def main(argv: Sequence[str] | None = None, stages: Stages = STAGES) -> int:
    """Run one command and return its exit code. An error that the user can correct is one message on standard error.

    Args:
        argv: words after `palate`; by default those of the process.
        stages: the table of stages.
    """
    limit_spinning()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if place().world == 1:
            return _dispatch(words, stages)
        from palate.distributed.group import joined_group

        with joined_group():
            return _dispatch(words, stages)
    except KeyboardInterrupt:
        goes_on = "" if words[0] in SERVERS else " The same command continues from what is saved."
        sys.stderr.write(f"palate: stopped.{goes_on}\n")
        return 130
    except BrokenPipeError:  # the reader of a pipe (`palate runs | head`) has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (PalateError, ModuleNotFoundError, OSError) as error:
        told = _told(error, words[0])
        if told is None:
            raise
        sys.stderr.write(f"palate: {printable(str(told))}\n")
        return told.exit_code


def _told(error: Exception, command: str) -> PalateError | None:
    """Return the error as the user is told it; None where nothing that they can do is known."""
    if isinstance(error, PalateError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return not_installed(f"palate {command}", error)
    if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:
        return RunError(f"no space left for {error.filename or 'a file'} ({error.strerror}). Make room, and type the command again.")
    if isinstance(error, OSError) and error.errno in WRONG_PATH and error.filename is not None:
        place = error.filename2 or error.filename  # writing replaces the second path by the first
        return ConfigError(f"{os.fspath(place)}: {error.strerror}. Correct the path or its permissions, or restore what is missing there.")
    return None


def _dispatch(words: list[str], stages: Stages) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        show(overview([(name, entry.help) for name, entry in stages.items()]))
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"palate {__version__}\n")
        return 0
    command, rest = words[0], words[1:]
    commands: dict[str, Callable[[list[str], Stages], int]] = {
        "demo": demo_command.demo,
        "init": init_command.init,
        "run": run_commands.run,
        "plan": plan_command.plan,
        "runs": run_commands.runs,
        "watch": watch_command.watch,
        "serve": serve_command.serve,
        "feedback": serve_command.feedback,
        "label": rater_commands.label,
        "judge": rater_commands.judge,
        "inspect": run_commands.inspect,
        "use": run_commands.use,
        "agreement": rater_commands.agreement,
        "judge-fit": judge_fit_command.judge_fit,
        "score": reward_commands.score,
        "reward-check": reward_commands.reward_check,
        "front": front_command.front,
        "gate": gate_command.gate,
        "card": model_commands.card,
        "push": push_command.push,
        "trace": model_commands.trace,
        "forget": forget_command.forget,
        "peak": peak_command.peak,
        "coverage": coverage_command.coverage,
        "exchange": exchange_command.exchange,
        "reference": run_commands.reference,
        "completion": completion.completion,
        completion.HIDDEN: completion.complete,
    }
    if command in commands:
        return commands[command](rest, stages)
    if command not in stages:
        raise ConfigError(f"there is no command {command!r}. {nearest(command, (*COMMANDS, *stages))}")
    return stage(command, rest, stages)
