"""The live model of probe tasks, behind an OpenAI-compatible API: slow, down or talking nonsense, it costs nobody an answer."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from palate.core import ConfigError, Message

MODEL_SECONDS = 60.0
LONGEST_REPLY = 1024 * 1024
LONGEST_TURN = 16_000
"""Characters of a reply that are kept; a talk with longer turns could not be sent in as an answer."""
LONGEST_TALK = 96 * 1024
"""Bytes of a talk: with its last reply and a reason it must fit into one request."""

log = logging.getLogger("palate.web")


class ChatError(Exception):
    """The model gave no turn; the text is for whoever talks with it."""


@dataclass(frozen=True)
class ChatModel:
    """A model that answers in turns.

    Attributes:
        url: base of the API, such as `http://127.0.0.1:8000/v1`; it is the operator's own, and redirects are not followed.
        model: the model's name there.
        key: sent as `Authorization: Bearer`; "" sends none.
        seconds: a reply that takes longer is given up.
        concurrency: talks that may wait at one time. Each holds a thread of the server, and those who judge need some, too.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    seconds: float = MODEL_SECONDS
    concurrency: int = 8
    _places: threading.BoundedSemaphore = field(init=False, repr=False, compare=False)
    _opener: OpenerDirector = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"--model_url {self.url!r} must begin with http:// or https://.")
        object.__setattr__(self, "_places", threading.BoundedSemaphore(self.concurrency))
        object.__setattr__(self, "_opener", build_opener(_NoRedirect()))

    @staticmethod
    def of_environment(url: str, model: str) -> ChatModel:
        """The model at an address, with the key of the environment variable PALATE_MODEL_KEY."""
        return ChatModel(url, model, os.environ.get("PALATE_MODEL_KEY", ""))

    def reply(self, talk: Sequence[Message]) -> str:
        """The model's next turn.

        Raises:
            ModelError: the talk is full, too many wait already, or the model is down, slow, unwilling or makes no sense.
        """
        if sum(len(turn.text.encode()) for turn in talk) > LONGEST_TALK:
            raise ChatError("This talk has grown as long as it may. Decide now, or skip.")
        if not self._places.acquire(blocking=False):
            raise ChatError("Many people talk with the model just now. Your text is kept; try again in a moment.")
        try:
            return _text(self._ask(talk))
        except HTTPError as error:
            log.warning("the live model answered with status %d", error.code)
            raise ChatError(_refusal(error.code)) from error
        except TimeoutError as error:
            raise ChatError(self._slow()) from error
        except (OSError, HTTPException) as error:
            log.warning("the live model cannot be reached: %s", error)
            is_slow = isinstance(error, URLError) and isinstance(error.reason, TimeoutError)
            down = "The model cannot be reached. Your text is kept; try again in a moment, or skip this item."
            raise ChatError(self._slow() if is_slow else down) from error
        finally:
            self._places.release()

    def _slow(self) -> str:
        return f"The model took longer than {self.seconds:.0f} seconds. Your text is kept; try again, or skip this item."

    def _ask(self, talk: Sequence[Message]) -> bytes:
        body = json.dumps({"model": self.model, "messages": [{"role": turn.role, "content": turn.text} for turn in talk]})
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        base = self.url.rstrip("/").removesuffix("/chat/completions")
        until = time.monotonic() + self.seconds
        with self._opener.open(Request(f"{base}/chat/completions", body.encode(), headers), timeout=self.seconds) as response:
            return _read(response, until)


def _read(response: HTTPResponse, until: float) -> bytes:
    """The body, at most a little more than `LONGEST_REPLY` of it.

    A server that sends a byte now and then is cut off, too: a socket's own time limit begins anew with each.
    """
    body = bytearray()
    while len(body) <= LONGEST_REPLY and (part := response.read1(65536)):
        body += part
        if time.monotonic() > until:
            raise TimeoutError
    return bytes(body)


def _text(raw: bytes) -> str:
    """The turn in a reply, fit to be shown and stored.

    Raises:
        ModelError: there is none.
    """
    try:
        text = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        log.warning("the live model's reply is malformed: %r", raw[:200])
        raise ChatError("What the model's server sent is no reply. Your text is kept; try again, or skip this item.") from error
    if not isinstance(text, str) or not text.strip():
        raise ChatError("The model said nothing. Your text is kept; put it in other words, or try again.")
    whole = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "\ufffd")
    return whole if len(whole) <= LONGEST_TURN else whole[: LONGEST_TURN - 1] + "\u2026"


def _refusal(status: int) -> str:
    if status == 429:
        return "The model is busy. Your text is kept; try again in a moment."
    if status in {400, 413, 422}:
        return "The model's server did not take this talk; it may be too long for it. Decide now, put it in other words, or skip."
    if status in {401, 403, 404}:
        return f"The model's server refused (status {status}): its key, name or address is wrong. Tell an owner; your text is kept."
    return f"The model's server failed (status {status}). Your text is kept; try again in a moment, or skip this item."


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        raise URLError("the model redirects, which is not followed")
