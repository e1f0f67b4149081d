"""Items from JSON lines: `{"prompt": "...", "completions": ["...", "..."]}` and what may stand beside these. All rows or none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import cast

from palate.core import DataError, Message
from palate.core.nouns import Role
from palate.stores.ratings import Candidate, Item, Tiers
from palate.web.media import TYPES, media_kind

KEYS = frozenset({"prompt", "conversation", "completions", "stratum", "gold", "qualification", "fields"})
ROLES = ("system", "user", "assistant", "tool")
LONGEST_LINE = 4 * 1024 * 1024


def read_items(lines: Iterable[bytes | str], source: str) -> list[Item]:
    """The items of a file.

    Raises:
        DataError: a line is at fault; the message names it and the field.
    """
    return list(_items(lines, source))


def read_item(row: object, place: str) -> Item:
    """The item of one JSON object.

    Raises:
        DataError: it is at fault; the message names the place and the field.
    """
    if not isinstance(row, dict):
        raise DataError(f"{place}: is no JSON object.")
    unknown = sorted(set(row) - KEYS)
    if unknown:
        raise DataError(
            f"{place}, field {unknown[0]!r}: is not known; there are {', '.join(sorted(KEYS))}. Put further columns into `fields`."
        )
    candidates = tuple(_candidate(one, place) for one in _list(row, "completions", place))
    fields, qualification = row.get("fields", {}), row.get("qualification", False)
    if not isinstance(fields, dict) or not isinstance(qualification, bool):
        raise DataError(f"{place}: `fields` must be an object, `qualification` true or false.")
    newest = candidates[-1].policy if candidates else ""
    gold = _gold(row.get("gold"), len(candidates), place)
    return Item(_conversation(row, place), candidates, fields, _text(row, "stratum", place), newest, gold, qualification)


def _items(lines: Iterable[bytes | str], source: str) -> Iterator[Item]:
    for number, line in enumerate(lines, start=1):
        place = f"{source}, line {number}"
        if len(line) > LONGEST_LINE:
            raise DataError(f"{place}: is longer than {LONGEST_LINE} bytes.")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: is not JSON ({error}).") from error
        yield read_item(row, place)


def _conversation(row: Mapping[str, object], place: str) -> tuple[Message, ...]:
    if ("prompt" in row) == ("conversation" in row):
        raise DataError(f"{place}: give `prompt` (a text) or `conversation` (a list of {{role, text}}), one of them.")
    if "prompt" in row:
        return (Message("user", _text(row, "prompt", place)),)
    turns = _list(row, "conversation", place)
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES or not isinstance(turn.get("text"), str):
            raise DataError(f"{place}, field 'conversation': a turn is {{role, text}} with role {', '.join(ROLES)}.")
    return tuple(Message(cast(Role, turn["role"]), turn["text"]) for turn in turns if isinstance(turn, dict))


def _candidate(value: object, place: str) -> Candidate:
    if isinstance(value, str):
        return Candidate(value)
    if not isinstance(value, dict) or set(value) - {"text", "media", "policy"} or not all(isinstance(one, str) for one in value.values()):
        raise DataError(f"{place}, field 'completions': each is a text, or an object of texts: text, media, policy.")
    media = value.get("media", "")
    if media and (not media_kind(media) or PurePosixPath(media).is_absolute() or ".." in PurePosixPath(media).parts or "\\" in media):
        raise DataError(
            f"{place}, field 'completions': media {media!r} must be a path inside the media folder that ends in {', '.join(TYPES)}."
        )
    return Candidate(value.get("text", ""), media, value.get("policy", ""))


def _gold(value: object, count: int, place: str) -> Tiers | None:
    """Tiers of completions numbered from 0: `1`, `[1, 0]` or `[[1], [0]]`."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and count == 2 and value in {0, 1}:
        return ((value,), (1 - value,))
    tiers = [one if isinstance(one, list) else [one] for one in value] if isinstance(value, list) else []
    if not tiers or not all(isinstance(place, int) and not isinstance(place, bool) for tier in tiers for place in tier):
        raise DataError(f"{place}, field 'gold': completions numbered from 0, best first, such as [1, 0] or [[0, 2], [1]].")
    return tuple(tuple(tier) for tier in tiers)


def _list(row: Mapping[str, object], name: str, place: str) -> list[object]:
    value = row.get(name, [])
    if not isinstance(value, list):
        raise DataError(f"{place}, field {name!r}: must be a list.")
    return value


def _text(row: Mapping[str, object], name: str, place: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise DataError(f"{place}, field {name!r}: must be a text.")
    return value
