"""Pairs from ratings: completions of one prompt, in one row or in several, each compared with every other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from palate.core import Conversation
from palate.data.cells import InvalidRow
from palate.data.formats.dropped import Dropped
from palate.data.formats.preferences import checked_pair
from palate.data.formats.row_types import PairRow, RatedCompletion, RatedCompletions


@dataclass(frozen=True, slots=True)
class RatedPair:
    """A pair, and how much higher the chosen side is rated (0 if that is not known)."""

    pair: PairRow
    margin: float


@dataclass
class RatingGroups:
    """The rated completions seen so far, by prompt.

    A completion makes a pair with each earlier completion of its prompt, unless both are rated alike.

    Attributes:
        dimension: the rating that decides.
    """

    dimension: str
    _seen: dict[Conversation, list[tuple[str, RatedCompletion]]] = field(default_factory=dict)

    def pairs(self, group: RatedCompletions, source: str) -> Iterator[RatedPair | Dropped]:
        """Pairs of the group's completions with all others of their prompt so far, and the completions that make none, with the reason."""
        seen = self._seen.setdefault(group.prompt, [])
        for answer in group.answers:
            if self.dimension not in answer.ratings:
                yield Dropped(source, f"no rating `{self.dimension}`: there are {', '.join(answer.ratings) or 'none'}")
                continue
            for _, other in seen:
                try:
                    yield self._pair(group, answer, other)
                except InvalidRow as error:
                    yield Dropped(source, error.reason)
            seen.append((source, answer))

    def alone(self) -> Iterator[Dropped]:
        """Completions that are the only rated one of their prompt, so that there is nothing to compare them with."""
        for seen in self._seen.values():
            if len(seen) == 1:
                yield Dropped(seen[0][0], "no other rated completion of this prompt")

    def _pair(self, group: RatedCompletions, answer: RatedCompletion, other: RatedCompletion) -> RatedPair:
        better, worse = sorted((answer, other), key=lambda rated: -rated.ratings[self.dimension])
        margin = better.ratings[self.dimension] - worse.ratings[self.dimension]
        if margin == 0:
            raise InvalidRow(f"both sides are rated alike: {better.ratings[self.dimension]:g}")
        return RatedPair(checked_pair(group.prompt, better.text, worse.text), margin if group.is_scaled else 0.0)
