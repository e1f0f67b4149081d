"""What the serving API takes: OpenAI's fields, those that vLLM adds, and Palate's own `best_of`, `dimensions` and `weights`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from palate.core import Sampling

MOST_SAMPLES = 128
"""Completions of one prompt, at most."""

MOST_PROMPTS = 256
"""Prompts of one request, at most."""

MOST_LIKELY = 20
"""Likeliest tokens at a place, at most."""

SEEDS = 2**63

StopText = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class StrictBody(BaseModel):
    """A body whose fields must be known. A field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value


class StreamOptions(StrictBody):
    """What a stream says beside the text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(StrictBody):
    """The form of an answer: only text."""

    type: Literal["text"] = "text"


class DrawBody(StrictBody):
    """The fields that both kinds of completions share.

    Fields of OpenAI that change what is drawn in a way that Palate cannot do are accepted with their neutral value only.
    """

    model: str | None = None
    n: int = Field(1, ge=1, le=MOST_SAMPLES)
    best_of: int | None = Field(None, ge=1, le=MOST_SAMPLES)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, le=1_000_000)
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] = Field(default_factory=list)
    stop_token_ids: list[int] = Field(default_factory=list, max_length=64)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    dimensions: list[Name] = Field(default_factory=list, max_length=64)
    weights: dict[Name, float] = Field(default_factory=dict, max_length=64)
    user: str = Field("", max_length=200)
    return_token_ids: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = False
    frequency_penalty: float = Field(0.0, ge=0, le=0)
    presence_penalty: float = Field(0.0, ge=0, le=0)
    repetition_penalty: float = Field(1.0, ge=1, le=1)
    logit_bias: dict[str, float] = Field(default_factory=dict, max_length=0)
    metadata: dict[str, str] = Field(default_factory=dict, max_length=16)
    store: bool = False
    service_tier: str = Field("", max_length=40)

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"best_of is {self.best_of} and n is {self.n}: draw at least as many as you want")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a completion."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def drawn(self) -> int:
        """The number of completions to draw per prompt."""
        return self.best_of or self.n

    def sampling(self, max_tokens: int) -> Sampling:
        """Return how to draw, with at most `max_tokens` tokens where the request does not say."""
        return Sampling(self.temperature, self.top_p, max(self.top_k, 0), self.max_tokens or max_tokens, self.min_p)

    @property
    def likeliest(self) -> int | None:
        """Likeliest tokens that are reported at each place; None where no log-probabilities are."""
        return None


class TextBody(DrawBody):
    """`POST /v1/completions`."""

    prompt: (
        str
        | Annotated[list[int], Field(min_length=1, max_length=1_000_000)]
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
        | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1, max_length=MOST_PROMPTS)]
    )
    logprobs: int | None = Field(None, ge=0, le=MOST_LIKELY)
    echo: Literal[False] = False
    suffix: Literal[""] = ""

    @property
    def likeliest(self) -> int | None:
        """See `DrawBody.likeliest`."""
        return self.logprobs


class ChatBody(DrawBody):
    """`POST /v1/chat/completions`."""

    messages: list[Any] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MOST_LIKELY)
    response_format: ResponseFormat = ResponseFormat()
    tools: list[Any] = Field(default_factory=list, max_length=0)
    parallel_tool_calls: bool = False

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.max_tokens is not None and self.max_completion_tokens not in {None, self.max_tokens}:
            raise ValueError("max_tokens and max_completion_tokens are two names for one number, and they differ: send one of them")
        return self

    @property
    def likeliest(self) -> int | None:
        """See `DrawBody.likeliest`."""
        return self.top_logprobs if self.logprobs else None

    def sampling(self, max_tokens: int) -> Sampling:
        """See `DrawBody.sampling`; `max_completion_tokens` is OpenAI's newer name."""
        return super().sampling(self.max_completion_tokens or max_tokens)


class ScoreBody(StrictBody):
    """`POST /v1/score`: completions of one prompt, as a conversation or as plain text."""

    model: str | None = None
    messages: list[Any] = Field(default_factory=list, max_length=10_000)
    prompt: str = ""
    completions: list[str] = Field(min_length=1, max_length=MOST_PROMPTS)
    dimensions: list[Name] = Field(default_factory=list, max_length=64)
    weights: dict[Name, float] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if bool(self.messages) == bool(self.prompt):
            raise ValueError("give the prompt either as messages or as prompt")
        return self
