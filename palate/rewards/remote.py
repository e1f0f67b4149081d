"""A part of a reward from a server of the user's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Literal

from palate.clients.http import Endpoint, RequestFailed, key_header
from palate.config.answers import read_scores
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext, has_ended, messages
from palate.rewards.part import PartSettings, check_timeout


@dataclass(frozen=True, kw_only=True)
class HTTPReward(PartSettings):
    """A server that scores: it gets `{prompts, conversations, completions, ended, fields}` by POST and answers `{scores}`, both JSON.

    Attributes:
        url: the address. Redirects are not followed.
        key_variable: name of an environment variable with a key, which is sent as `Authorization: Bearer`.
        timeout_seconds: seconds for a batch, including retries.
    """

    kind: Literal["http"] = "http"
    url: str
    key_variable: str | None = None
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check the settings."""
        Endpoint.of(self.kind, self.url)
        check_timeout(self.kind, self.timeout_seconds)
        self.check_shaping()

    def open(self, context: ScoringContext) -> PartScorer:
        """Return a scorer with the server's address and key; it sends nothing yet."""
        return _HTTPScorer(Endpoint.of(self.kind, self.url), key_header(f"rewards.{context.name}", self.key_variable), self.timeout_seconds)


@dataclass(frozen=True)
class _HTTPScorer:
    endpoint: Endpoint
    headers: dict[str, str]
    timeout_seconds: float

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score the whole batch by one request."""
        try:
            answer = self.endpoint.post(_content(batch), self.headers, time.monotonic() + self.timeout_seconds)
        except RequestFailed as error:
            return PartScores.of([f"{self.endpoint.host}: {error}"] * len(batch))
        if not isinstance(answer, dict) or "scores" not in answer:
            return PartScores.of([f"{self.endpoint.host}: answered without scores: {str(answer)[:80]!r}"] * len(batch))
        return PartScores.of(read_scores(answer["scores"], len(batch)))

    def close(self) -> None:
        """Do nothing: connections end with each request."""


def _content(batch: ScoringBatch) -> dict[str, object]:
    """Return what is sent: five lists with an entry per completion."""
    return {
        "prompts": [prompt.text for prompt, _ in batch.each],
        "conversations": [messages(prompt.conversation) for prompt, _ in batch.each],
        "completions": [completion.text for _, completion in batch.each],
        "completion_ids": [list(completion.ids) for _, completion in batch.each],
        "ended": [has_ended(completion) for _, completion in batch.each],
        "fields": [{name: _plain(value) for name, value in prompt.fields.items()} for prompt, _ in batch.each],
    }


def _plain(value: object) -> object:
    """Return the value, or its text where JSON cannot hold it (dates, NaN)."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value
