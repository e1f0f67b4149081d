"""Pairs of two policies' answers that a run asks people about while it trains: on disk before they are sent, and joined with verdicts."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.agreement.judged_sample import KNOWN, RANDOM, TARGETED, UNASKED, JudgedSample
from palate.core import Comparison, Completion, Judgment, Message, Prompt
from palate.data.exchange import Exchange, ExchangeItem
from palate.data.exclusions import excluded_now
from palate.data.jsonl import read_rows, write_rows
from palate.raters.answer_shares import question_share
from palate.raters.people import question_of, texts_of

CHOICES = {UNASKED: "unasked", TARGETED: "targeted", RANDOM: "random", KNOWN: "known"}
"""The words of the file for how a pair was treated."""

Verdicts = Mapping[Hashable, list[tuple[Comparison, Judgment]]]
"""Questions with answers of people, by what was asked."""


@dataclass(frozen=True)
class AskedPair:
    """The policy's answer to a prompt beside the start's, the policy's first.

    Attributes:
        comparison: both answers, in texts that a database can hold.
        choice: how the pair was treated, as in `JudgedSample`.
        probability: the probability with which it was asked about.
        predicted: a model's prediction of the share that the policy wins.
        gains: what the reward and the second model say that the policy gained, by name, for people to read.
        known: the verdict that nobody has to be asked for, if there is one.
    """

    comparison: Comparison
    choice: int
    probability: float
    predicted: float
    gains: Mapping[str, float]
    known: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether people are asked about it."""
        return self.choice in {TARGETED, RANDOM}

    def item(self) -> ExchangeItem:
        """Return the pair as an item of a project. Its id is made of what is asked, so the same pair has the same id again."""
        digest = hashlib.sha256(repr(question_of(self.comparison)).encode()).hexdigest()
        own = ExchangeItem.of(replace(self.comparison, id=digest[:24]))
        return replace(own, selection_probability=self.probability, policy=self.comparison.completions[0].policy)

    def row(self) -> dict[str, object]:
        """Return the pair as a row of a file."""
        turns = [asdict(turn) for turn in self.comparison.prompt.conversation]
        answers = [
            {"text": one.text, "tool_fields": one.tool_fields, "stop": one.stop, "policy": one.policy}
            for one in self.comparison.completions
        ]
        rest = {"probability": self.probability, "predicted": self.predicted, "gains": dict(self.gains), "known": self.known}
        return {"prompt": self.comparison.id, "choice": CHOICES[self.choice], **rest, "conversation": turns, "answers": answers}

    @staticmethod
    def of_row(row: Mapping[str, Any]) -> AskedPair:
        """Return the pair of a row that `row` made."""
        conversation = tuple(Message(**turn) for turn in row["conversation"])
        answers = tuple(Completion(**answer) for answer in row["answers"])
        comparison = Comparison(row["prompt"], Prompt(row["prompt"], conversation), answers)
        choice = next(number for number, word in CHOICES.items() if word == row["choice"])
        return AskedPair(comparison, choice, row["probability"], row["predicted"], row["gains"], row["known"])


@dataclass(frozen=True)
class AskedPairs:
    """All pairs of one iteration, asked about or not.

    Attributes:
        iteration: the iteration whose policy answered.
        pairs: one per prompt.
    """

    iteration: int
    pairs: tuple[AskedPair, ...]

    @staticmethod
    def path(folder: Path, iteration: int) -> Path:
        """Return where the pairs of an iteration lie."""
        return folder / f"pairs-{iteration:06d}.jsonl"

    def write(self, folder: Path) -> None:
        """Write the pairs in one step."""
        write_rows(self.path(folder, self.iteration), [pair.row() for pair in self.pairs])

    @staticmethod
    def read_all(folder: Path, last: int) -> list[AskedPairs]:
        """Return the batches of a folder up to the iteration `last`, in order."""
        found = sorted((int(path.stem.removeprefix("pairs-")), path) for path in folder.glob("pairs-*.jsonl"))
        return [AskedPairs(number, tuple(AskedPair.of_row(row) for _, row in read_rows(path))) for number, path in found if number <= last]

    def items(self) -> list[ExchangeItem]:
        """Return the pairs that people are asked about as items of a project."""
        return [pair.item() for pair in self.pairs if pair.is_asked]

    def sample(self, verdicts: Verdicts) -> JudgedSample:
        """Return the pairs with the verdicts that are in: the share that the policy's answer won."""
        won = np.array([self._won(pair, verdicts) for pair in self.pairs], dtype=np.float64)
        return JudgedSample(
            np.array([pair.choice for pair in self.pairs]),
            np.array([pair.predicted for pair in self.pairs]),
            np.array(won, dtype=np.float64),
        )

    def unsettled(self, project: Exchange, verdicts: Verdicts) -> int:
        """Return how many of the pairs asked about may still get an answer: fewer than the project wants, and not taken back."""
        wanted = 1 if project.project is None else project.project.overlap
        gone = {question_of(item.comparison()) for item in project.items if item.removed is not None}
        asked = [question_of(pair.comparison) for pair in self.pairs if pair.is_asked]
        return sum(len(verdicts.get(question, ())) < wanted for question in asked if question not in gone)

    @staticmethod
    def _won(pair: AskedPair, verdicts: Verdicts) -> float:
        if pair.known is not None:
            return pair.known
        answers = verdicts.get(question_of(pair.comparison), ()) if pair.is_asked else ()
        if not answers:
            return float("nan")
        own = texts_of(pair.comparison)
        judgments = []
        for question, judgment in answers:  # the project may hold the two answers the other way round
            judgments.append(judgment.renumbered(pair.comparison.id, tuple(own.index(text) for text in texts_of(question))))
        return question_share(judgments)


def verdicts_of(project: Exchange) -> Verdicts:
    """Return the answers that count on the project's first dimension, by question, without those of raters who are left out."""
    dimension = "overall" if project.project is None else project.project.task.dimensions[0]
    excluded = excluded_now()
    found: dict[Hashable, list[tuple[Comparison, Judgment]]] = defaultdict(list)
    for question, judgment in project.answers():
        if judgment.dimension == dimension and not excluded.has_rater(judgment.rater):
            found[question_of(question)].append((question, judgment))
    return found


def num_of_others(verdicts: Verdicts, batches: Sequence[AskedPairs]) -> int:
    """Return how many answers are about questions that none of the batches asked."""
    asked = {question_of(pair.comparison) for batch in batches for pair in batch.pairs if pair.is_asked}
    return sum(len(answers) for question, answers in verdicts.items() if question not in asked)


def holdable(text: str) -> str:
    """Return the text as a database can hold it: without NUL characters and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
