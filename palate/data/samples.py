"""Rows of `samples.jsonl`: prompts with their completions, in a shape that other tools read too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from palate.config.artifacts import file_at
from palate.core import Completion, Prompt
from palate.data.formats import messages, read_prompts


def sample_row(prompt: Prompt, completions: Sequence[Completion]) -> dict[str, Any]:
    """A row of `samples.jsonl`."""
    rows = [{"text": c.text, "stop": c.stop, "tokens": len(c.ids)} for c in completions]
    return {"id": prompt.id, "prompt": messages(prompt), "completions": rows, **prompt.fields}


def read_samples(path: str) -> list[tuple[Prompt, tuple[Completion, ...]]]:
    """Prompts with their completions from a `samples.jsonl`, or from the run directory that holds one."""
    samples = []
    for prompt in read_prompts(file_at(path, "samples.jsonl")).rows:
        fields = dict(prompt.fields)
        rows: Any = fields.pop("completions")
        samples.append((replace(prompt, fields=fields), tuple(Completion(row["text"], stop=row["stop"]) for row in rows)))
    return samples
