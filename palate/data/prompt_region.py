"""A region of prompts: those that a pattern finds. Data without it show what a model does where its judgments do not reach."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from palate.config.types import Share
from palate.core import ConfigError
from palate.data.splits import Judged

J = TypeVar("J", bound=Judged)


@dataclass(frozen=True)
class PromptRegion:
    """Prompts whose text a pattern finds.

    Attributes:
        matching: a regular expression that is searched in the prompt's text.
        keep: the share of these prompts that stays, drawn at random.
    """

    matching: str
    keep: Share = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError where `matching` is not a regular expression."""
        try:
            re.compile(self.matching)
        except re.error as error:
            raise ConfigError(
                f"matching: {self.matching!r} is not a regular expression ({error}). Put a backslash before signs that stand for themselves"
            ) from error

    def has(self, text: str) -> bool:
        """Return whether a prompt of this text lies in the region."""
        return re.search(self.matching, text) is not None

    def removed_from(self, judged: Sequence[J], seed: int) -> tuple[list[J], int]:
        """Return what was judged about the other prompts and about those that stay, and how many rows are left out.

        Raises:
            ConfigError: the region has no prompt, so leaving it out would change nothing.
        """
        inside = list(dict.fromkeys(one.prompt.conversation for one in judged if self.has(one.prompt.text)))
        if not inside:
            raise ConfigError(f"matching: {self.matching!r} finds no prompt. Correct the pattern: it is searched in the prompt's text")
        staying = set(random.Random(seed).sample(inside, round(self.keep * len(inside))))
        left_out = set(inside) - staying
        rest = [one for one in judged if one.prompt.conversation not in left_out]
        return rest, len(judged) - len(rest)
