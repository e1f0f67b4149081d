"""The nouns of RLHF: frozen, complete when made, standard library only.

Ask (`Comparison`), answer (`Judgment`) and conclusion (`Preference`) are three things. `first` and `second` exist only
for what was shown; `chosen` and `rejected` only after a conclusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Role = Literal["system", "user", "assistant", "tool", "text"]
"""Who speaks. `text` is plain text outside any chat template: it is tokenised as it stands."""

StopReason = Literal["eos", "length"]
"""Why sampling stopped: the model wrote an end token, or the token budget ran out."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `tool_fields` is the JSON text of an object with what the turn says about tools besides its text: `tool_calls` of an assistant turn,
    `name` and `tool_call_id` of a tool's; in the first turn also `tools`, the functions that the conversation may call. "" for nothing.
    """

    role: Role
    text: str
    tool_fields: str = ""


Conversation = tuple[Message, ...]
"""Turns in the order spoken."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a completion continues: a conversation that waits for an assistant turn (or plain text to go on from).

    `fields` are further columns of the row, handed to scoring functions by name; `source` is `file:row`.
    """

    id: str
    conversation: Conversation
    fields: Mapping[str, object] = field(default_factory=dict)
    source: str = ""

    @property
    def text(self) -> str:
        """The last turn's text: the question that is asked."""
        return self.conversation[-1].text


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation to imitate; `learned` are the indices of the turns to learn from."""

    conversation: Conversation
    learned: tuple[int, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_p: smallest set of tokens with this much probability is kept; 1 keeps all.
        top_k: this many likeliest tokens are kept; 0 keeps all.
        max_tokens: longest completion.
        min_p: tokens with at least this share of the likeliest one's probability are kept; 0 keeps all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 64
    min_p: float = 0.0


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation. `logps` are nats under the distribution truly sampled, one per id; `tool_fields` is as in `Message`."""

    text: str
    ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    stop: StopReason = "eos"
    policy: str = ""
    tool_fields: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question: a prompt and two or more completions in the order shown."""

    id: str
    prompt: Prompt
    completions: tuple[Completion, ...]

    def swapped(self) -> Comparison:
        """The same question with the order shown reversed."""
        return replace(self, completions=self.completions[::-1])


@dataclass(frozen=True, slots=True)
class Judgment:
    """An answer: completions by tiers, best first, as positions in the order shown; a tier of two is a tie.

    `order` says which completion of the prompt stood at each position shown. Many to a comparison; append-only. `is_decision`: a
    reviewer settled with it what raters did not agree about; it is the label, and no vote.
    """

    comparison: str
    rater: str
    ranking: tuple[tuple[int, ...], ...]
    dimension: str = "overall"
    order: tuple[int, ...] = (0, 1)
    strength: float | None = None
    reason: str = ""
    seconds: float | None = None
    guideline: str = ""
    is_decision: bool = False


@dataclass(frozen=True, slots=True)
class Preference:
    """A conclusion drawn from judgments: `probability` (0 to 1) that `chosen` is the better one.

    `margin` is how much better in score units (0: unknown), `weight` how much the pair counts.
    """

    prompt: Prompt
    chosen: Completion
    rejected: Completion
    probability: float = 1.0
    margin: float = 0.0
    weight: float = 1.0
    dimension: str = "overall"
    judgments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnpairedPreference:
    """A conclusion about one completion alone: wanted (`desirable`) or not. `weight` is how much it counts."""

    prompt: Prompt
    completion: Completion
    desirable: bool
    weight: float = 1.0
    id: str = ""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The completions of one prompt with what they earned; every step of the loop returns a new one.

    `scores` are the reward model's outputs by name, one per completion; `rewards` what the learner sees after
    penalties; None where scoring failed, with the reason in `failures`.
    """

    prompt: Prompt
    completions: tuple[Completion, ...]
    scores: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    rewards: tuple[float | None, ...] = ()
    failures: tuple[str, ...] = ()
