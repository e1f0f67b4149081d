"""The process that a user's scoring function runs in; palate/rewards/function.py starts it. No torch, so that it starts at once.

It is a program whose argument is the number of an inherited file, one end of a connection. It receives a `Setup` and answers "", or why
it cannot serve. Then, for each `Job`, it sends pairs of row and score (or reason) as they come, and None at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from palate.config.answers import Score, read_score, read_scores
from palate.config.functions import UserFunction, load_function, raised


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
    """Completions to score, as lists of the same length; `columns` are those of `ScoringBatch.columns`.

    `completion_ids` are the token ids that were sampled, empty where only the text is known.
    """

    prompts: Sequence[str]
    completions: Sequence[str]
    ended: Sequence[bool | None]
    conversations: Sequence[object]
    completion_ids: Sequence[Sequence[int]]
    columns: Mapping[str, Sequence[object]]


def called(setup: Setup) -> UserFunction:
    """Return the function as it is called.

    Raises:
        ConfigError: it cannot be loaded, or does not take what it should score.
    """
    plural = "s" if setup.batched else ""
    own = (f"prompt{plural}", f"completion{plural}", "ended", "conversation", "completion_ids", *setup.constants)
    remedy = "leave out batched if it scores one completion at a time" if setup.batched else "set batched: true if it takes lists"
    return UserFunction(setup.function, load_function(setup.function), own, own[1], remedy)


def scores_of(setup: Setup, function: UserFunction, job: Job) -> Iterator[tuple[int, Score]]:
    """Yield each row with its score, or with the reason why there is none; never raise an exception."""
    if setup.batched:
        yield from enumerate(_batch(setup, function, job))
        return
    for row, (prompt, completion) in enumerate(zip(job.prompts, job.completions, strict=True)):
        own: dict[str, object] = {"prompt": prompt, "completion": completion, "ended": job.ended[row]}
        own |= {"conversation": job.conversations[row], "completion_ids": job.completion_ids[row]}
        try:
            yield row, read_score(function({**own, **setup.constants}, {name: column[row] for name, column in job.columns.items()}))
        except Exception as error:  # noqa: BLE001 (whatever the user's code raises is the reason)
            yield row, raised(error)


def _batch(setup: Setup, function: UserFunction, job: Job) -> list[Score]:
    own: dict[str, object] = {"prompts": list(job.prompts), "completions": list(job.completions), "ended": job.ended}
    own |= {"conversation": job.conversations, "completion_ids": job.completion_ids}
    try:
        answer = function({**own, **setup.constants}, {name: list(column) for name, column in job.columns.items()})
        return read_scores(answer, len(job.prompts))
    except Exception as error:  # noqa: BLE001 (as above)
        return [raised(error)] * len(job.prompts)


def serve(connection: Connection) -> None:
    """Answer jobs until the other end is closed."""
    setup: Setup = connection.recv()
    try:
        function = called(setup)
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
