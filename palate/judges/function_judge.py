"""A Python function as a judge: a client of its own, a rule, or a judge whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.function_source import source_of
from palate.config.functions import UserFunction, load_function, raised
from palate.config.types import OUTSIDE_KEY, FunctionInput
from palate.core import DataError
from palate.judges.judge_ledger import LEDGER, Charge, JudgeLedger, KeptAnswer, digest_of
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.runs.run import Run

ARGUMENTS = ("messages", "options", "draw")


@dataclass(frozen=True, kw_only=True)
class FunctionJudge:
    """A Python function that answers questions. It gets `messages`, `options` and `draw`, as far as it names them.

    `messages` are mappings with `role` and `content`. With `options` it returns the log-probability of each, as a list or by option.
    Without options it returns the text of a reply. What it raises is the reason of an abstention.

    Attributes:
        function: its import path, such as package.module:function.
        name: what raters are called after it; its import path by default.
        cache: folder with answers that runs share; none keeps them in the run's directory alone.
    """

    kind: Literal["function"] = "function"
    function: FunctionInput
    name: str | None = None
    cache: str | None = field(default=None, metadata=OUTSIDE_KEY)

    @property
    def model_name(self) -> str:
        """Its name, or its import path."""
        return self.name or self.function

    def check(self, options: tuple[str, ...], draws: int) -> None:
        """Accept all questions: the function says what it cannot answer."""

    def open(self, run: Run) -> FunctionModel:
        """Return the model, with its ledger in the run's directory.

        Raises:
            ConfigError: the function cannot be loaded, or does not take messages.
        """
        ledger = JudgeLedger(run.directory / LEDGER, None, None if self.cache is None else Path(self.cache).expanduser())
        function = UserFunction(self.function, load_function(self.function), ARGUMENTS, "messages")
        return FunctionModel(self.model_name, source_of(self.function).key, function, ledger)


class FunctionModel:
    """The user's function, with the ledger of what it was asked. It is called for one question after the other."""

    def __init__(self, name: str, version: str, function: UserFunction, ledger: JudgeLedger) -> None:
        """Take the function; `version` identifies its source."""
        self.name, self._version, self._function, self._ledger = name, version, function, ledger

    def replies(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeReply | NoReply]:
        """Yield the answer to each question in order. What failed is not kept, so another run asks it again."""
        failed: dict[str, NoReply] = {}
        for question in questions:
            messages = [{"role": message.role, "content": message.text} for message in question.conversation]
            own = {"messages": messages, "options": list(question.options), "draw": question.draw}
            key = digest_of({"function": self._version, **own})
            if key not in failed:
                reply = self._reply(key, question, own)
                if isinstance(reply, JudgeReply):
                    yield reply
                    continue
                failed[key] = reply
            yield failed[key]

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def _reply(self, key: str, question: JudgeQuestion, own: Mapping[str, object]) -> JudgeReply | NoReply:
        kept = self._ledger.kept(key)
        if kept is None:
            try:
                answer = self._function(own, {})
            except Exception as error:  # noqa: BLE001 (the user's code may raise anything)
                return NoReply(f"{self.name} {raised(error)}", "error")
            try:
                value: object = answer if isinstance(answer, str) and not question.options else _logps(answer, question.options)
            except DataError as error:
                return NoReply(f"{self.name} {error}", "invalid")
            if isinstance(value, tuple):
                value = [None if math.isinf(logp) else logp for logp in value]
            kept = KeptAnswer(value, 0, 0, 0.0)
            self._ledger.keep(self._ledger.reserve(key, Charge()), key, (self.name, own), kept)
        if question.options:
            return JudgeReply("", _logps(kept.answer, question.options), key=key)
        return JudgeReply(str(kept.answer), key=key)


def _logps(answer: object, options: Sequence[str]) -> tuple[float, ...]:
    """Return the log-probability of each option in what a function answered. JSON keeps -inf as null."""
    told = f"gave {str(answer)[:60]!r} ({type(answer).__name__})"
    if not options:
        raise DataError(f"{told}, not the text of a reply")
    if isinstance(answer, Mapping):
        answer = [answer.get(option, -math.inf) for option in options]
    if not isinstance(answer, list | tuple) or len(answer) != len(options):
        raise DataError(f"{told}, not a log-probability for each of {', '.join(options)}")
    logps = [-math.inf if value is None else value for value in answer]
    if not all(isinstance(logp, int | float) and not isinstance(logp, bool) and logp <= 0 for logp in logps):
        raise DataError(f"{told}; log-probabilities are numbers of at most 0")
    return tuple(map(float, logps))
