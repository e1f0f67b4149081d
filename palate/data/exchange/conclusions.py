"""Pairs with a better side as votes, and votes as pairs with a better side: what TRL's and HH's files have in common."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.core import Completion, DataError, Judgment, Preference, Prompt
from palate.data.cells import number
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import UNKNOWN_RATER, Candidate, Exchange, ExchangeItem, RaterKind, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.shape import unheld
from palate.data.formats.dropped import Dropped
from palate.data.formats.preferences import margin_of
from palate.data.formats.row_types import InvalidRow, PairRow, RowFormat
from palate.data.formats.tools import with_tools

NOTHING_TO_JUDGE = (
    *("empty completion", "the two sides are equal", "the sides share no prompt", "the sides differ in more than the last assistant turn"),
    *("both sides are rated alike", "empty turn"),
)
"""Faults of published data sets that leave a row without a question; such rows are dropped and listed. Any other fault is an error."""

COUNTS = ("votes_chosen", "votes_rejected", "votes_tie")
MOST_VOTES = 10_000
PRIOR = 1.0
"""Votes that a smoothed share adds, half to each side: (votes + 1/2) / (n + 1)."""


def nothing_to_write(path: Path, left_out: Sequence[Dropped]) -> DataError:
    """The error that no row is left."""
    counts = Counter(one.reason for one in left_out)
    reasons = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common()) or "there is no item"
    return DataError(
        f"{path}: nothing to write: {reasons}. Pairs are of texts that somebody compared: join texts with --items, or write another kind."
    )


_CONCLUDED = ("probability", "margin", "weight")


def take_pair(found: Found, shape: RowFormat, into: Gathering) -> None:
    """Nothing; the pair is an item whose first candidate is the chosen one, with its votes, or one vote of `unknown` where it has none."""
    row = {name: value for name, value in found.row.items() if value is not None}
    try:
        content = with_tools(shape.parse(row), row)
        margin = margin_of(row)
    except InvalidRow as unfit:
        if unfit.reason.partition(":")[0] not in NOTHING_TO_JUDGE:
            raise
        into.drop(found.source, unfit.reason)
        return
    if not isinstance(content, PairRow):
        raise InvalidRow("no `chosen` and `rejected`")
    dimension = cells.name(row.get("dimension", "overall"), "dimension")
    item_id = cells.name(row["id"], "id") if "id" in row else found.place
    weight = number(row, "weight", 1.0, least=0)
    known = {"probability": number(row, "probability", 1.0, least=0, most=1), "margin": margin, "weight": weight}
    taken = {*shape.columns, *COUNTS, "id", "votes", "raters", "dimension", "tools"}
    fields = {name: cells.plain(value, name) for name, value in row.items() if name not in taken}
    fields |= {name: value for name, value in known.items() if name in row}
    sides = ((content.chosen, content.calls[0]), (content.rejected, content.calls[1]))
    candidates = tuple(Candidate(cells.text(said, "completion"), tool_fields=calls) for said, calls in sides)
    into.item(ExchangeItem(item_id, content.prompt, candidates, fields=fields), found.source)
    kind: RaterKind = "person" if "raters" in row else "unknown"
    for rater, share in _votes(row):
        ranking = ((0, 1),) if share == 0.5 else ((0,), (1,)) if share > 0.5 else ((1,), (0,))
        into.vote(Vote(Judgment(item_id, into.rater(rater, kind), ranking, dimension)), found.source)


def _votes(row: Columns) -> Iterator[tuple[str, float]]:
    """(rater, 1 for chosen, 0 for rejected, 0.5 for a tie) of each vote: listed, counted, or the conclusion as one."""
    votes = row.get("votes")
    if isinstance(votes, list):
        shares = [cells.number(vote, f"votes[{k}]") for k, vote in enumerate(votes)]
        if any(share not in (0, 0.5, 1) for share in shares):
            raise invalid("votes", f"holds other numbers than 1 (chosen), 0 (rejected), 0.5 (a tie): {cells.shown(votes)}")
        raters = [f"{UNKNOWN_RATER}-{k}" for k in range(1, len(shares) + 1)]
        if "raters" in row:
            raters = [cells.name(rater, f"raters[{k}]") for k, rater in enumerate(cells.sequence(row["raters"], "raters"))]
        if len(raters) != len(shares):
            raise invalid("raters", f"names {len(raters)} for {len(shares)} votes")
        yield from zip(raters, shares, strict=True)
    elif any(name in row for name in COUNTS):
        counts = [cells.whole(row.get(name, 0), name, least=0, most=MOST_VOTES) for name in COUNTS]
        shares = [share for share, count in zip((1.0, 0.0, 0.5), counts, strict=True) for _ in range(count)]
        yield from ((f"{UNKNOWN_RATER}-{k}", share) for k, share in enumerate(shares, start=1))
    else:
        yield UNKNOWN_RATER, 1.0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Two candidates of an item with the votes about them on one dimension: 1 for `better`, 0 for `worse`, 0.5 for a tie."""

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
        """Smoothed share of votes for the better one: (votes + 1/2) / (n + 1)."""
        return (sum(self.votes) + PRIOR / 2) / (len(self.votes) + PRIOR)

    @property
    def fault(self) -> str:
        """Why it cannot be a pair of texts to learn from; "" when it can."""
        sides = [self.item.candidates[number] for number in (self.better, self.worse)]
        if any(side.media for side in sides):
            return "a candidate is an image or clip, not a text"
        if not self.item.conversation:
            return "there is no prompt"
        return "" if all(side.text.strip() or side.tool_fields for side in sides) else "a candidate without a text"

    def preference(self) -> Preference:
        """The pair as a noun of `palate.core`, with `votes` and `raters` as further columns. What a data set concluded itself is kept."""
        item = self.item
        concluded = {name: float(value) for name in _CONCLUDED if isinstance(value := item.fields.get(name), int | float)}
        is_own = self.raters == (UNKNOWN_RATER,)
        numbers = concluded if is_own else {"probability": self.probability}
        columns = {name: value for name, value in item.fields.items() if name not in _CONCLUDED}
        counted: Mapping[str, object] = {} if is_own else {"votes": list(self.votes), "raters": list(self.raters)}
        chosen, rejected = (
            Completion(side.text, tool_fields=side.tool_fields) for side in (item.candidates[self.better], item.candidates[self.worse])
        )
        prompt = Prompt(self.id, item.conversation, {**columns, **counted})
        return Preference(prompt, chosen, rejected, **numbers, dimension=self.dimension, judgments=self.judgments)


def conclusions(exchange: Exchange) -> Iterator[Conclusion | Dropped]:
    """Every two candidates of each item that somebody compared, by dimension; and what says nothing about two texts, with the reason.

    A reviewer's last decision stands in place of the votes on its item. Items with a right answer test raters, and teach no model.
    """
    votes = exchange.votes_of()
    for item in exchange.items:
        if votes[item.id] and (item.gold is not None or item.is_qualification):
            yield unheld(item.id, "a test of raters, to which the answer is known")
            continue
        standing = [vote for vote in votes[item.id] if vote.status == "kept" and not vote.is_skipped]
        deciding = _deciding(standing)
        kept = [vote for vote in deciding if vote.tiers]
        for _ in range(len(standing) - len(deciding)):
            yield unheld(item.id, "a reviewer decided otherwise, or alike")
        for _ in range(len(votes[item.id]) - len(standing) + len(deciding) - len(kept)):
            yield unheld(item.id, "not a ranking, or not kept")
        if not votes[item.id]:
            yield unheld(item.id, "nobody judged it")
        asked = dict.fromkeys(vote.judgment.dimension for vote in kept)
        for dimension in asked:
            said = [vote for vote in kept if vote.judgment.dimension == dimension]
            for first, second in itertools.combinations(range(len(item.candidates)), 2):
                parts = [item.id, *([f"{first}-{second}"] if len(item.candidates) > 2 else []), *([dimension] if len(asked) > 1 else [])]
                found = _concluded("/".join(parts), item, (first, second), dimension, said)
                yield unheld(item.id, found.fault) if found.fault else found


def _deciding(votes: Sequence[Vote]) -> list[Vote]:
    """The votes on an item that make its label: those of a reviewer's last decision, or else all of them."""
    last = next((vote for vote in reversed(votes) if vote.entry == "adjudication"), None)
    if last is None:
        return list(votes)
    decision = last.answer or last.id
    return [vote for vote in votes if vote is last or (decision and decision in {vote.id, vote.answer})]


def _concluded(row_id: str, item: ExchangeItem, pair: tuple[int, int], dimension: str, votes: Sequence[Vote]) -> Conclusion:
    first, second = pair
    shares = []
    for vote in votes:
        at = {number: place for place, tier in enumerate(vote.tiers) for number in tier}
        shares.append(0.5 if at[first] == at[second] else float(at[first] < at[second]))
    better, worse = (first, second) if sum(shares) >= len(shares) / 2 else (second, first)
    turned = tuple(shares) if better == first else tuple(1 - share for share in shares)
    ids = tuple(vote.id for vote in votes if vote.id)
    return Conclusion(row_id, item, better, worse, dimension, turned, tuple(vote.judgment.rater for vote in votes), ids)
