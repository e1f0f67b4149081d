"""One client for every model behind an OpenAI-compatible API: judges of completions, and the live model of probe tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from palate.clients.http import Endpoint, RequestFailed
from palate.core import Message

PATH = "/chat/completions"
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
"""Values of `finish_reason` of a text that the model ended itself, at one server or another."""
WHOLE = (None, "", *ENDED, "tool_calls", "function_call")
"""Values of `finish_reason` of a message that the model ended itself, at one server or another. After any other the message was cut."""


def chat_endpoint(kind: str, url: str) -> Endpoint:
    """Return the endpoint for chat at the base of an API, such as `http://127.0.0.1:8000/v1`.

    Raises:
        ConfigError: as `Endpoint.of`.
    """
    return Endpoint.of(kind, url.rstrip("/").removesuffix(PATH) + PATH)


@dataclass(frozen=True)
class ChatReply:
    """What a model said.

    Attributes:
        text: the message.
        cut: why the server ended it before the model did, as its `finish_reason`; "" where the model ended it, or nothing says otherwise.
    """

    text: str
    cut: str = ""


@dataclass(frozen=True)
class ChatClient:
    """A model that replies to conversations.

    Attributes:
        endpoint: its address (`chat_endpoint`).
        model: its name there.
        headers: headers of each request, such as `bearer(key)`.
        options: further fields of each request, such as `temperature` and `max_tokens`.
        concurrency: requests of `replies` at a time.
    """

    endpoint: Endpoint
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Mapping[str, object] = field(default_factory=dict)
    concurrency: int = 8

    def reply(self, conversation: Sequence[Message], deadline: float, *, attempts: int | None = None) -> ChatReply:
        """Return the model's next message, as `Endpoint.post` obtains it.

        Raises:
            RequestFailed: there is no answer, or it is of kind `invalid` because it does not hold a message with text.
        """
        messages = [{"role": message.role, "content": message.text} for message in conversation]
        content = {"model": self.model, "messages": messages, **self.options}
        answer = self.endpoint.post(content, self.headers, deadline, attempts=attempts)
        try:
            choice = answer["choices"][0]  # type: ignore[index]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
        except (LookupError, TypeError, AttributeError):
            text = finish = None
        if not isinstance(text, str):
            raise RequestFailed(f"answered without a message: {str(answer)[:80]!r}", "invalid")
        return ChatReply(text, "" if _lower(finish) in WHOLE else str(finish))

    def replies(self, conversations: Sequence[Sequence[Message]], deadline: float) -> list[ChatReply | RequestFailed]:
        """Return the reply to each conversation, or why it failed. All requests share the deadline."""

        def reply_or_failure(conversation: Sequence[Message]) -> ChatReply | RequestFailed:
            try:
                return self.reply(conversation, deadline)
            except RequestFailed as error:
                return error

        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(reply_or_failure, conversations))


def _lower(reason: object) -> object:
    return reason.lower() if isinstance(reason, str) else reason
