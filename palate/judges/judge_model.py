"""What a judge is asked and what it replies, whichever model answers: one behind an API, one in this process, or a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from palate.core import Conversation
from palate.runs.run import Run

NoReplyKind = Literal["timeout", "unreachable", "status", "invalid", "refused", "budget", "error"]


@dataclass(frozen=True, slots=True)
class JudgeQuestion:
    """One request to a model that judges.

    Attributes:
        conversation: what it reads. A last turn of the assistant is a beginning that the model continues.
        options: texts that may come next; the reply holds the log-probability of each. () asks the model to write.
        draw: tells apart several answers to one question that are drawn at random. Equal questions are asked, and paid, once.
    """

    conversation: Conversation
    options: tuple[str, ...] = ()
    draw: int = 0


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a model answered.

    Attributes:
        text: what it wrote; "" for a question with options that it did not have to write.
        logps: the log-probability of each option in nats, -inf for one that was not among those reported; () without options.
        cut: why the server ended the text before the model did; "" where the model ended it.
        tokens_in: tokens read; 0 where nobody counts them.
        tokens_out: tokens written.
        cost: price in the currency of the settings; 0.0 where the model is free.
        key: the digest of model and question under which the ledger keeps request and answer.
    """

    text: str
    logps: tuple[float, ...] = ()
    cut: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    key: str = ""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why a model gave no answer."""

    reason: str
    kind: NoReplyKind


class JudgeModel(Protocol):
    """A model that answers questions. It keeps what was paid for, so a second run asks only what was not answered."""

    @property
    def name(self) -> str:
        """What raters' names and the report call it."""
        ...

    def replies(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeReply | NoReply]:
        """Yield the answer to each question, in the order of the questions, as soon as it and those before it are known."""
        ...

    def close(self) -> None:
        """Give back memory and files."""
        ...


class JudgeModelSettings(Protocol):
    """Settings of a model that judges: a member of the union `JudgeModelKind`."""

    @property
    def model_name(self) -> str:
        """What raters' names call the model, known before it is opened."""
        ...

    def check(self, options: tuple[str, ...], draws: int) -> None:
        """Raise ConfigError when the model cannot answer so.

        Args:
            options: the options whose log-probabilities are asked for; () where the model writes.
            draws: how many different replies to one question are drawn.
        """
        ...

    def open(self, run: Run) -> JudgeModel:
        """Return the model; its ledger lies in the run's directory.

        Raises:
            ConfigError: the environment variable holds no key, or the model cannot answer so.
        """
        ...
