"""A judge behind an OpenAI-compatible API for chat: hosted models, vLLM, SGLang, llama.cpp and the like."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palate.clients.chat import ChatClient, ChatReply, chat_endpoint
from palate.clients.http import Endpoint, RequestFailed, key_header
from palate.config.types import OUTSIDE_KEY, Amount, Count
from palate.core import ConfigError, derive_seed
from palate.judges.judge_ledger import LEDGER, Budget, BudgetSpent, Charge, JudgeLedger, KeptAnswer, digest_of
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.judges.label_scoring import LabelScoring
from palate.judges.option_tokens import option_logps, same_first_token
from palate.runs.run import Run

REMEDIES: dict[int | str, str] = {
    401: ". Name the environment variable with the server's key in model.key_variable",
    403: ". Name the environment variable with the server's key in model.key_variable",
    404: ". model.model must be the name that the server gives the model, and model.url the base of its API",
    429: ". Lower model.concurrency, or raise model.attempts and model.timeout_seconds",
    "invalid": ". model.url must be the base of an OpenAI-compatible API, whose answer is one JSON object and neither a page nor a stream",
    "timeout": ". Raise model.timeout_seconds, or lower model.concurrency",
    "unreachable": ". Start the server, or correct model.url",
}
"""What to do, by status or kind of failure."""

SEE_LOG = ". Look at the server's log"
"""What to do about a server that fails by itself: it answers with 5xx, or its answer breaks off."""

TOKENS_AROUND = 64
"""Tokens at most that a server puts around each message."""

PER_PRICE = 1e6
"""Prices are per this many tokens."""


@dataclass(frozen=True, kw_only=True)
class OpenAIJudge:
    """A model behind an OpenAI-compatible API for chat.

    Attributes:
        url: base of the API (`http://host:port/v1`); `/chat/completions` is added. Redirects are not followed.
        model: the name that the server knows the model by.
        key_variable: name of an environment variable with the API's key.
        temperature: of what the judge writes. Several samples of a reply need more than 0.
        max_tokens: longest reply in tokens; a model that reasons before it answers needs more.
        scoring: where the probabilities of options come from: the likeliest first tokens of a reply (chat), or vLLM's own
            `/generative_scoring`, which knows the probability of any token and needs one request per option.
        top_logprobs: how many of the likeliest first tokens the server reports where options are compared. OpenAI takes up to 20.
        extra: further fields of each request, such as `chat_template_kwargs`. They replace Palate's own, and null leaves one out.
        concurrency: number of requests at the same time.
        timeout_seconds: seconds for one request, including retries.
        attempts: how often a request is sent, at most, while the server is unreachable or busy.
        price_in: price of a million tokens that are read, in any currency.
        price_out: price of a million tokens that are written.
        budget: most tokens and money that one run may use. When it is spent, the run stops; a larger budget continues the same run.
        cache: folder with answers that runs share; none keeps them in the run's directory alone.
    """

    kind: Literal["openai"] = "openai"
    url: str
    model: str
    key_variable: str | None = field(default=None, metadata=OUTSIDE_KEY)
    temperature: float = 0.0
    max_tokens: Count = 512
    scoring: Literal["chat", "generative_scoring"] = "chat"
    top_logprobs: Count = 20
    extra: dict[str, Any] = field(default_factory=dict)
    concurrency: Count = field(default=8, metadata=OUTSIDE_KEY)
    timeout_seconds: Amount = field(default=120.0, metadata=OUTSIDE_KEY)
    attempts: Count = field(default=8, metadata=OUTSIDE_KEY)
    price_in: float = field(default=0.0, metadata=OUTSIDE_KEY)
    price_out: float = field(default=0.0, metadata=OUTSIDE_KEY)
    budget: Budget | None = field(default=None, metadata=OUTSIDE_KEY)
    cache: str | None = field(default=None, metadata=OUTSIDE_KEY)

    def __post_init__(self) -> None:
        """Check the settings."""
        chat_endpoint("judge", self.url)
        if not math.isfinite(self.timeout_seconds):
            raise ConfigError(f"judge: timeout_seconds must be finite, got {self.timeout_seconds}")
        if not (0 <= self.price_in < math.inf and 0 <= self.price_out < math.inf and 0 <= self.temperature < math.inf):
            raise ConfigError("judge: price_in, price_out and temperature must be 0 or more, and finite")
        if self.budget is not None and self.budget.cost is not None and not (self.price_in or self.price_out):
            raise ConfigError("judge: budget.cost has no meaning without prices; give price_in and price_out per million tokens")

    @property
    def model_name(self) -> str:
        """The name that the server knows the model by."""
        return self.model

    def check(self, options: tuple[str, ...], draws: int) -> None:
        """Raise ConfigError when the model cannot tell these options apart, or draw several different replies."""
        if draws > 1 and self.temperature == 0:
            raise ConfigError(
                f"judge: {draws} samples at temperature 0 are one; set model.temperature to 1, or ask once (verdict: written)"
            )
        if self.scoring == "chat" and (pair := same_first_token(options)):
            raise ConfigError(
                f"judge: the options {pair[0]!r} and {pair[1]!r} can begin with the same token, and a chat server reports first tokens "
                "alone. Name options that begin differently, or use verdict: written"
            )

    def open(self, run: Run) -> EndpointModel:
        """Return the model, with its ledger in the run's directory; nothing is sent yet.

        Raises:
            ConfigError: the environment variable holds no key.
        """
        client = ChatClient(chat_endpoint("judge", self.url), self.model, key_header("judge", self.key_variable))
        ledger = JudgeLedger(run.directory / LEDGER, self.budget, None if self.cache is None else Path(self.cache).expanduser())
        return EndpointModel(self, client, ledger, run.seed)


class EndpointModel:
    """The model behind an endpoint, with the ledger of what it was asked."""

    def __init__(self, settings: OpenAIJudge, client: ChatClient, ledger: JudgeLedger, seed: int) -> None:
        """Take the settings, a client, an open ledger, and the seed of replies that are drawn."""
        self._settings, self._client, self._ledger, self._seed = settings, client, ledger, seed
        self._pools: set[ThreadPoolExecutor] = set()
        self._labels = LabelScoring(settings.url, settings.model)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._settings.model

    def replies(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeReply | NoReply]:
        """Yield the answer to each question in order, while the next ones are asked. Equal questions are asked once."""
        keys = [digest_of({"url": self._settings.url, "draw": question.draw, **self._body(question)}) for question in questions]
        pool = ThreadPoolExecutor(self._settings.concurrency)
        self._pools.add(pool)
        try:
            asked: dict[str, Future[JudgeReply | NoReply]] = {}
            for key, question in zip(keys, questions, strict=True):
                if key not in asked:
                    asked[key] = pool.submit(self._ask, key, question)
            for key in keys:
                yield asked[key].result()
        finally:
            self._end(pool)

    def close(self) -> None:
        """Wait for requests under way, whose answers are kept, and close the ledger."""
        for pool in tuple(self._pools):
            self._end(pool)
        self._ledger.close()

    def _end(self, pool: ThreadPoolExecutor) -> None:
        pool.shutdown(cancel_futures=True)
        self._pools.discard(pool)

    def _body(self, question: JudgeQuestion) -> dict[str, object]:
        """Return the request of a question. A last turn of the assistant is continued, as vLLM and SGLang do."""
        settings = self._settings
        fields: dict[str, object] = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        if question.options and settings.scoring == "generative_scoring":
            fields = {"max_tokens": 1, "add_generation_prompt": True, "scored_options": list(question.options)}
        elif question.options:
            fields = {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": settings.top_logprobs}
        elif settings.temperature:
            fields["seed"] = derive_seed(self._seed, "judge", question.draw) >> 32  # 31 bits, which every server takes
        if question.conversation[-1].role == "assistant":
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        body = self._client.body(question.conversation, {**fields, **settings.extra})
        return {name: value for name, value in body.items() if value is not None}

    def _ask(self, key: str, question: JudgeQuestion) -> JudgeReply | NoReply:
        """Return the answer that the ledger has, or obtain one and write it down."""
        kept = self._ledger.kept(key)
        if kept is None:
            body = self._body(question)
            most, charge = self._most(body), -1
            try:
                charge = self._ledger.reserve(key, most)

                def pay_again(error: RequestFailed) -> None:
                    nonlocal charge
                    self._ledger.give_up(charge, str(error), is_charged=error.is_sent)
                    charge = -1
                    charge = self._ledger.reserve(key, most)

                kept = self._obtain(key, body, most, pay_again)
                self._ledger.keep(charge, key, (self.name, body), kept)
            except BudgetSpent as error:
                return NoReply(str(error), "budget")
            except RequestFailed as error:
                self._ledger.give_up(charge, str(error), is_charged=error.is_sent)
                return NoReply(f"{error}{self._remedy(question, error)}", error.kind)
            except BaseException as error:
                if charge >= 0:
                    self._ledger.give_up(charge, f"{type(error).__name__}: {error}", is_charged=True)
                raise
        return _read(key, question, kept)

    def _remedy(self, question: JudgeQuestion, error: RequestFailed) -> str:
        if error.status >= 500 or (error.kind == "unreachable" and error.is_sent):
            return SEE_LOG
        if error.status == 404 and question.options and self._settings.scoring == "generative_scoring":
            return ". The server has no /generative_scoring, or not this model. Correct model.model, or set model.scoring to chat"
        return REMEDIES.get(error.status if error.kind == "status" else error.kind, "")

    def _obtain(self, key: str, body: Mapping[str, object], most: Charge, before_retry: Callable[[RequestFailed], None]) -> KeptAnswer:
        """Send the request and return its answer. Servers that know the header Idempotency-Key charge once for a request sent again."""
        settings = self._settings
        deadline = time.monotonic() + settings.timeout_seconds

        def post(endpoint: Endpoint, content: object) -> object:
            headers = {**self._client.headers, "Idempotency-Key": digest_of([key, endpoint.path, content])}
            return endpoint.post(content, headers, deadline, attempts=settings.attempts, before_retry=before_retry)

        options: Any = body.get("scored_options")
        try:
            answer = self._labels.answer(body, options, post) if options else post(self._client.endpoint, body)
        except RequestFailed as error:
            error.is_sent = error.is_sent or bool(options)  # one of several requests failed, and others may have been charged
            raise
        reply = ChatReply.of(answer)
        if reply.tokens_in is None or reply.tokens_out is None:
            tokens_in, tokens_out = most.tokens - _longest_reply(body), _longest_reply(body)  # the server does not count
        else:
            tokens_in, tokens_out = reply.tokens_in, reply.tokens_out
        return KeptAnswer(answer, tokens_in, tokens_out, self._price(tokens_in, tokens_out))

    def _most(self, body: Mapping[str, object]) -> Charge:
        """Return the most that a request can cost: a token is at least a byte of text, and a reply is not longer than it may be."""
        messages: Any = body["messages"]
        tokens_in = sum(len(message["content"].encode("utf-8", "surrogatepass")) + TOKENS_AROUND for message in messages)
        scored: Any = body.get("scored_options", ())
        times = max(len(scored), 1)  # each option is a request
        return Charge(times * (tokens_in + _longest_reply(body)), times * self._price(tokens_in, _longest_reply(body)))

    def _price(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self._settings.price_in + tokens_out * self._settings.price_out) / PER_PRICE


def _longest_reply(body: Mapping[str, object]) -> int:
    limits = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return max((limit for limit in limits if isinstance(limit, int)), default=0)


def _read(key: str, question: JudgeQuestion, kept: KeptAnswer) -> JudgeReply | NoReply:
    """Return what an answer says."""
    reply = ChatReply.of(kept.answer)
    if reply.refusal:
        return NoReply(f"the model refused: {reply.refusal[:200]!r}", "refused")
    logps: tuple[float, ...] = ()
    if question.options:
        if reply.first_tokens is None:
            return NoReply(
                "the server gives no log-probabilities, which verdict: options reads. Use a server and a model that give them, or set "
                "verdict to samples or written",
                "invalid",
            )
        logps = option_logps(question.options, reply.first_tokens)
    cut = "" if question.options else reply.cut  # one token was asked for, so the server always cuts
    return JudgeReply(reply.text, logps, cut, kept.tokens_in, kept.tokens_out, kept.cost, key)
