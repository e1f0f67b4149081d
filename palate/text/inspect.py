"""Show what a model would see of a data set: tokens by their part, and statistics of rows and pairs.

The functions take `InspectedRow`s and return statistics. They do not read files or print.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from palate.core import Conversation
from palate.text.chat_text import Ids
from palate.text.ends import special_ids
from palate.text.pack import Branch
from palate.text.remarks import Remarks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Literal["prompt", "learned", "masked"]
"""The part of a token: prompt, learned, or masked (between learned turns, and not learned)."""

EXAMPLES = 3
"""How many repeated rows are listed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring tokens of one part, as text. A special token is a separate piece."""

    text: str
    part: Part
    is_special: bool


@dataclass(frozen=True, slots=True)
class InspectedRow:
    """A row as text and as tokens: a prompt (the trunk) and its completions (the branches, if any).

    `probability` and `desirable` are those of the row, or None. `remarks` say what the chat template does to the row.
    """

    source: str
    prompt: Conversation
    completions: tuple[str, ...]
    trunk: Ids
    branches: tuple[Branch, ...]
    probability: float | None = None
    desirable: bool | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LengthQuantiles:
    """Quantiles and mean of lengths in tokens. Each quantile is a length that occurs (the lower neighbour)."""

    least: int
    quarter: int
    median: int
    three_quarters: int
    p95: int
    most: int
    mean: float


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows with the same content as an earlier row: their number, and the first few as (row, earlier row)."""

    count: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Statistics of pairs. Shares are of the pairs in which one side is longer, or None if there are no such pairs.

    `even` counts pairs of probability 0.5, `same_length_*` pairs of equal length, and `same_tokens` pairs of equal tokens.
    """

    count: int
    longer_wins_tokens: float | None
    longer_wins_characters: float | None
    same_length_tokens: int
    same_length_characters: int
    even: int
    same_tokens: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a data set. `rows` counts the rows that a stage would use, `dropped` the others by reason."""

    rows: int
    dropped: Mapping[str, int]
    prompt_tokens: LengthQuantiles | None
    completion_tokens: LengthQuantiles | None
    tokens: int
    learned_tokens: int
    repeated_rows: Repeats
    repeated_prompts: Repeats
    pairs: PairStatistics | None
    desirable_share: float | None
    unusable_sides_share: float
    """Share of all rows that were dropped because a side is empty or both are equal."""
    remarks: tuple[str, ...] = ()
    """What the chat template does to rows that are used: a sentence for each kind, with the number of rows."""


@dataclass
class _Seen:
    """The first source of each content, by the digest of the content."""

    first: dict[bytes, str] = field(default_factory=dict)
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)

    def add(self, content: object, source: str) -> None:
        key = hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=12).digest()
        if self.first.setdefault(key, source) != source:
            self.count += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append((source, self.first[key]))

    def repeats(self) -> Repeats:
        return Repeats(self.count, tuple(self.examples))


SIDES = ("empty completion", "the two sides are equal", "both sides are the same tokens")
"""Reasons that are about the sides of a pair."""


@dataclass
class RowTally:
    """Collects statistics row by row. It keeps only lengths and digests of each row."""

    dropped: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    learned: int = 0
    desirable: int = 0
    judged: int = 0
    even: int = 0
    same_tokens: int = 0
    remarks: Remarks = field(default_factory=Remarks)
    _prompts: _Seen = field(default_factory=_Seen)
    _rows: _Seen = field(default_factory=_Seen)
    _trunks: array[int] = field(default_factory=lambda: array("q"))
    _branches: array[int] = field(default_factory=lambda: array("q"))
    _token_gaps: array[int] = field(default_factory=lambda: array("q"))
    _character_gaps: array[int] = field(default_factory=lambda: array("q"))

    def drop(self, kind: str) -> None:
        """Count a row that cannot be used, by the kind of its reason."""
        self.dropped[kind] += 1

    def add(self, example: InspectedRow) -> None:
        """Count a row that can be used."""
        self.rows += 1
        self.remarks.add(Path(example.source).name, example.remarks)
        self._prompts.add(example.prompt, example.source)
        self._rows.add((example.prompt, example.completions, example.desirable), example.source)
        self._trunks.append(len(example.trunk))
        self._branches.extend(len(branch.ids) for branch in example.branches)
        self.learned += sum(sum(branch.learned) for branch in example.branches)
        if example.desirable is not None:
            self.judged += 1
            self.desirable += example.desirable
        if example.probability is not None:
            (chosen, rejected), texts = example.branches, example.completions
            self._token_gaps.append(len(chosen.ids) - len(rejected.ids))
            self._character_gaps.append(len(texts[0]) - len(texts[1]))
            self.even += example.probability == 0.5
            self.same_tokens += chosen.ids == rejected.ids

    def statistics(self) -> Statistics:
        """The statistics of all rows so far."""
        all_rows = self.rows + sum(self.dropped.values())
        sides = sum(self.dropped[reason] for reason in SIDES)
        return Statistics(
            rows=self.rows,
            dropped=dict(self.dropped.most_common()),
            prompt_tokens=lengths_of(self._trunks),
            completion_tokens=lengths_of(self._branches),
            tokens=sum(self._trunks) + sum(self._branches),
            learned_tokens=self.learned,
            repeated_rows=self._rows.repeats(),
            repeated_prompts=self._prompts.repeats(),
            pairs=self._pairs() if self._token_gaps else None,
            desirable_share=self.desirable / self.judged if self.judged else None,
            unusable_sides_share=sides / all_rows if all_rows else 0.0,
            remarks=self.remarks.lines(),
        )

    def shared_prompts(self, other: RowTally) -> Repeats:
        """Prompts that both data sets have, as (row here, row there)."""
        return _shared(self._prompts.first, other._prompts.first)

    def shared_rows(self, other: RowTally) -> Repeats:
        """Whole rows that both data sets have, as (row here, row there)."""
        return _shared(self._rows.first, other._rows.first)

    def _pairs(self) -> PairStatistics:
        tokens, characters = np.asarray(self._token_gaps), np.asarray(self._character_gaps)
        return PairStatistics(
            count=len(tokens),
            longer_wins_tokens=_longer_wins(tokens),
            longer_wins_characters=_longer_wins(characters),
            same_length_tokens=int((tokens == 0).sum()),
            same_length_characters=int((characters == 0).sum()),
            even=self.even,
            same_tokens=self.same_tokens,
        )


def lengths_of(lengths: Sequence[int]) -> LengthQuantiles | None:
    """Quantiles and mean, or None if there are no lengths."""
    if not lengths:
        return None
    values = np.asarray(lengths)
    least, quarter, median, three_quarters, p95, most = np.quantile(values, (0, 0.25, 0.5, 0.75, 0.95, 1), method="lower").tolist()
    return LengthQuantiles(least, quarter, median, three_quarters, p95, most, float(values.mean()))


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], parts: Iterable[Part]) -> tuple[Piece, ...]:
    """The tokens as text. Neighbours of one part are joined, and each special token is separate."""
    special = special_ids(tokenizer)
    # The key of a special token is its place, which no neighbour has.
    keyed = [((part, k if token in special else -1), token) for k, (token, part) in enumerate(zip(ids, parts, strict=True))]
    grouped = groupby(keyed, key=lambda item: item[0])
    return tuple(
        Piece(str(tokenizer.decode([token for _, token in group])), part, is_special=place >= 0) for (part, place), group in grouped
    )


def branch_parts(branch: Branch) -> list[Part]:
    """The part of each token of a branch."""
    return ["learned" if is_learned else "masked" for is_learned in branch.learned]


def _shared(here: Mapping[bytes, str], there: Mapping[bytes, str]) -> Repeats:
    both = [(source, there[key]) for key, source in here.items() if key in there]
    return Repeats(len(both), tuple(both[:EXAMPLES]))


def _longer_wins(gaps: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float | None:
    return float((gaps > 0).sum() / (gaps != 0).sum()) if (gaps != 0).any() else None
