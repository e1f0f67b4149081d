"""The nouns of RLHF: frozen, complete when made, standard library only.

The question (`Comparison`), the answer (`Judgment`) and the conclusion (`Preference`) are three types. `first` and `second` name what
was shown; `chosen` and `rejected` exist only in a conclusion.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["system", "user", "assistant", "tool", "text"]
"""Who speaks. `text` is plain text outside any chat template; it is tokenised as it stands."""

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names of the field of a message in which data and chat templates keep what an assistant thought before it answered."""

StopReason = Literal["eos", "length", "unknown"]
"""Why a completion stops: its writer wrote an end token, its token budget ran out, or its file does not say.

A completion that nobody is known to have cut is learned as a finished one. One that was cut (`length`) never gets an end token.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `tool_fields` is the JSON text of an object with what the turn says besides its text. An assistant turn may have `tool_calls` and
    thoughts (one of `THOUGHT_FIELDS`), a tool's turn `name` and `tool_call_id`, and the first turn `tools`: the functions that the
    conversation may call. It is "" where there is nothing to say.
    """

    role: Role
    text: str
    tool_fields: str = ""


Conversation = tuple[Message, ...]
"""Turns in the order spoken."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a completion continues: a conversation that waits for an assistant turn, or plain text.

    `fields` are the further columns of the row, which scoring functions receive by name. They belong to the user and may have any name,
    also that of a column which Palate writes. `source` is `file:row`, and `source_name` the name of the source where several are read.
    """

    id: str
    conversation: Conversation
    fields: Mapping[str, object] = field(default_factory=dict)
    source: str = ""
    source_name: str = ""

    @property
    def text(self) -> str:
        """The text of the last turn."""
        return self.conversation[-1].text

    @property
    def content(self) -> tuple[Conversation, str]:
        """What makes it the same prompt as another: the conversation and the user's columns, as a key."""
        return self.conversation, json.dumps(self.fields, sort_keys=True, default=repr)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation to imitate; `learned` are the indices of the turns to learn from.

    `sampled` is the last turn as a model wrote it, with its token ids and whether it was cut. It is then the only turn that is learned.
    `source` and `source_name` are as in `Prompt`.
    """

    conversation: Conversation
    learned: tuple[int, ...]
    source: str = ""
    sampled: Completion | None = None
    source_name: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: keep the smallest set of tokens with this much probability; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        max_tokens: longest completion.
        min_p: keep tokens with at least this share of the likeliest token's probability; 0 keeps all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 64
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of a prompt.

    Attributes:
        text: what it says, special tokens included, without the end token.
        ids: its tokens as they were sampled, with the end token if it has one; () where only the text is known.
        logps: log-probabilities in nats under the distribution that was sampled, one per id.
        stop: why it stops.
        policy: who wrote it; in online training the version of the weights, as a number.
        tool_fields: as in `Message`.
        tokenizer: the digest of the tokenizer that `ids` belong to (`palate.text.tokens.tokenizer_digest`).
        is_exact: False where the text, turned into tokens again, does not give `ids`, or where `ids` are of the text and may not be those
            that were sampled.
    """

    text: str
    ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    stop: StopReason = "unknown"
    policy: str = ""
    tool_fields: str = ""
    tokenizer: str = ""
    is_exact: bool = True

    @property
    def is_cut(self) -> bool:
        """Whether the token budget ran out before the completion ended."""
        return self.stop == "length"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question: a prompt and two or more completions in the order shown."""

    id: str
    prompt: Prompt
    completions: tuple[Completion, ...]

    def swapped(self) -> Comparison:
        """Return the same question with the order shown reversed."""
        return replace(self, completions=self.completions[::-1])


UNKNOWN_RATER = "unknown"
"""The rater of a judgment of which nobody knows whose it is. Several on one question are `unknown-1`, `unknown-2`, ..."""


def is_anonymous(rater: str) -> bool:
    """Return whether the rater is unknown: two judgments under such a name need not come from one person."""
    return rater == UNKNOWN_RATER or (rater.startswith(f"{UNKNOWN_RATER}-") and rater.removeprefix(f"{UNKNOWN_RATER}-").isdecimal())


@dataclass(frozen=True, slots=True)
class Judgment:
    """An answer: tiers of completions, best first, as positions in the order shown. A tier of two is a tie.

    A comparison may have many judgments, and none is ever changed. `order` says which completion of the comparison stood at each position.
    It is None where nobody knows what the rater saw first; then the ranking holds the completions' own numbers. `is_decision` is True where
    a reviewer settled what raters disagreed about; it is then the label and does not count as a vote. `probability` is that of a rater who
    gives one for a pair: how likely the completion at the first position is the better one, from 0 to 1. None where the rater only ranks.
    `probabilities` are those of a rater who gives them for three completions or more: one for every two positions, in the order 0-1, 0-2,
    ..., 1-2, .... Each says how likely the completion at the earlier one is the better one. () where the rater gives none.
    `is_consistent` belongs to a verdict that sums up two, one in each order: whether both were the same. Where they were not, the ranking
    is a tie. None for a verdict in one order.
    """

    comparison: str
    rater: str
    ranking: tuple[tuple[int, ...], ...]
    dimension: str = "overall"
    order: tuple[int, ...] | None = None
    strength: float | None = None
    reason: str = ""
    seconds: float | None = None
    guideline: str = ""
    is_decision: bool = False
    probability: float | None = None
    is_consistent: bool | None = None
    probabilities: tuple[float, ...] = ()

    @property
    def tiers(self) -> tuple[tuple[int, ...], ...]:
        """The ranking in completions' numbers, whatever the order shown. Numbers within a tier ascend."""
        order = self.order
        return tuple(tuple(sorted(tier if order is None else (order[place] for place in tier))) for tier in self.ranking)

    def renumbered(self, comparison: str, numbers: tuple[int, ...]) -> Judgment:
        """Return the same judgment of a comparison in which completion k of this one has the number `numbers[k]`."""
        if self.order is not None:
            return replace(self, comparison=comparison, order=tuple(numbers[k] for k in self.order))
        former = sorted(range(len(numbers)), key=numbers.__getitem__)
        given = [self.first_probability(one, other) for one, other in itertools.combinations(former, 2)]
        return replace(
            self,
            comparison=comparison,
            ranking=tuple(tuple(sorted(numbers[k] for k in tier)) for tier in self.ranking),
            probability=None if self.probability is None else given[0],
            probabilities=tuple(one for one in given if one is not None) if self.probabilities else (),
        )

    def first_probability(self, first: int = 0, second: int = 1) -> float | None:
        """Return how likely completion `first` is better than `second`, whatever order was shown; None where the rater only ranks."""
        if self.probability is None and not self.probabilities:
            return None
        one, other = (first, second) if self.order is None else (self.order.index(first), self.order.index(second))
        low, high = sorted((one, other))
        given = self.probability
        if self.probabilities:
            places = sum(map(len, self.ranking))
            given = self.probabilities[low * (2 * places - low - 1) // 2 + high - low - 1]
        return given if given is None or one < other else 1 - given


@dataclass(frozen=True, slots=True)
class Preference:
    """A conclusion drawn from judgments: `probability` (0 to 1) that `chosen` is the better one.

    `margin` is how much better it is, in score units (0 where that is unknown). `weight` is how much the pair counts. `votes` are the
    single judgments behind it, as (rater, 1 for chosen, 0 for rejected, 0.5 for a tie); the rater is "" where nobody is named.
    """

    prompt: Prompt
    chosen: Completion
    rejected: Completion
    probability: float = 1.0
    margin: float = 0.0
    weight: float = 1.0
    dimension: str = "overall"
    judgments: tuple[str, ...] = ()
    votes: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class UnpairedPreference:
    """A conclusion about one completion alone: desirable or not. `weight` is how much it counts."""

    prompt: Prompt
    completion: Completion
    desirable: bool
    weight: float = 1.0
    id: str = ""
