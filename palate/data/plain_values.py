"""Values of Parquet files and Hugging Face datasets as JSON has them: what is read can be written."""

from __future__ import annotations

import math
from datetime import date, time, timedelta
from decimal import Decimal
from typing import cast
from uuid import UUID


def plain_row(row: object) -> object:
    """The row with plain values. Nulls within lists and columns stay; those of fields inside an object go, as `plain` says."""
    return {name: plain(value) for name, value in row.items()} if isinstance(row, dict) else row


def plain(value: object) -> object:
    """The value in JSON's types, or as it is if JSON does not have the like.

    NaN becomes null: pandas writes it where a value is missing. An object of a column has the fields of all objects of that column, so
    those that are null are left out. Dates and times become ISO texts, durations seconds, decimals numbers, bytes in UTF-8 texts.
    """
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        entries = ((key, plain(entry)) for key, entry in cast("dict[object, object]", value).items())
        return {key: entry for key, entry in entries if entry is not None}
    return _scalar(value)


def _scalar(value: object) -> object:
    match value:
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            if value.is_nan():
                return None
            return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
        case UUID():
            return str(value)
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                return value
        case _:
            return value
