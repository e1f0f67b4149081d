"""Scores of completions, each computed once, and scored pairs: what every measurement of `palate reward-check` starts from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from palate.config.settings import nearest
from palate.core import Completion, ConfigError, Conversation, DataError, Preference, Prompt
from palate.evaluation.calibration import vote_agreement
from palate.rewards.combination import RewardModels
from palate.runs.progress import progress
from palate.text.chat_text import encode
from palate.text.tokens import answer_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Key = tuple[Conversation, Completion]

AT_ONCE = 64
"""Prompts that are scored together."""

WHOLE = ("overall", "mean")
"""Dimensions that mean a completion as a whole: the sum of all heads judges them."""


@dataclass(frozen=True)
class BookEntry:
    """The scores of a completion by head (h,), normalised and raw ones by member and head (m, h), or why it has none."""

    scores: Floats
    members: Floats
    raw: Floats
    reason: str = ""

    @property
    def spread(self) -> float:
        """The standard deviation among the members' scores, heads added up; in units of the score, divided by the number of members."""
        return float(self.members.sum(1).std())


class ScoreBook:
    """The scores of completions by prompt and text."""

    def __init__(self, models: RewardModels) -> None:
        self.models = models
        self._known: dict[Key, BookEntry] = {}

    def add(self, asked: Iterable[tuple[Prompt, Completion]], label: str) -> None:
        """Score what is not known yet; `label` names the work in the progress."""
        groups: dict[Conversation, dict[Completion, None]] = defaultdict(dict)
        prompts: dict[Conversation, Prompt] = {}
        for prompt, completion in asked:
            answer = answer_of(completion)
            if (prompt.conversation, answer) not in self._known:
                groups[prompt.conversation][answer] = None
                prompts[prompt.conversation] = prompt
        conversations = list(groups)
        with progress(len(conversations), label) as advance:
            for start in range(0, len(conversations), AT_ONCE):
                self._score(conversations[start : start + AT_ONCE], groups, prompts)
                advance(len(conversations[start : start + AT_ONCE]))

    def _score(
        self, part: Sequence[Conversation], groups: dict[Conversation, dict[Completion, None]], prompts: dict[Conversation, Prompt]
    ) -> None:
        found = self.models.score([prompts[one] for one in part], [tuple(groups[one]) for one in part])
        raw = self.models.raw(found.members).double().numpy()
        scores, members = found.scores.double().numpy(), found.members.double().numpy()
        keys = ((conversation, answer) for conversation in part for answer in groups[conversation])
        for number, key in enumerate(keys):
            self._known[key] = BookEntry(scores[number], members[:, number], raw[:, number], found.reasons.get(number, ""))

    def of(self, prompt: Prompt, completion: Completion) -> BookEntry:
        """Return the scores of a completion that was added."""
        return self._known[prompt.conversation, answer_of(completion)]

    def overall(self, prompt: Prompt, completion: Completion) -> float:
        """Return the sum of the heads; NaN where there is no score."""
        return float(self.of(prompt, completion).scores.sum())


@dataclass(frozen=True)
class ScoredPairs:
    """Judged pairs with their scores.

    Attributes:
        preferences: the p pairs.
        scores: scores (p, 2) of the chosen and the rejected side on the pair's own dimension, after the ensemble.
        logits: differences chosen - rejected (m, p) by model, in raw logits.
        observed: the share of votes (p,) for the chosen side.
        tokens: lengths (p, 2) of both sides in tokens.
        prompt: the number (p,) of each pair's prompt.
    """

    preferences: tuple[Preference, ...]
    scores: Floats
    logits: Floats
    observed: Floats
    tokens: Floats
    prompt: Ints

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.preferences)

    @property
    def difference(self) -> Floats:
        """Score of the chosen less that of the rejected side (p,)."""
        return np.asarray(self.scores[:, 0] - self.scores[:, 1])

    @property
    def right(self) -> Floats:
        """The share of votes (p,) on each pair that the scores agree with; equal scores count one half."""
        return vote_agreement(self.difference, self.observed)

    def where(self, flags: Flags) -> ScoredPairs:
        """Return the pairs where `flags` (p,) is true."""
        kept = tuple(one for one, flag in zip(self.preferences, flags, strict=True) if flag)
        arrays = (
            self.scores[flags],
            self.logits[:, flags],
            self.observed[flags],
            self.tokens[flags],
            self.prompt[flags],
        )
        return ScoredPairs(kept, *arrays)


def column_of(dimension: str, heads: Sequence[str], *, combined: bool) -> int | None:
    """Return the number of the head that judges a dimension; None for the sum of all.

    Raises:
        ConfigError: no head has this name.
    """
    if combined or len(heads) == 1 or (dimension in WHOLE and dimension not in heads):
        return None
    if dimension in heads:
        return list(heads).index(dimension)
    raise ConfigError(
        f"the pairs judge {dimension!r}, and the reward model has the dimensions {', '.join(heads)}. {nearest(dimension, heads)} "
        "Choose pairs with --dimensions, or add --combined, which judges every pair by the sum of the dimensions."
    )


def scored_pairs(book: ScoreBook, preferences: Sequence[Preference], *, combined: bool = False) -> tuple[ScoredPairs, Counter[str]]:
    """Score both sides of every pair. Also return why pairs were left out.

    Raises:
        ConfigError: a pair's dimension is not one of the model's.
        DataError: no pair has two scores.
    """
    heads, encoder = book.models.heads, book.models.first.model.tokenizer
    columns = {name: column_of(name, heads, combined=combined) for name in dict.fromkeys(one.dimension for one in preferences)}
    book.add(((one.prompt, side) for one in preferences for side in (one.chosen, one.rejected)), "reward-check")
    kept, left_out, numbers, rows = [], Counter[str](), dict[Conversation, int](), []
    lengths: dict[str, int] = {}
    for one in preferences:
        entries = [book.of(one.prompt, side) for side in (one.chosen, one.rejected)]
        if reason := entries[0].reason or entries[1].reason:
            left_out[reason.partition(":")[0]] += 1
            continue
        head = columns[one.dimension]
        pick = slice(None) if head is None else slice(head, head + 1)
        for side in (one.chosen, one.rejected):
            lengths.setdefault(side.text, len(encode(encoder, side.text)))
        kept.append(one)
        rows.append((
            [float(entry.scores[pick].sum()) for entry in entries],
            entries[0].raw[:, pick].sum(1) - entries[1].raw[:, pick].sum(1),
            _observed(one),
            [lengths[side.text] for side in (one.chosen, one.rejected)],
            numbers.setdefault(one.prompt.conversation, len(numbers)),
        ))  # fmt: skip
    if not kept:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in left_out.most_common())
        raise DataError(f"the reward model gives none of the {len(preferences)} pairs two scores: {reasons}")
    scores, logits, observed, tokens, prompt = (list(column) for column in zip(*rows, strict=True))
    arrays = (np.array(scores), np.array(logits).T, np.array(observed), np.array(tokens, dtype=np.float64))
    return ScoredPairs(tuple(kept), *arrays, np.array(prompt, dtype=np.int64)), left_out


def _observed(preference: Preference) -> float:
    votes = [vote for _, vote in preference.votes]
    return sum(votes) / len(votes) if votes else preference.probability


def whole_pairs(preferences: Sequence[Preference]) -> list[Preference]:
    """Return one pair for every two completions that were compared, with the better side by all dimensions as `chosen`.

    Pairs on which the dimensions cancel out are left out: which side is better as a whole is not known.
    """
    leaning: dict[tuple[Conversation, frozenset[Completion]], list[Preference]] = defaultdict(list)
    for one in preferences:
        sides = frozenset((answer_of(one.chosen), answer_of(one.rejected)))
        if len(sides) == 2:
            leaning[one.prompt.conversation, sides].append(one)
    result = []
    for same in leaning.values():
        first = same[0]
        share = sum(_observed(one) if answer_of(one.chosen) == answer_of(first.chosen) else 1 - _observed(one) for one in same) / len(same)
        if share != 0.5:
            better, worse = (first.chosen, first.rejected) if share > 0.5 else (first.rejected, first.chosen)
            result.append(replace(first, chosen=better, rejected=worse, probability=1.0, votes=(), dimension=WHOLE[0]))
    return result
