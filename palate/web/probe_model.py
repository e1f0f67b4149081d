"""The live model of probe tasks. If it is slow, down or sends nonsense, the rater loses nothing and reads what to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from palate.clients.chat import ChatClient, chat_endpoint
from palate.clients.http import RequestFailed, bearer
from palate.core import Message

TIMEOUT_SECONDS = 60.0
LONGEST_TURN = 16_000
"""Characters of a reply that are kept. A dialogue with longer turns could not be sent in as an answer."""
LONGEST_DIALOGUE = 96 * 1024
"""Bytes of a dialogue. It must fit into one request together with its last reply and a reason."""

log = logging.getLogger("palate.web")


class ProbeError(Exception):
    """The model did not reply. The text is for the rater."""


@dataclass(frozen=True)
class ProbeModel:
    """A model that raters talk with.

    Attributes:
        client: the model.
        timeout_seconds: a reply that takes longer is given up.
        concurrency: dialogues that may wait at one time. Each holds a thread of the server, and raters of other tasks need some too.
    """

    client: ChatClient
    timeout_seconds: float = TIMEOUT_SECONDS
    concurrency: int = 8
    _slots: threading.BoundedSemaphore = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_slots", threading.BoundedSemaphore(self.concurrency))

    @staticmethod
    def at(url: str, model: str, key: str = "") -> ProbeModel:
        """Return the model at the base of an API.

        Raises:
            ConfigError: the URL cannot be used.
        """
        return ProbeModel(ChatClient(chat_endpoint("--model_url", url), model, bearer(key)))

    def reply(self, dialogue: Sequence[Message]) -> str:
        """Return the model's next turn. The model is asked once.

        Raises:
            ProbeError: the dialogue is full, too many raters wait already, or the model did not reply.
        """
        if sum(len(turn.text.encode()) for turn in dialogue) > LONGEST_DIALOGUE:
            raise ProbeError("This dialogue cannot grow any longer. Decide now, or skip.")
        if not self._slots.acquire(blocking=False):
            raise ProbeError("Many people are talking with the model right now. Your text is kept; try again in a moment.")
        try:
            reply = self.client.reply(dialogue, time.monotonic() + self.timeout_seconds, attempts=1)
        except RequestFailed as error:
            log.warning("the live model did not reply: %r", str(error))
            raise ProbeError(self._message(error)) from error
        finally:
            self._slots.release()
        if not reply.text.strip():
            raise ProbeError("The model sent an empty reply. Your text is kept; put it in other words, or try again.")
        return _fit_to_show(f"{reply.text}\u2026" if reply.cut else reply.text)

    def _message(self, failure: RequestFailed) -> str:
        if failure.kind == "timeout":
            return f"The model took longer than {self.timeout_seconds:.0f} seconds. Your text is kept; try again, or skip this item."
        if failure.kind == "invalid":
            return "The model's server sent something that is not a reply. Your text is kept; try again, or skip this item."
        if failure.kind == "status" and not 300 <= failure.status < 400:
            return _status_message(failure.status)
        return "The model cannot be reached. Your text is kept; try again in a moment, or skip this item."


def _status_message(status: int) -> str:
    if status == 429:
        return "The model is busy. Your text is kept; try again in a moment."
    if status in {400, 413, 422}:
        return "The model's server refused this dialogue; it may be too long for the model. Decide now, put it in other words, or skip."
    if status in {401, 403, 404}:
        return f"The model's server refused (status {status}): its key, name or address is wrong. Tell an owner; your text is kept."
    return f"The model's server failed (status {status}). Your text is kept; try again in a moment, or skip this item."


def _fit_to_show(text: str) -> str:
    """The reply without what cannot be stored or shown, cut to `LONGEST_TURN`."""
    clean = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "\ufffd")
    return clean if len(clean) <= LONGEST_TURN else clean[: LONGEST_TURN - 1] + "\u2026"
