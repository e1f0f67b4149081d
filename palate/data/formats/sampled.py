"""What a row says about the tokens of its completions. In the column `sampled`: their ids, and why sampling stopped.

    {"tokenizer": "9f2c...", "chosen": {"stop": "eos", "ids": [5, 8, 2]}, "rejected": {"stop": "length", "ids": [5, 9], "exact": false}}

The ids belong to the tokenizer with that digest. Stages whose model has another one, and other tools, take the text. `exact` is false
where the text, turned into tokens again, does not give the ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from palate.core import Completion, StopReason
from palate.data.cells import Columns, InvalidRow, boolean, choice, mapping, text, whole_numbers

SAMPLED = "sampled"

Side = Literal["chosen", "rejected", "completion"]

STOPS: Mapping[str, StopReason] = {
    **{name: name for name in get_args(StopReason)},
    **dict.fromkeys(("stop", "end", "end_turn", "eos_token", "stop_sequence"), "eos"),
    **dict.fromkeys(("max_tokens", "max_length"), "length"),
}
"""Why a completion stops, in the words of Palate and of the servers that models are asked through."""


def is_note(name: str, value: object) -> bool:
    """Whether a column is the one that `sampled_column` writes, and not one of the user's with the same name."""
    column = object_in(value) if name == SAMPLED else None
    return column is not None and column.keys() <= {"tokenizer", *get_args(Side)}


def object_in(value: object) -> Columns | None:
    """The object of a cell, or of the text that spells it in a CSV file; None if it is something else."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return None
    try:
        return mapping(value, "")
    except InvalidRow:
        return None


def has_ids(row: Columns, side: Side) -> bool:
    """Whether the row has the token ids of a side."""
    column = object_in(row.get(SAMPLED)) if is_note(SAMPLED, row.get(SAMPLED)) else None
    note = None if column is None else column.get(side)
    return isinstance(note, dict) and bool(note.get("ids"))


def sampled_column(**sides: Completion) -> dict[str, object]:
    """The column `sampled` of a row with these completions, if anything is known about their tokens."""
    notes = {side: note for side, completion in sides.items() if (note := token_note(completion))}
    digests = {completion.tokenizer for completion in sides.values() if completion.ids and completion.tokenizer}
    # Ids of two tokenizers do not fit in one row. The texts remain.
    if len(digests) > 1:
        notes = {side: {name: value for name, value in note.items() if name == "stop"} for side, note in notes.items()}
    tokenizer = {"tokenizer": digests.pop()} if len(digests) == 1 else {}
    return {SAMPLED: {**tokenizer, **notes}} if notes else {}


def token_note(completion: Completion) -> dict[str, Any]:
    """What is known about the tokens of a completion, as an object."""
    return {
        **({} if completion.stop == "unknown" else {"stop": completion.stop}),
        **({"ids": list(completion.ids)} if completion.ids and completion.tokenizer else {}),
        **({} if completion.is_exact else {"exact": False}),
    }


def with_tokens(completion: Completion, note: Columns, tokenizer: str, where: str) -> Completion:
    """The completion with what `note` says about its tokens: the inverse of `token_note`.

    Raises:
        InvalidRow: a value has another type, or there are ids and nothing says whose.
    """
    ids = whole_numbers(note.get("ids") or [], f"{where}.ids")
    stop = STOPS[choice(note.get("stop") or "unknown", f"{where}.stop", tuple(STOPS))]
    if ids and not tokenizer:
        raise InvalidRow(f"token ids without `tokenizer`: `{where}.ids`; name the digest of their tokenizer, or leave them out")
    is_exact = note.get("exact") is None or boolean(note["exact"], f"{where}.exact")
    return replace(completion, ids=ids, stop=stop, tokenizer=tokenizer if ids else "", is_exact=is_exact)


def sampled_side(row: Columns, side: Side, completion: Completion) -> Completion:
    """The completion of a side with what the row's column `sampled` says about its tokens. Errors as in `with_tokens`."""
    if not is_note(SAMPLED, row.get(SAMPLED)):
        return completion
    column = mapping(row[SAMPLED], SAMPLED)
    if column.get(side) is None:
        return completion
    tokenizer = text(column.get("tokenizer") or "", f"{SAMPLED}.tokenizer")
    return with_tokens(completion, mapping(column[side], f"{SAMPLED}.{side}"), tokenizer, f"{SAMPLED}.{side}")
