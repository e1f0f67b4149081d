"""Turn pairs with a better side into votes, and votes into such pairs: what TRL's and HH's files have in common."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.core import UNKNOWN_RATER, Completion, DataError, Judgment, Preference, Prompt
from palate.data import cells
from palate.data.cells import Columns, InvalidRow
from palate.data.containers import SourceRow
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, RaterKind, Vote
from palate.data.exchange.gather import Gathering, NothingToJudge
from palate.data.exchange.shape import unheld
from palate.data.formats.column_types import standard_row
from palate.data.formats.dropped import Dropped
from palate.data.formats.fields import fields_of
from palate.data.formats.preferences import margin_of
from palate.data.formats.row_types import PairRow, RowFormat, content_of
from palate.data.formats.standard_rows import SYSTEM_COLUMNS
from palate.data.judgment_rows import votes_of

NOTHING_TO_JUDGE = (
    *("empty completion", "the two sides are equal", "the sides share no prompt", "the sides differ in more than the last assistant turn"),
    *("both sides are rated alike", "empty turn"),
)
"""Faults of published data sets that leave nothing to judge. Such rows are dropped and listed; any other fault is an error."""

COUNTS = ("votes_chosen", "votes_rejected", "votes_tie")
MAX_VOTES = 10_000
PRIOR = 1.0
"""Votes that a smoothed share adds, half to each side: (votes + 1/2) / (n + 1)."""

_CONCLUDED = ("probability", "margin", "weight")


def nothing_to_write(path: Path, left_out: Sequence[Dropped]) -> DataError:
    """The error if no pair is left to write."""
    counts = Counter(dropped.reason for dropped in left_out)
    reasons = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common()) or "there is no item"
    return DataError(
        f"{path}: nothing to write: {reasons}. A pair is two texts that somebody compared. Join texts with --items, or write another kind."
    )


def take_pair(entry: SourceRow, shapes: Sequence[RowFormat], into: Gathering) -> None:
    """Make an item of the pair, the chosen side first, with its votes, or with one vote of `unknown` if it has none.

    The row is read in the first of the shapes that it fits, or else in the last.
    """
    try:
        row = standard_row(entry.row).row
        shape = next((shape for shape in shapes if shape.fits(row)), shapes[-1])
        content = content_of(shape, row)
        margin = margin_of(row)
    except InvalidRow as error:
        if error.reason.partition(":")[0] not in NOTHING_TO_JUDGE:
            raise
        raise NothingToJudge(error.reason) from error
    if not isinstance(content, PairRow):
        raise InvalidRow("no `chosen` and `rejected`")
    dimension = cells.name(row.get("dimension", "overall"), "dimension")
    item_id = cells.name(row["id"], "id") if "id" in row else entry.place
    weight = cells.number(row.get("weight", 1.0), "weight", least=0)
    probability = cells.number(row.get("probability", 1.0), "probability", least=0, most=1)
    numbers = {"probability": probability, "margin": margin, "weight": weight}
    known = {*shape.columns, *COUNTS, *SYSTEM_COLUMNS, "id", "votes", "raters", "dimension", "tools"}
    fields = {name: cells.json_value(value, name) for name, value in fields_of(row, known).items()}
    fields |= {name: value for name, value in numbers.items() if name in row}
    sides = ((content.chosen, content.calls[0]), (content.rejected, content.calls[1]))
    candidates = tuple(Candidate(cells.text(completion, "completion"), tool_fields=calls) for completion, calls in sides)
    into.item(ExchangeItem(item_id, content.prompt, candidates, fields=fields), entry.source)
    kind: RaterKind = "person" if "raters" in row else "unknown"
    for rater, share in _votes(row):
        ranking = ((0, 1),) if share == 0.5 else ((0,), (1,)) if share > 0.5 else ((1,), (0,))
        into.vote(Vote(Judgment(item_id, into.rater(rater, kind), ranking, dimension)), entry.source)


def _votes(row: Columns) -> Iterator[tuple[str, float]]:
    """(rater, 1 for chosen, 0 for rejected, 0.5 for a tie) of each vote in a list or in counts; else the row itself as one vote."""
    if "votes" in row:
        yield from votes_of(row)
    elif any(name in row for name in COUNTS):
        counts = [cells.whole(row.get(name, 0), name, least=0, most=MAX_VOTES) for name in COUNTS]
        shares = [share for share, count in zip((1.0, 0.0, 0.5), counts, strict=True) for _ in range(count)]
        yield from ((f"{UNKNOWN_RATER}-{k}", share) for k, share in enumerate(shares, start=1))
    else:
        yield UNKNOWN_RATER, 1.0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Two candidates of an item and the votes on them on one dimension: 1 for `better`, 0 for `worse`, 0.5 for a tie."""

    id: str
    item: ExchangeItem
    better: int
    worse: int
    dimension: str
    votes: tuple[float, ...]
    raters: tuple[str, ...]
    judgments: tuple[str, ...]

    @property
    def probability(self) -> float:
        """Smoothed share of votes for the better candidate: (votes + 1/2) / (n + 1)."""
        return (sum(self.votes) + PRIOR / 2) / (len(self.votes) + PRIOR)

    @property
    def fault(self) -> str:
        """Why it cannot be a pair of texts to learn from; "" if it can."""
        sides = [self.item.candidates[number] for number in (self.better, self.worse)]
        if any(side.media for side in sides):
            return "a candidate is an image or clip, not a text"
        if not self.item.conversation:
            return "there is no prompt"
        return "" if all(side.text.strip() or side.tool_fields for side in sides) else "a candidate without a text"

    def preference(self) -> Preference:
        """The pair as a type of `palate.core`, with its votes. Numbers that came with the data set are kept."""
        item = self.item
        concluded = {name: float(value) for name in _CONCLUDED if isinstance(value := item.fields.get(name), int | float)}
        is_given = self.raters == (UNKNOWN_RATER,)
        numbers = concluded if is_given else {"probability": self.probability}
        fields = {name: value for name, value in item.fields.items() if name not in _CONCLUDED}
        chosen, rejected = (
            Completion(side.text, tool_fields=side.tool_fields) for side in (item.candidates[self.better], item.candidates[self.worse])
        )
        votes = () if is_given else tuple(zip(self.raters, self.votes, strict=True))
        prompt = Prompt(self.id, item.conversation, fields)
        return Preference(prompt, chosen, rejected, **numbers, dimension=self.dimension, judgments=self.judgments, votes=votes)


def conclusions(exchange: Exchange) -> Iterator[Conclusion | Dropped]:
    """Every pair of an item's candidates that somebody compared, by dimension, and what is left out, with the reason.

    A reviewer's last decision replaces the votes on its item. Items with a right answer test raters, so they are left out.
    """
    votes = exchange.votes_of()
    for item in exchange.items:
        if votes[item.id] and (item.gold is not None or item.is_qualification):
            yield unheld(item.id, "a test of raters, to which the answer is known")
            continue
        valid = [vote for vote in votes[item.id] if vote.status == "kept" and not vote.is_skipped]
        deciding = _deciding(valid)
        rankings = [vote for vote in deciding if vote.tiers]
        for _ in range(len(valid) - len(deciding)):
            yield unheld(item.id, "a reviewer decided otherwise, or alike")
        for _ in range(len(votes[item.id]) - len(valid) + len(deciding) - len(rankings)):
            yield unheld(item.id, "not a ranking, or not kept")
        if not votes[item.id]:
            yield unheld(item.id, "nobody judged it")
        dimensions = dict.fromkeys(vote.judgment.dimension for vote in rankings)
        for dimension in dimensions:
            on_dimension = [vote for vote in rankings if vote.judgment.dimension == dimension]
            for first, second in itertools.combinations(range(len(item.candidates)), 2):
                parts = [
                    item.id,
                    *([f"{first}-{second}"] if len(item.candidates) > 2 else []),
                    *([dimension] if len(dimensions) > 1 else []),
                ]
                conclusion = _concluded("/".join(parts), item, (first, second), dimension, on_dimension)
                yield unheld(item.id, conclusion.fault) if conclusion.fault else conclusion


def _deciding(votes: Sequence[Vote]) -> list[Vote]:
    """The votes on an item that make its label: those of a reviewer's last decision, or else all."""
    last = next((vote for vote in reversed(votes) if vote.entry == "adjudication"), None)
    if last is None:
        return list(votes)
    decision = last.answer or last.id
    return [vote for vote in votes if vote is last or (decision and decision in {vote.id, vote.answer})]


def _concluded(row_id: str, item: ExchangeItem, pair: tuple[int, int], dimension: str, votes: Sequence[Vote]) -> Conclusion:
    first, second = pair
    shares = []
    for vote in votes:
        tier_of = {number: place for place, tier in enumerate(vote.tiers) for number in tier}
        shares.append(0.5 if tier_of[first] == tier_of[second] else float(tier_of[first] < tier_of[second]))
    better, worse = (first, second) if sum(shares) >= len(shares) / 2 else (second, first)
    votes_for_better = tuple(shares) if better == first else tuple(1 - share for share in shares)
    ids = tuple(vote.id for vote in votes if vote.id)
    return Conclusion(row_id, item, better, worse, dimension, votes_for_better, tuple(vote.judgment.rater for vote in votes), ids)
