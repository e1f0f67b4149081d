"""What users say about answers: checked, and on the disk before it is acknowledged."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints

from palate.data.jsonl import Row, RowWriter, read_lines
from palate.serving.api_errors import ApiError
from palate.serving.api_requests import StrictBody
from palate.serving.audit_log import InferenceLog

FEEDBACK = "feedback.jsonl"
"""The file of feedback in the server's folder."""

COMMENT, DEMONSTRATION, COMPARISON = "comment", "demonstration", "comparison"
"""Names of metrics with a meaning; others are yes or no about one answer, or a number."""

LONGEST = 100_000
"""Characters of a comment or a demonstration."""


class FeedbackBody(StrictBody):
    """`POST /feedback`, in the form of TensorZero.

    Attributes:
        inference_id: the `id` of the answer.
        metric_name: what the value is about.
        value: a text (comment, demonstration), `{"chosen": i, "rejected": j}` (comparison), true or false, or a number.
        choice: the number of the answer that it is about, where there are several.
        idempotency_key: the same key again is the same feedback, which is stored once.
        dryrun: check it, and store nothing.
        rater: who says it, as a pseudonym.
        tags: further words.
    """

    inference_id: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    metric_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    value: Any
    choice: int = Field(0, ge=0)
    idempotency_key: Annotated[str, StringConstraints(max_length=200)] = ""
    dryrun: bool = False
    rater: Annotated[str, StringConstraints(max_length=100)] = ""
    tags: dict[str, str] = Field(default_factory=dict, max_length=32)


class FeedbackStore:
    """Feedback in a file, one row each, with the answer that it is about. Use it as a context."""

    def __init__(self, folder: Path, inferences: InferenceLog, clock: Callable[[], float]) -> None:
        """Continue the file in a folder. Raises DataError where it cannot be read."""
        path = folder / FEEDBACK
        self._inferences, self._clock, self._lock = inferences, clock, threading.Lock()
        rows = (line.row for line in read_lines(path)) if path.exists() else iter(())
        self._by_key = {str(row["idempotency_key"]): _identity(row) for row in rows if row.get("idempotency_key")}
        self._rows = RowWriter(path, sync_every=1)

    def store(self, body: FeedbackBody, caller: str) -> tuple[str, bool]:
        """Store feedback; when this returns, it is on the disk. Return its id, and whether it was stored now.

        Args:
            body: the feedback.
            caller: the name of the API key.

        Raises:
            ApiError: there is no such answer, the value does not fit, or the idempotency key stands for other feedback.
            RunError: there is no space left.
        """
        inference = self._inferences.find(body.inference_id)
        if inference is None:
            message = f"There is no answer {body.inference_id!r} here. Send the id of an answer that the model gave: refusals are not kept."
            raise ApiError(404, message, "not_found", param="inference_id")
        check_value(body, len(inference["completions"]))  # type: ignore[arg-type]
        said = {
            "inference_id": body.inference_id,
            "metric_name": body.metric_name,
            "value": body.value,
            "choice": body.choice,
            "rater": body.rater or caller,
            "tags": body.tags,
        }
        digest = hashlib.sha256(json.dumps([said, caller], sort_keys=True).encode()).hexdigest()
        key = f"{caller}:{body.idempotency_key}" if body.idempotency_key else ""
        with self._lock:
            if key and key in self._by_key:
                return _repeated(self._by_key[key], digest), False
            name = f"feedback-{secrets.token_hex(12)}"
            if body.dryrun:
                return name, False
            row: Row = {"feedback_id": name, "time": self._clock(), **said, "idempotency_key": key, "digest": digest}
            self._rows.append(
                {**row, **{field: inference[field] for field in ("prompt", "completions", "tokenizer", "fields") if field in inference}}
            )
            if key:
                self._by_key[key] = _identity(row)
        return name, True

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._rows.close()


def check_value(body: FeedbackBody, answers: int) -> None:
    """Check that the value fits the metric and the number of answers. Raises ApiError otherwise."""
    value = body.value
    match body.metric_name:
        case "comment" | "demonstration":
            fits, form = isinstance(value, str) and len(value.strip()) > 0 and len(value) <= LONGEST, f"a text of 1 to {LONGEST} characters"
        case "comparison":
            fits, form = _is_comparison(value, answers), f'{{"chosen": i, "rejected": j}}, two different answers of the {answers} (from 0)'
        case _:
            fits, form = isinstance(value, bool | int | float) and abs(value) <= 1e9, "true, false, or a number"
    if not fits:
        raise ApiError(400, f"value: {body.metric_name} takes {form}.", "invalid_value", param="value")
    if body.choice >= answers:
        message = f"choice: it is {body.choice}, and the model gave {answers} choices, counted from 0. A refusal of the server is not one."
        raise ApiError(400, message, "invalid_value", param="choice")


def _is_comparison(value: object, answers: int) -> bool:
    if not isinstance(value, Mapping) or value.keys() != {"chosen", "rejected"}:
        return False
    sides = [value["chosen"], value["rejected"]]
    return all(type(side) is int and 0 <= side < answers for side in sides) and sides[0] != sides[1]


def _identity(row: Row) -> tuple[str, str]:
    """Return the id of feedback, and the digest of what it says."""
    return str(row.get("feedback_id")), str(row.get("digest"))


def _repeated(known: tuple[str, str], digest: str) -> str:
    name, former = known
    if former != digest:
        message = "idempotency_key: this key stands for other feedback. Send a new key with each feedback."
        raise ApiError(409, message, "key_reused", param="idempotency_key")
    return name
