"""The process that a user's scoring function runs in; palate/rewards/function.py starts it. No torch, so that it starts at once.

It is a program whose argument is the number of an inherited file, one end of a connection. It receives a `Setup` and answers "", or why
it cannot serve. Then, for each `Job`, it sends pairs of row and score (or reason) as they come, and None at the end.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from palate.config.functions import load_function
from palate.rewards.part import Score, read_score, read_scores


@dataclass(frozen=True)
class Setup:
    """Which function to serve.

    Attributes:
        function: import path.
        batched: whether it takes lists and returns a list, instead of one completion at a time.
        constants: further arguments that are the same in each call.
    """

    function: str
    batched: bool
    constants: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Completions to score, as lists of the same length; `columns` are those of `ScoringBatch.columns`."""

    prompts: Sequence[str]
    completions: Sequence[str]
    columns: Mapping[str, Sequence[object]]


def scores_of(setup: Setup, function: Callable[..., Any], job: Job) -> Iterator[tuple[int, Score]]:
    """Yield each row with its score, or with the reason why there is none; never raise an exception."""
    columns = {name: job.columns[name] for name in accepted(function, job.columns)}
    if setup.batched:
        yield from enumerate(_batch(setup, function, job, columns))
        return
    for row, (prompt, completion) in enumerate(zip(job.prompts, job.completions, strict=True)):
        fields = {name: column[row] for name, column in columns.items()}
        try:
            yield row, read_score(function(prompt, completion, **fields, **setup.constants))
        except Exception as error:  # noqa: BLE001 (whatever the user's code raises is the reason)
            yield row, raised(error)


def _batch(setup: Setup, function: Callable[..., Any], job: Job, columns: Mapping[str, Sequence[object]]) -> list[Score]:
    try:
        lists = {name: list(column) for name, column in columns.items()}
        return read_scores(function(list(job.prompts), list(job.completions), **lists, **setup.constants), len(job.prompts))
    except Exception as error:  # noqa: BLE001 (as above)
        return [raised(error)] * len(job.prompts)


def accepted(function: Callable[..., Any], names: Mapping[str, object]) -> list[str]:
    """Return the names that the function takes besides its first two arguments; all of them if it has `**fields`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a built-in function without a signature
        return []
    first = {parameter.name for parameter in parameters[:2] if parameter.kind is parameter.POSITIONAL_OR_KEYWORD}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return [name for name in names if name not in first]
    taken = {parameter.name for parameter in parameters if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
    return [name for name in names if name in taken - first]


def raised(error: Exception) -> str:
    """Return an exception as one line of text."""
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def serve(connection: Connection) -> None:
    """Answer jobs until the other end is closed."""
    setup: Setup = connection.recv()
    try:
        function = load_function(setup.function)
    except Exception as error:  # noqa: BLE001 (a module may raise anything while it is imported)
        connection.send(str(error) if isinstance(error, ValueError) else f"{setup.function!r} {raised(error)}")
        return
    connection.send("")
    while True:
        job: Job = connection.recv()
        for row in scores_of(setup, function, job):
            connection.send(row)
        connection.send(None)


if __name__ == "__main__":
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError):
        sys.exit(0)
