"""Evaluate runs written by hand: their rows, their record, and the settings that say what they measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.data.jsonl import write_rows
from palate.runs.record import Parent, RunPlan
from palate.runs.run import open_run

SETTINGS: dict[str, object] = {
    "model": "m",
    "prompts": "p",
    "gold": "world:judge",
    "reward": None,
    "rewards": {},
    "probes": {},
    "reference": "start",
}


def completion(k: int, **figures: Any) -> dict[str, Any]:
    """A row of `completions.jsonl`."""
    row = {"id": f"p{k}", "prompt": f"question {k}", "content": f"c{k}/0", "text": f"answer {k}", "stop": "eos", "tokens": 10}
    return {**row, **figures}


def graded(name: str, k: int, grade: float, kind: str = "answer", **fields: Any) -> dict[str, Any]:
    """A row of `evals.jsonl`."""
    row = {"id": f"{name}-{k}", "eval": name, "prompt": f"{name} {k}", "content": f"{name}{k}/0", "text": "x", "grade": grade}
    return {**row, "fields": {"kind": kind, **fields}}


def evaluated_run(
    root: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    evals: Sequence[Mapping[str, Any]] = (),
    *,
    parents: tuple[Parent, ...] = (),
    summary: Mapping[str, object] | None = None,
    **settings: object,
) -> Path:
    """The directory of a finished evaluate run with these rows."""
    named = {parent.field: parent.path for parent in parents}
    plan = RunPlan(name, "evaluate", {**SETTINGS, "sampling": {"temperature": 1.0}, **named, **settings}, parents=parents)
    with open_run(root, plan).active() as run:
        write_rows(run.directory / "completions.jsonl", [dict(row) for row in rows])
        if evals:
            write_rows(run.directory / "evals.jsonl", [dict(row) for row in evals])
        run.summary({"prompts": len(rows), **(summary or {})})
    return run.directory
