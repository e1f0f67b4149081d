"""What the server keeps on the disk: its decisions about texts, and the answers that feedback refers to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from palate.core import Completion, Prompt
from palate.data.formats import sample_row
from palate.data.jsonl import Row, RowWriter, read_lines
from palate.serving.content_rules import RuleFinding, Side

AUDIT, INFERENCES = "audit.jsonl", "inferences.jsonl"
"""Files in the server's folder."""

RECENT = 10_000
"""Answers that are found without reading the file."""


class AuditLog:
    """One row per text that rules were checked on, or that passages were added to. A row is in the file before the answer is sent."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._rows, self._clock, self._lock = RowWriter(folder / AUDIT), clock, threading.Lock()

    def write(self, inference: str, side: Side, text: str, findings: Sequence[RuleFinding], action: str) -> None:
        """Add a decision: what was found about a text, and what happened to it (passed, refused or dropped).

        Raises:
            RunError: there is no space left.
        """
        broken = [finding.rule for finding in findings if finding.is_broken]
        row = {"time": self._clock(), "inference_id": inference, "side": side, "action": action, "broken": broken}
        with self._lock:
            self._rows.append({**row, "findings": [finding.row for finding in findings], "text": text})

    def write_passages(self, prompt: Prompt, passages: Sequence[str]) -> None:
        """Add what was put before the question of a prompt. Raises RunError where there is no space left."""
        row = {"time": self._clock(), "inference_id": prompt.id, "side": "retrieval", "action": "added"}
        with self._lock:
            self._rows.append({**row, "text": prompt.text, "passages": list(passages)})

    def close(self) -> None:
        """Write everything to the disk."""
        self._rows.close()


class InferenceLog:
    """The answers that were sent, one row per question, in the form of `samples.jsonl`."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock, self._lock = folder / INFERENCES, clock, threading.Lock()
        self._rows = RowWriter(self._path)
        self._recent: OrderedDict[str, Row] = OrderedDict()

    def write(self, prompt: Prompt, completions: Sequence[Completion], model: str, key: str) -> None:
        """Add the answers to a prompt, whose id is that of the answer.

        Raises:
            RunError: there is no space left.
        """
        row: Row = {**sample_row(prompt, completions), "time": self._clock(), "model": model, "key": key}
        with self._lock:
            self._rows.append(row)
            self._recent[prompt.id] = row
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)

    def find(self, inference: str) -> Row | None:
        """Return the row of an answer, or None."""
        with self._lock:
            if inference in self._recent:
                return self._recent[inference]
        if not self._path.exists():
            return None
        return next((line.row for line in read_lines(self._path) if line.row.get("id") == inference), None)

    def close(self) -> None:
        """Write everything to the disk."""
        self._rows.close()
