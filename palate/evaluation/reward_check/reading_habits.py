"""Whether a reward model reads with the tokenizer and the chat template that it was trained with."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share
from palate.config.artifacts import model_at
from palate.core import Completion, Message, Preference, Prompt
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.length_floor import clustered_difference
from palate.evaluation.reward_check.score_book import Floats, ScoreBook, ScoredPairs, column_of
from palate.models.likelihood import Likelihood
from palate.models.reward_file import RewardFile
from palate.rewards.learned import LearnedReward
from palate.text.chat_text import encode, template_of
from palate.text.tokens import tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_UNKNOWN = 0.05
"""Largest share of unknown tokens in completions that a fitting tokenizer leaves."""

BELOW_GUESS = 1.0
"""A tokenizer does not fit from this many nats per token below a guess among all tokens. An untrained head is about at the guess."""

RENDERED = 512
"""Pairs that are written in another way, at most: the first ones."""

_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>")
"""Texts with which chat templates mark turns, and which a fitting tokenizer has as one token."""


@dataclass(frozen=True)
class RenderedAccuracy:
    """Accuracy where the pairs are written in another way, and what that gains over the model's own way, paired."""

    name: str
    accuracy: Estimate
    gain: Estimate


@dataclass(frozen=True)
class TokenLikelihood:
    """How likely the model's own language-model head finds the completions, mean log-likelihood per token in nats.

    Attributes:
        mean: over the completions of the pairs.
        guess: what a model has that finds all tokens equally likely, `-log` of their number. A model that reads its own tokens does better.
    """

    mean: Estimate
    guess: float

    @property
    def is_fault(self) -> bool:
        """Whether the completions are less likely than by a guess, by the interval and a margin."""
        return self.mean.high < self.guess - BELOW_GUESS


@dataclass(frozen=True)
class ReadingHabits:
    """How a model reads.

    Attributes:
        changed: paths of models whose tokenizer or template is not the one that they were trained with.
        is_recorded: whether every model says which tokenizer it was trained with. Otherwise `changed` does not know.
        unknown: share of unknown tokens in the completions; None where the tokenizer knows every text.
        split_marks: marks of the chat template that the tokenizer takes apart.
        renderings: accuracy where the pairs are written in another way.
        likelihood: how likely the first model finds the completions; None where its scores do not read that.
    """

    changed: tuple[str, ...]
    is_recorded: bool
    unknown: Estimate | None
    split_marks: tuple[str, ...]
    renderings: tuple[RenderedAccuracy, ...]
    likelihood: TokenLikelihood | None


def reading_habits(book: ScoreBook, pairs: ScoredPairs, *, combined: bool) -> ReadingHabits:
    """Measure how the models read the first pairs."""
    part = pairs.where(np.arange(len(pairs)) < RENDERED)
    rewards = {member.path: member.reward for member in book.models.members.values()}
    recorded = {path: trained_tokenizer(path) for path in rewards}
    changed = [path for path, reward in rewards.items() if recorded[path] not in (None, tokenizer_digest(reward.model.tokenizer))]
    first = book.models.first.model.tokenizer
    return ReadingHabits(
        tuple(changed),
        None not in recorded.values(),
        _unknown(first, part),
        _split_marks(first),
        _renderings(book, part, combined=combined),
        _likelihood(book.models.first, part),
    )


def trained_tokenizer(path: str) -> str | None:
    """Return the digest of the tokenizer that the reward model at `path` was trained with; None where it does not say."""
    stored = RewardFile.read(model_at(path))
    return None if stored is None else stored.tokenizer


def _unknown(tokenizer: PreTrainedTokenizerBase, pairs: ScoredPairs) -> Estimate | None:
    if tokenizer.unk_token_id is None:
        return None
    shares = []
    for one in pairs.preferences:
        ids = encode(tokenizer, one.chosen.text) + encode(tokenizer, one.rejected.text)
        shares.append(ids.count(tokenizer.unk_token_id) / max(len(ids), 1))
    found = clustered_difference(np.array(shares), pairs.prompt)
    return found if found.se > 0 else Estimate(found.value, 0.0, found.value, found.value, found.n)


def _likelihood(reward: LearnedReward, pairs: ScoredPairs) -> TokenLikelihood | None:
    """Return the likelihood that the model's scores read; None where they read none. Every pair has scores, so it fits the model."""
    if not isinstance(reward.model.likelihood, Likelihood):
        return None
    trees = [reward.tree(one.prompt, [side]) for one in pairs.preferences for side in (one.chosen, one.rejected)]
    of_sides = reward.states(trees)[:, -1].double().numpy().reshape(-1, 2)
    guess = -math.log(reward.model.module.config.get_text_config().vocab_size)
    return TokenLikelihood(clustered_difference(of_sides.mean(1), pairs.prompt), guess)


def _split_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    marks = dict.fromkeys(_MARK.findall(template_of(tokenizer)))
    return tuple(mark for mark in marks if len(encode(tokenizer, mark)) != 1)


def _renderings(book: ScoreBook, pairs: ScoredPairs, *, combined: bool) -> tuple[RenderedAccuracy, ...]:
    """Score the pairs as plain text without the template, and without the end of the turn."""
    chats = np.array([one.prompt.conversation[0].role != "text" for one in pairs.preferences])
    ways: list[tuple[str, ScoredPairs, list[Preference]]] = []
    if chats.any():
        spoken = pairs.where(chats)
        ways.append(("as plain text, without the chat template", spoken, [_plain(one) for one in spoken.preferences]))
    ways.append(("without the end of the turn", pairs, [_unended(one) for one in pairs.preferences]))
    found = (_rendered(book, *way, combined=combined) for way in ways)
    return tuple(one for one in found if one is not None)


def _rendered(book: ScoreBook, name: str, own: ScoredPairs, written: Sequence[Preference], *, combined: bool) -> RenderedAccuracy | None:
    book.add(((one.prompt, side) for one in written for side in (one.chosen, one.rejected)), "renderings")
    differences = np.array([_difference(book, one, combined=combined) for one in written])
    known = np.isfinite(differences)
    if not known.any():
        return None
    kept = own.where(known)
    right = vote_agreement(differences[known], kept.observed)
    return RenderedAccuracy(name, clustered_share(right, kept.prompt), clustered_difference(right - kept.right, kept.prompt))


def _difference(book: ScoreBook, one: Preference, *, combined: bool) -> float:
    head = column_of(one.dimension, book.models.heads, combined=combined)
    sides: list[Floats] = [book.of(one.prompt, side).scores for side in (one.chosen, one.rejected)]
    first, second = (float(side.sum() if head is None else side[head]) for side in sides)
    return first - second


def _plain(one: Preference) -> Preference:
    text = "\n\n".join(turn.text for turn in one.prompt.conversation) + "\n\n"
    prompt = Prompt(one.prompt.id, (Message("text", text),), one.prompt.fields, one.prompt.source)
    return replace(one, prompt=prompt, chosen=Completion(one.chosen.text), rejected=Completion(one.rejected.text))


def _unended(one: Preference) -> Preference:
    sides = (Completion(side.text, stop="length", tool_fields=side.tool_fields) for side in (one.chosen, one.rejected))
    chosen, rejected = sides
    return replace(one, chosen=chosen, rejected=rejected)


def largest_change(book: ScoreBook, pairs: ScoredPairs, most: int = 32) -> float:
    """Return how far scores move where each pair is scored alone and in the other order, in units of the score."""
    changes = [0.0]
    for one in pairs.preferences[:most]:
        alone = book.models.score([one.prompt], [(one.rejected, one.chosen)]).scores.double().numpy()
        before = np.stack([book.of(one.prompt, side).scores for side in (one.rejected, one.chosen)])
        changes.append(float(np.nanmax(np.abs(alone - before))))
    return max(changes)
