"""Functions that a user could write. A process of its own loads them, so they stay light."""

from __future__ import annotations


def brevity(completion: str) -> float:
    """Fewer letters are better."""
    return -float(len(completion))


def asked(row: dict[str, object]) -> dict[str, object]:
    """A row of a file with other columns."""
    return {"prompt": row["ask"], "completion": row["say"]}
