"""How long somebody can have worked on an answer, whatever their page says.

A page measures the time of each answer, and anybody can write a page. What the server knows is when it handed an item out, when the answer
came, and what the same person was busy with in between. Nobody works on two items at once.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from palate.ratings import schema

PAGE = 30
"""Answers read at a time, the newest first."""

_JUDGMENTS, _ASSIGNMENTS = schema.judgments, schema.assignments
_ANSWERS = (
    select(_JUDGMENTS.c.number, _JUDGMENTS.c.created, _JUDGMENTS.c.answer, _ASSIGNMENTS.c.claimed)
    .join(_ASSIGNMENTS, _ASSIGNMENTS.c.id == _JUDGMENTS.c.assignment)
    .where(_JUDGMENTS.c.rater == bindparam("of_rater"), _JUDGMENTS.c.kind == "answer", _JUDGMENTS.c.number < bindparam("before"))
    .order_by(_JUDGMENTS.c.number.desc())
    .limit(PAGE)
)


def possible_seconds(connection: Connection, rater: str, claimed: float, now: float, seconds: float | None) -> float | None:
    """Return the seconds that an answer claims, cut to those that its rater can have had for it; None if it does not claim any.

    The rater's answers must fit into the time: for every moment since which this answer and others were begun, all their seconds together
    are no more than the time since then. So seconds are cut only if the claims cannot all be true.

    Args:
        connection: the transaction that will add the answer.
        rater: the account.
        claimed: when the item was handed out.
        now: when the answer came.
        seconds: what the page measured.
    """
    if seconds is None:
        return None
    most = now - claimed
    if seconds <= 0 or most <= 0:
        return 0.0
    earliest, before, taken = claimed, 2**53, list[tuple[float, float]]()
    while rows := connection.execute(_ANSWERS, {"of_rater": rater, "before": before}).all():
        before, known = rows[-1].number, len(taken)
        for row in rows:
            if row.created <= earliest:  # it ended before all of these were begun; imported answers have times of their own
                continue
            spent = float(row.answer.get("seconds") or 0.0)
            begun = row.claimed if row.claimed < row.created else row.created - spent  # the item was handed out again since
            taken.append((begun, spent))
            earliest = min(earliest, begun)
        if len(taken) == known:
            break
    for since in {begun for begun, _ in taken if begun <= claimed} | {claimed}:
        most = min(most, now - since - sum(spent for begun, spent in taken if begun >= since))
    return round(min(seconds, max(0.0, most)), 2)
