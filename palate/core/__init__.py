"""Nouns, protocols and errors of Palate; standard library only."""

from palate.core.errors import (
    ConfigError,
    DataError,
    Interrupted,
    ModelError,
    PalateError,
    RunError,
    TrainingError,
)
from palate.core.nouns import (
    THOUGHT_FIELDS,
    Comparison,
    Completion,
    Conversation,
    Demonstration,
    Judgment,
    Message,
    Preference,
    Prompt,
    Role,
    Sampling,
    StopReason,
    UnpairedPreference,
)
from palate.core.protocols import Advance, Follower, Gold, Tracker
from palate.core.seeds import derive_seed

__all__ = [
    "THOUGHT_FIELDS",
    "Advance",
    "Comparison",
    "Completion",
    "ConfigError",
    "Conversation",
    "DataError",
    "Demonstration",
    "Follower",
    "Gold",
    "Interrupted",
    "Judgment",
    "Message",
    "ModelError",
    "PalateError",
    "Preference",
    "Prompt",
    "Role",
    "RunError",
    "Sampling",
    "StopReason",
    "Tracker",
    "TrainingError",
    "UnpairedPreference",
    "derive_seed",
]
