"""Passages for a question: a function of the user's finds them, and they stand before the question in the prompt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from palate.config.functions import load_function, raised
from palate.core import ConfigError, Message, Prompt
from palate.data.formats.write import turns_of
from palate.serving.api_errors import ApiError

INTRODUCTION, QUESTION = "Use these passages where they help.", "Question:"
"""What stands before the passages, and before the question."""

COLUMN = "passages"
"""The column of the prompt that holds what was added."""

MOST_CALLS = 64
"""Calls of the function at a time. Those that never return count too."""


class PassageFinder:
    """Calls the user's function `f(messages)`, which returns a list of texts, in threads that nobody has to wait for."""

    def __init__(self, path: str, seconds: float) -> None:
        """Load the function at an import path; each call may take some seconds.

        Raises:
            ConfigError: there is no such function.
        """
        self.path, self._seconds, self._calls = path, seconds, 0
        try:
            self._function: Callable[..., Any] = load_function(path)
        except ConfigError as error:
            raise ConfigError(f"--retrieve: {error}") from error

    async def passages(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the passages for a chat.

        Raises:
            ApiError: the function raised an exception (502), gave something else than a list of texts (502), or took too long (504).
        """
        if self._calls >= MOST_CALLS:
            raise ApiError(
                429, f"{self._name} has too much to do. Try again soon.", "busy", kind="rate_limit", headers={"Retry-After": "2"}
            )
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[object] = loop.create_future()
        messages = turns_of(prompt.conversation)

        def settle(value: object) -> None:
            self._calls -= 1
            if not outcome.done():
                outcome.set_result(value)

        def call() -> None:
            try:
                value = self._function(messages)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it is, the request is told
                value = error
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(settle, value)

        self._calls += 1
        threading.Thread(target=call, name="palate retrieval", daemon=True).start()
        try:
            found = await asyncio.wait_for(outcome, self._seconds)
        except TimeoutError as error:
            raise self._failed(504, f"did not return within {self._seconds:g} s", "retrieval_timeout") from error
        if isinstance(found, Exception | SystemExit):
            raise self._failed(502, raised(found)) from found
        if not isinstance(found, list | tuple) or not all(isinstance(one, str) and one.strip() for one in found):
            raise self._failed(502, f"gave {str(found)[:60]!r} ({type(found).__name__}), not a list of texts")
        return tuple(found)

    @property
    def _name(self) -> str:
        return f"The function {self.path!r} of --retrieve"

    def _failed(self, status: int, what: str, code: str = "retrieval_failed") -> ApiError:
        return ApiError(status, f"{self._name} {what}.", code, kind="server_error")


def with_passages(prompt: Prompt, passages: Sequence[str]) -> Prompt:
    """Return the prompt with passages before the text of the user's last turn, and as a column."""
    turns, fields = list(prompt.conversation), {**prompt.fields, COLUMN: list(passages)}
    if passages:
        place = max((k for k, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
        turns[place] = _with_passages(turns[place], passages)
    return replace(prompt, conversation=tuple(turns), fields=fields)


def _with_passages(turn: Message, passages: Sequence[str]) -> Message:
    numbered = [f"[{number}] {passage.strip()}" for number, passage in enumerate(passages, start=1)]
    return replace(turn, text="\n\n".join([INTRODUCTION, *numbered, f"{QUESTION} {turn.text}"]))
