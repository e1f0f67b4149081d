"""Rows of the files that stages hand to each other; all are in shapes that other tools read too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from palate.config.artifacts import file_at
from palate.core import Completion, Message, Prompt
from palate.data.formats import read_prompts, turns_of


def messages(prompt: Prompt) -> list[dict[str, Any]] | str:
    """A prompt as it stands in files: chat messages, or a string for plain text."""
    if all(message.role == "text" for message in prompt.conversation):
        return "".join(message.text for message in prompt.conversation)
    return turns_of(prompt.conversation)


def answer(prompt: Prompt, completion: Completion) -> list[dict[str, Any]] | str:
    """A completion as it stands in files: an assistant turn, or a string for plain text."""
    if all(message.role == "text" for message in prompt.conversation):
        return completion.text
    return turns_of((Message("assistant", completion.text, completion.tool_fields),))


def sample_row(prompt: Prompt, completions: Sequence[Completion]) -> dict[str, Any]:
    """A row of `samples.jsonl`."""
    shown = [{"text": c.text, "stop": c.stop, "tokens": len(c.ids)} for c in completions]
    return {"id": prompt.id, "prompt": messages(prompt), "completions": shown, **prompt.fields}


def read_samples(path: str) -> list[tuple[Prompt, tuple[Completion, ...]]]:
    """Prompts with their completions from a `samples.jsonl`, or the run directory that holds one."""
    read = []
    for prompt in read_prompts(file_at(path, "samples.jsonl")).rows:
        fields = dict(prompt.fields)
        rows: Any = fields.pop("completions")
        read.append((replace(prompt, fields=fields), tuple(Completion(row["text"], stop=row["stop"]) for row in rows)))
    return read
