"""One person's judgments beside a crowd's, the truth, and a reward model before and after it learned from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.agreement.estimates import Estimate, share
from palate.config.functions import load_gold
from palate.core import Conversation, Preference
from palate.data.formats import read_preferences, read_samples

Pair = tuple[Conversation, frozenset[str]]


@dataclass(frozen=True, slots=True)
class OwnJudgment:
    """A pair that one person judged, with what others say of it.

    Attributes:
        prompt: the text of the prompt's last turn.
        preferred: what the person preferred.
        other: the other text.
        crowd: share of the crowd's votes for `preferred`, from 0 to 1; None if the crowd did not judge the pair.
        truth: whether the truth prefers `preferred`; None if nobody knows the truth, or if both texts are equally good.
        before: probability from 0 to 1 that the reward model gave to `preferred` before it learned; None if it did not read the pair.
        after: the same after it learned.
    """

    prompt: str
    preferred: str
    other: str
    crowd: float | None = None
    truth: bool | None = None
    before: float | None = None
    after: float | None = None

    @property
    def agrees_with_crowd(self) -> bool | None:
        """Whether most of the crowd prefer the same; None if they are undecided or did not judge it."""
        return None if self.crowd is None or self.crowd == 0.5 else self.crowd > 0.5

    @property
    def change(self) -> float:
        """How far the reward model's probability moved towards `preferred`, from -1 to 1."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, slots=True)
class OwnJudgments:
    """What one person judged on one dimension. `ties` counts the pairs on which they did not prefer either text."""

    dimension: str
    pairs: tuple[OwnJudgment, ...]
    ties: int = 0

    @property
    def with_crowd(self) -> Estimate | None:
        """Share of pairs on which the person agrees with most of the crowd; None without such pairs."""
        return _share([one.agrees_with_crowd for one in self.pairs])

    @property
    def with_truth(self) -> Estimate | None:
        """Share of pairs on which the person agrees with the truth; None without such pairs."""
        return _share([one.truth for one in self.pairs])

    @property
    def rescored(self) -> tuple[OwnJudgment, ...]:
        """The pairs that the reward model read, those that moved most first."""
        read = [one for one in self.pairs if one.before is not None and one.after is not None]
        return tuple(sorted(read, key=lambda one: -abs(one.change)))

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence on the crowd, one on the truth, and one on the reward model, where there is something to say."""
        parts = [_sentence("the raters of the pipeline", self.with_crowd), _sentence("the truth", self.with_truth)]
        if moved := self.rescored:
            closer, first = sum(one.change > 0 for one in moved), moved[0]
            assert first.before is not None
            assert first.after is not None
            parts.append(
                f"The reward model moved towards your answer on {closer} of {len(moved)} pairs. The largest change is from "
                f"{first.before:.0%} to {first.after:.0%}."
            )
        return tuple(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class JudgedFiles:
    """Files with judgments of the same pairs.

    Attributes:
        mine: preferences that one person's judgments gave.
        crowd: files of preferences that others gave.
        samples: the completions, with the columns that a truth takes.
        rescored: `rescored.jsonl` of the run of `refresh` that learned from `mine`; None if there is none.
    """

    mine: Path
    crowd: Sequence[Path]
    samples: Path
    rescored: Path | None = None


def own_judgments(files: JudgedFiles, gold: str | None, dimension: str) -> OwnJudgments:
    """Return one person's judgments on a dimension beside those of others.

    Args:
        files: where they are.
        gold: import path of the truth, or None.
        dimension: the dimension that was judged.
    """
    own = _rows(files.mine, dimension)
    crowd = {pair: row for path in files.crowd for pair, row in _rows(path, dimension).items()}
    rescored = _rows(files.rescored, dimension) if files.rescored is not None else {}
    winners = {pair: _winner(row) for pair, row in own.items() if row.probability != 0.5}
    truth = {} if gold is None else truths(files.samples, winners, gold, dimension)
    pairs = []
    for pair, preferred in winners.items():
        row = own[pair]
        other = row.rejected.text if preferred == row.chosen.text else row.chosen.text
        before, after = (_probability_of(rescored.get(pair), preferred, name) for name in ("before", "after"))
        pairs.append(
            OwnJudgment(
                row.prompt.text,
                preferred,
                other,
                _crowd_share(crowd.get(pair), preferred),
                truth[pair] == preferred if pair in truth else None,
                before,
                after,
            )
        )
    return OwnJudgments(dimension, tuple(pairs), len(own) - len(winners))


def truths(samples: Path, pairs: Mapping[Pair, str], gold: str, dimension: str) -> dict[Pair, str]:
    """Return the text that the truth prefers, for those of the pairs whose texts it tells apart."""
    judge = load_gold(gold)
    prompts = {prompt.conversation: prompt for prompt, _ in read_samples(samples).rows}
    found: dict[Pair, str] = {}
    for conversation, texts in pairs:
        prompt = prompts.get(conversation)
        if prompt is None:
            continue
        values = {text: judge(prompt.text, text, **prompt.fields)[dimension] for text in texts}
        best = max(values, key=values.__getitem__)
        if len(set(values.values())) > 1:
            found[conversation, texts] = best
    return found


def _rows(path: Path, dimension: str) -> dict[Pair, Preference]:
    rows = [row for row in read_preferences(path).rows if row.dimension == dimension]
    return {(row.prompt.conversation, frozenset((row.chosen.text, row.rejected.text))): row for row in rows}


def _winner(row: Preference) -> str:
    return row.chosen.text if row.probability > 0.5 else row.rejected.text


def _crowd_share(row: Preference | None, preferred: str) -> float | None:
    """Return the share of votes for the text; the stated probability stands for them where the votes are not known."""
    if row is None:
        return None
    votes = [vote for _, vote in row.votes]
    chosen = sum(votes) / len(votes) if votes else row.probability
    return chosen if row.chosen.text == preferred else 1 - chosen


def _probability_of(row: Preference | None, preferred: str, name: str) -> float | None:
    value = None if row is None else row.prompt.fields.get(name)
    if row is None or not isinstance(value, int | float):
        return None
    return float(value) if row.chosen.text == preferred else 1 - float(value)


def _share(agreed: Sequence[bool | None]) -> Estimate | None:
    known = [one for one in agreed if one is not None]
    return share(sum(known), len(known)) if known else None


def _sentence(whom: str, agreed: Estimate | None) -> str:
    if agreed is None:
        return ""
    right = round(agreed.value * agreed.n)
    return f"You agree with {whom} on {right} of {agreed.n} pairs (95 %: {agreed.low:.0%} to {agreed.high:.0%})."
