"""A reward from a server of the user's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Literal

from palate.clients.http import Endpoint, RequestFailed, key_header
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext, messages
from palate.rewards.common import Constraint, check_shaping, check_timeout, read_scores


@dataclass(frozen=True, kw_only=True)
class HTTPReward:
    """A server that scores: `{prompts, conversations, completions, ended, fields}` as JSON by POST, `{scores}` in answer.

    Attributes:
        url: the address; nothing else is called, and redirects are not followed.
        key_variable: name of an environment variable with a key, sent as `Authorization: Bearer`.
        timeout_seconds: seconds for a batch, retries included.
        weight: what its score counts in the sum; 0 only records it.
        normalise: scale by mean and standard deviation of all scores so far.
        floor: the least score; lower ones count as this.
        ceiling: the largest score.
        constraint: a level its mean must stay above, instead of a weight.
    """

    kind: Literal["http"] = "http"
    url: str
    key_variable: str | None = None
    timeout_seconds: float = 60.0
    weight: float = 1.0
    normalise: bool = False
    floor: float | None = None
    ceiling: float | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        Endpoint.of(self.kind, self.url)
        check_timeout(self.kind, self.timeout_seconds)
        check_shaping(self.kind, self)

    def open(self, context: ScoringContext) -> PartScorer:
        """The server's address and key; nothing is asked yet."""
        return _Remote(Endpoint.of(self.kind, self.url), key_header(f"rewards.{context.name}", self.key_variable), self.timeout_seconds)


@dataclass(frozen=True)
class _Remote:
    endpoint: Endpoint
    headers: dict[str, str]
    timeout_seconds: float

    def score(self, batch: ScoringBatch) -> PartScores:
        """Scores of the whole batch by one request."""
        try:
            answer = self.endpoint.post(_content(batch), self.headers, time.monotonic() + self.timeout_seconds)
        except RequestFailed as error:
            return PartScores.of([f"{self.endpoint.host}: {error}"] * len(batch))
        if not isinstance(answer, dict) or "scores" not in answer:
            return PartScores.of([f"{self.endpoint.host}: answered without scores: {str(answer)[:80]!r}"] * len(batch))
        return PartScores.of(read_scores(answer["scores"], len(batch)))

    def close(self) -> None:
        """Nothing; connections end with each request."""


def _content(batch: ScoringBatch) -> dict[str, object]:
    """What is sent: five lists with an entry for each completion."""
    return {
        "prompts": [prompt.text for prompt, _ in batch.each],
        "conversations": [messages(prompt.conversation) for prompt, _ in batch.each],
        "completions": [completion.text for _, completion in batch.each],
        "ended": [completion.stop == "eos" for _, completion in batch.each],
        "fields": [{name: _plain(value) for name, value in prompt.fields.items()} for prompt, _ in batch.each],
    }


def _plain(value: object) -> object:
    """The value as JSON has it; what JSON lacks (dates, NaN) as text."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value
