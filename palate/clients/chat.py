"""One client for every model behind an OpenAI-compatible API: judges of completions, and the live model of probe tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

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
        refusal: what the server gives as the model's refusal, in a field of its own; "" without one.
        first_tokens: (text, log-probability in nats) of the likeliest first tokens; None where the server does not say them.
        tokens_in: tokens read, as the server counts them; None where it does not say.
        tokens_out: tokens written, as the server counts them; None where it does not say.
    """

    text: str
    cut: str = ""
    refusal: str = ""
    first_tokens: tuple[tuple[str, float], ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    @staticmethod
    def of(answer: object) -> ChatReply:
        """Return the reply in the JSON value of an answer.

        Raises:
            RequestFailed: it is of kind `invalid`: there is neither a message with text, nor a refusal, nor a cut before the first word.
        """
        try:
            choice = answer["choices"][0]  # type: ignore[index]
            message, finish = choice["message"], choice.get("finish_reason")
            text, refusal = message["content"], message.get("refusal")
        except (LookupError, TypeError, AttributeError):
            choice = text = refusal = finish = None
        cut = "" if _lower(finish) in WHOLE else str(finish)
        refusal = refusal if isinstance(refusal, str) else ""
        if text is None and (refusal or cut):
            text = ""  # all tokens went to thoughts, or the refusal stands in its own field
        if not isinstance(text, str):
            raise RequestFailed(f"answered without a message: {str(answer)[:80]!r}", "invalid", is_sent=True)
        tokens_in, tokens_out = (_usage(answer, name) for name in ("prompt_tokens", "completion_tokens"))
        return ChatReply(text, cut, refusal, _first_tokens(choice), tokens_in, tokens_out)


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

    def body(self, conversation: Sequence[Message], options: Mapping[str, object]) -> dict[str, object]:
        """Return the JSON value of a request; `options` are further fields of this one."""
        messages = [{"role": message.role, "content": message.text} for message in conversation]
        return {"model": self.model, "messages": messages, **self.options, **options}

    def reply(self, conversation: Sequence[Message], deadline: float, *, attempts: int | None = None) -> ChatReply:
        """Return the model's next message, as `Endpoint.post` obtains it.

        Raises:
            RequestFailed: there is no answer, or it is of kind `invalid` because it does not hold a message with text.
        """
        return ChatReply.of(self.endpoint.post(self.body(conversation, {}), self.headers, deadline, attempts=attempts))

    def replies(self, conversations: Sequence[Sequence[Message]], deadline: float) -> list[ChatReply | RequestFailed]:
        """Return the reply to each conversation, or why it failed. All requests share the deadline."""

        def reply_or_failure(conversation: Sequence[Message]) -> ChatReply | RequestFailed:
            try:
                return self.reply(conversation, deadline)
            except RequestFailed as error:
                return error

        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(reply_or_failure, conversations))


def _usage(answer: object, name: str) -> int | None:
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if type(count) is int and count >= 0 else None


def _first_tokens(choice: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the likeliest first tokens of a choice; None where the server did not report them, or not as numbers."""
    try:
        first = choice["logprobs"]["content"][0]
        likely = {(one["token"], float(one["logprob"])) for one in (first, *(first.get("top_logprobs") or ()))}
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    if not all(isinstance(token, str) and logp <= 0.001 for token, logp in likely):
        return None
    return tuple(sorted(likely, key=lambda one: -one[1]))


def _lower(reason: object) -> object:
    return reason.lower() if isinstance(reason, str) else reason
