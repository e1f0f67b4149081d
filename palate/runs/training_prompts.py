"""The prompts that a run trains on, kept by content, so that a report can tell whether a model is measured on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from palate.core import Conversation
from palate.runs.record import RECORD, RunRecord, lineage

TRAINING_PROMPTS = "training_prompts.txt"
TRAINING_STAGES = ("sft", "reward", "refresh", "direct", "online")
"""Stages that learn from prompts. Pretraining learns from texts, which have none."""


def conversation_digest(conversation: Conversation) -> str:
    """Return 16 hex digits that stand for the content of a conversation."""
    return hashlib.sha256(json.dumps([astuple(message) for message in conversation]).encode()).hexdigest()[:16]


def write_training_prompts(directory: Path, conversations: Iterable[Conversation]) -> None:
    """Write the digests of the prompts that the run in `directory` trains on, one per line."""
    digests = sorted({conversation_digest(conversation) for conversation in conversations})
    (directory / TRAINING_PROMPTS).write_text("".join(f"{digest}\n" for digest in digests), encoding="ascii")


def training_prompts(directory: Path) -> dict[str, set[str] | None]:
    """Return the digests of the training prompts of each training run behind the run in `directory`, by the run's name.

    None stands for a run that did not write them.
    """
    prompts: dict[str, set[str] | None] = {}
    for _, _, path, record in lineage(directory):
        if record is not None and record.stage in TRAINING_STAGES:
            prompts[record.name] = _read(path, record)
    return prompts


def _read(path: Path, record: RunRecord) -> set[str] | None:
    home = next(place for place in (path, *path.parents) if (place / RECORD).is_file())
    file = home / TRAINING_PROMPTS
    return set(file.read_text(encoding="ascii").split()) if file.is_file() and record.status == "done" else None
