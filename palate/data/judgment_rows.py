"""Rows of judgments, and of preferences with their votes: written by stage `collect`, read by `palate agreement` and `palate exchange`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from palate.core import UNKNOWN_RATER, Judgment, Preference
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.formats import preference_row
from palate.data.jsonl import Row
from palate.data.pseudonyms import pseudonym


def judgment_row(judgment: Judgment) -> Row:
    """The judgment as a JSON object."""
    optional = {
        "strength": judgment.strength,
        "probability": judgment.probability,
        "probabilities": list(judgment.probabilities) or None,
        "is_consistent": judgment.is_consistent,
        "reason": judgment.reason,
        "seconds": judgment.seconds,
        "guideline": judgment.guideline,
    }
    return {
        "comparison": judgment.comparison,
        "rater": judgment.rater,
        "ranking": [list(tier) for tier in judgment.ranking],
        "dimension": judgment.dimension,
        **({} if judgment.order is None else {"order": list(judgment.order)}),
        **({"is_decision": True} if judgment.is_decision else {}),
        **{name: value for name, value in optional.items() if value not in (None, "")},
    }


def judgment_of(row: Columns) -> Judgment:
    """The judgment of a row: the inverse of `judgment_row`. Without `order`, the ranking holds completions' numbers.

    Raises:
        InvalidRow: a field is missing or of another type, or the ranking does not fit the order.
    """
    ranking = cells.tiers(cells.present(row, "ranking"), "ranking")
    num_places = sum(map(len, ranking))
    if num_places < 2:
        raise invalid("ranking", f"holds {num_places} places; a comparison has two or more")
    judgment = Judgment(
        comparison=cells.name(cells.present(row, "comparison"), "comparison"),
        rater=pseudonym(cells.present(row, "rater"), "rater"),
        ranking=ranking,
        dimension=cells.name(row.get("dimension", "overall"), "dimension"),
        order=order_of(row),
        strength=_number_or_none(row, "strength"),
        reason=cells.text(row.get("reason", ""), "reason"),
        seconds=_number_or_none(row, "seconds"),
        guideline=cells.text(row.get("guideline", ""), "guideline"),
        is_decision=cells.boolean(row.get("is_decision", False), "is_decision"),
        probability=probability_of(row),
        is_consistent=consistency_of(row),
        probabilities=probabilities_of(row),
    )
    check_ranking(judgment, num_places)
    return judgment


def order_of(row: Columns) -> tuple[int, ...] | None:
    """The completion at each place shown, in the field `order`; None where the row does not say. Raises InvalidRow for another type."""
    return None if row.get("order") is None else cells.whole_numbers(row["order"], "order")


def probability_of(row: Columns) -> float | None:
    """The probability that a judge gave, in the field `probability`; None where there is none. Raises InvalidRow outside [0, 1]."""
    return None if row.get("probability") is None else cells.number(row["probability"], "probability", least=0, most=1)


def probabilities_of(row: Columns) -> tuple[float, ...]:
    """The probabilities of every two places that a judge ranked, in the field `probabilities`; () where there are none.

    Raises InvalidRow outside [0, 1]. `check_ranking` checks their number.
    """
    given = cells.sequence(row.get("probabilities") or [], "probabilities")
    return tuple(cells.number(one, f"probabilities[{k}]", least=0, most=1) for k, one in enumerate(given))


def consistency_of(row: Columns) -> bool | None:
    """Whether verdicts in both orders were the same, in the field `is_consistent`; None where the row does not say."""
    return None if row.get("is_consistent") is None else cells.boolean(row["is_consistent"], "is_consistent")


def voted_preference_row(row_id: str, preference: Preference, votes: Sequence[float], raters: Sequence[str]) -> Row:
    """A preference with single votes as a JSON object: 1 for chosen, 0 for rejected, 0.5 for a tie."""
    named = replace(preference.prompt, id=row_id)
    row = preference_row(replace(preference, prompt=named, votes=tuple(zip(raters, votes, strict=True))))
    return {name: value for name, value in row.items() if name not in {"margin", "weight"}}


def votes_of(row: Columns) -> list[tuple[str, float]]:
    """(rater, 1 for chosen, 0 for rejected, 0.5 for a tie) of each vote in `votes`. Raters are `unknown-1`, ... without `raters`.

    A null among the votes is none: that rater did not answer.

    Raises:
        InvalidRow: `votes` holds other numbers, or `raters` does not name one rater per vote.
    """
    votes = cells.sequence(cells.present(row, "votes"), "votes")
    shares = [None if vote is None else cells.number(vote, f"votes[{k}]") for k, vote in enumerate(votes)]
    if any(share not in (None, 0, 0.5, 1) for share in shares):
        raise invalid("votes", f"holds other numbers than 1 (chosen), 0 (rejected), 0.5 (a tie): {cells.quoted(votes)}")
    raters = [f"{UNKNOWN_RATER}-{k}" for k in range(1, len(shares) + 1)]
    if "raters" in row:
        raters = [pseudonym(rater, f"raters[{k}]") for k, rater in enumerate(cells.sequence(row["raters"], "raters"))]
    if len(raters) != len(shares):
        raise invalid("raters", f"names {len(raters)} for {len(shares)} votes")
    return [(rater, share) for rater, share in zip(raters, shares, strict=True) if share is not None]


def check_ranking(judgment: Judgment, num_candidates: int) -> None:
    """Check that ranking and order, where it is known, fit the number of candidates. Raises InvalidRow otherwise."""
    if judgment.order is not None and sorted(judgment.order) != list(range(num_candidates)):
        raise invalid("order", f"is {list(judgment.order)}; it must name each of the {num_candidates} candidates once, from 0")
    if judgment.ranking:
        check_tiers(judgment.ranking, num_candidates, "ranking", "place")
    if judgment.probabilities and (not judgment.ranking or len(judgment.probabilities) != math.comb(num_candidates, 2)):
        problem = f"holds {len(judgment.probabilities)} numbers"
        raise invalid(
            "probabilities", f"{problem}; a ranking of {num_candidates} has {math.comb(num_candidates, 2)}, one for every two places"
        )


def check_tiers(tiers: Sequence[Sequence[int]], num_candidates: int, field: str, noun: str) -> None:
    """Check that every candidate (or place shown, by `noun`) is in exactly one tier. Raises InvalidRow otherwise."""
    numbers = [number for tier in tiers for number in tier]
    if absent := [number for number in numbers if not 0 <= number < num_candidates]:
        raise invalid(field, f"names {noun} {absent[0]}; there are {num_candidates}, counted from 0")
    if len(set(numbers)) < len(numbers):
        raise invalid(field, f"names a {noun} twice: {numbers}")
    if missing := set(range(num_candidates)) - set(numbers):
        raise invalid(field, f"leaves out {noun} {min(missing)}")


def _number_or_none(row: Columns, field: str) -> float | None:
    return None if row.get(field) is None else cells.number(row[field], field)
