"""Sampling from a server with an OpenAI-compatible API for completions, such as vLLM, SGLang or llama.cpp."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from palate.clients.completions import CompletionChoice, CompletionsClient, completions_endpoint
from palate.clients.http import RequestFailed, key_header
from palate.config.types import Amount, Count
from palate.core import Completion, ConfigError, ModelError, Prompt, RunError, Sampling, StopReason, derive_seed
from palate.distributed.ranks import ranks
from palate.models.load import load_config, load_tokenizer
from palate.models.paths import longest_sequence
from palate.models.precision import DType
from palate.samplers.draw import check_sampling
from palate.samplers.ledger import SampledTokens
from palate.samplers.sampler import prompt_names, token_budgets
from palate.samplers.server_requests import asked_together, drawing_fields, further_fields, told
from palate.text.chat_text import Ids
from palate.text.ends import closing_id, end_ids
from palate.text.sampled_texts import completion_of_text, completions_of
from palate.text.spans import prompt_ids

REMEDIES = {
    "timeout": "Raise sampler.timeout_seconds, lower sampler.concurrency, or use shorter completions (sampling.max_tokens)",
    "unreachable": "Start the server, or correct sampler.url",
    "invalid": "sampler.url must be the base of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1",
    400: "If the server refuses a field, set sampler.extensions to false. If a prompt is too long for it, raise its limit or sample from "
    "shorter prompts",
    401: "Name the environment variable with the server's key in sampler.key_variable",
    404: "sampler.model must be the name that the server gives the model, and sampler.url the base of its API",
}
"""What to do, by the kind of failure or the status."""


@dataclass(frozen=True, kw_only=True)
class OpenAISamplerSettings:
    """A server with an OpenAI-compatible API for completions draws them. It gets token ids, so it never tokenises a prompt again.

    The server must have the same model as the stage's `model`, of which only the tokenizer and the configuration are read.

    Attributes:
        url: base of the API (`http://host:port/v1`); `/completions` is added. Redirects are not followed.
        model: the name that the server knows the model by.
        key_variable: name of an environment variable with the API's key.
        concurrency: number of requests at the same time; each asks for all completions of one prompt.
        timeout_seconds: seconds for one request, including retries.
        attempts: how often a request is sent, at most, while the server is unreachable or busy.
        extensions: send fields that OpenAI's own API does not have, such as `return_token_ids`, `stop_token_ids`, `top_k` and `min_p`.
            vLLM, SGLang and llama.cpp take or ignore them. Set it to false for a server that refuses them. Tokens are not exact then.
    """

    kind: Literal["openai"] = "openai"
    url: str
    model: str
    key_variable: str | None = None
    concurrency: Count = 32
    timeout_seconds: Amount = 600.0
    attempts: Count = 8
    extensions: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        completions_endpoint("sampler", self.url)
        if not math.isfinite(self.timeout_seconds):
            raise ConfigError(f"sampler: timeout_seconds must be finite, got {self.timeout_seconds}")

    def check(self, sampling: Sampling) -> None:
        """Raise ConfigError where the server cannot be told how to draw."""
        check_sampling(sampling)
        if not self.extensions and (sampling.top_k or sampling.min_p):
            raise ConfigError(
                "sampler.extensions is false, so sampling.top_k and sampling.min_p are not sent: leave them at 0, or set extensions to true"
            )

    def open(self, model: str, dtype: DType = "float32") -> OpenAISampler:  # noqa: ARG002 (the server decides what it computes in)
        """Return the sampler of the model in a directory; nothing is sent yet.

        Raises:
            ConfigError: the environment variable holds no key.
            ModelError: the directory has no configuration or no tokenizer.
        """
        client = CompletionsClient(completions_endpoint("sampler", self.url), self.model, key_header("sampler", self.key_variable))
        return OpenAISampler(self, client, load_tokenizer(model), load_config(model))


class OpenAISampler:
    """Draws completions from a server. Rank 0 asks it, and the other ranks get what it says.

    A completion depends on what the server makes of the seed. vLLM gives the same tokens for the same seed as long as it computes the same
    numbers, which depend on the requests that it computes together.
    """

    def __init__(
        self, settings: OpenAISamplerSettings, client: CompletionsClient, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
    ) -> None:
        """Take the tokenizer and the configuration of the model that the server has."""
        self._settings, self._client = settings, client
        self.tokenizer, self.max_tokens = tokenizer, longest_sequence(config)
        self._end_ids, self._vocabulary = end_ids(tokenizer), int(config.get_text_config().vocab_size)

    def generate(self, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[Completion]]:
        """Return `n` completions per prompt, in the order of the prompts.

        At temperature 0 all log-probabilities are 0, as those of every sampler. Otherwise they are what the server reports. vLLM reports
        those before temperature and cuts, unless it is started with `--logprobs-mode processed_logprobs`.

        Raises:
            ConfigError: `n` or a sampling parameter is out of range.
            DataError: a prompt leaves no room for a completion.
            ModelError: the server's tokens are not those of the tokenizer.
            RunError: the server gave no completions of a prompt.
        """
        self._settings.check(sampling)
        ids, names = [prompt_ids(self.tokenizer, prompt) for prompt in prompts], prompt_names(prompts)
        budgets = token_budgets(ids, names, n, sampling, self.max_tokens)

        is_greedy = sampling.temperature == 0
        draws = 1 if is_greedy else n  # all greedy completions of a prompt are one, and vLLM refuses to draw several

        def ask(number: int) -> list[Completion]:
            choices = self._choices(ids[number], names[number], draws, self._fields(sampling, budgets[number], derive_seed(seed, number)))
            return self._completions(prompts[number], ids[number], choices, is_greedy=is_greedy) * (n // draws)

        group = ranks()
        completions = asked_together(ask, range(len(prompts)), self._settings.concurrency) if group.is_writer else None
        group.wait_for_writer()  # a server may take longer than ranks wait for each other
        return group.broadcast(completions)

    def close(self) -> None:
        """Do nothing: connections end with each request."""

    def _fields(self, sampling: Sampling, budget: int, seed: int) -> dict[str, object]:
        """Return the fields that say how to draw."""
        fields = drawing_fields(sampling, budget, seed)
        if self._settings.extensions:
            fields |= further_fields(sampling, self._end_ids)
        return fields

    def _choices(self, prompt: Ids, name: str, n: int, fields: dict[str, object]) -> list[CompletionChoice]:
        settings = self._settings
        try:
            return self._client.complete(prompt, fields, n, time.monotonic() + settings.timeout_seconds, attempts=settings.attempts)
        except RequestFailed as failure:
            status = {403: 401, 422: 400}.get(failure.status, failure.status)
            remedy = REMEDIES.get(status if failure.kind == "status" else failure.kind, "Look at the server's log")
            raise RunError(
                f"{settings.url} gave no completions of prompt {name}: it {told(failure)}. {remedy}. What was written stays, and the same "
                "command goes on from there"
            ) from failure

    def _completions(self, prompt: Prompt, trunk: Ids, choices: Sequence[CompletionChoice], *, is_greedy: bool) -> list[Completion]:
        """Return the completions of one prompt; those of a server that does not say ids have the tokens of their text."""
        completions = []
        for choice in choices:
            if choice.ids is None:
                stop: StopReason = "eos" if choice.is_ended else "length"
                completions.append(completion_of_text(self.tokenizer, prompt.conversation, trunk, choice.text, stop))
            else:
                drawn = self._drawn(choice, choice.ids, is_greedy=is_greedy)
                completions += completions_of(self.tokenizer, prompt.conversation, trunk, [drawn])
        return completions

    def _drawn(self, choice: CompletionChoice, ids: Ids, *, is_greedy: bool) -> SampledTokens:
        """Return the tokens up to the first end.

        A server that does not know an end goes on behind it, and some leave out the end that they stopped at.
        """
        if ids and max(ids) >= self._vocabulary:
            raise ModelError(
                f"{self._settings.url} answered with token {max(ids)}, and `model` has {self._vocabulary} tokens: the server has another "
                "model. Give the stage the model that the server has"
            )
        logps = choice.logps or (math.nan,) * len(ids)
        end = next((at for at, token in enumerate(ids) if token in self._end_ids), None)
        if end is not None:
            ids, logps = ids[: end + 1], logps[: end + 1]
        elif choice.is_ended:
            ids, logps = (*ids, closing_id(self.tokenizer, calls=False)), (*logps, math.nan)
        is_ended = end is not None or choice.is_ended
        return SampledTokens(ids, (0.0,) * len(ids) if is_greedy else logps, "eos" if is_ended else "length")
