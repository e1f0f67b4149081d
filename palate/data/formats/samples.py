"""Completions of a prompt, as stage `sample` writes them: `prompt`, and `completions` as texts or as {text, stop, ids}."""

from __future__ import annotations

from dataclasses import dataclass

from palate.core import Completion, Message
from palate.data.cells import Columns, InvalidRow, mapping, present, text
from palate.data.conversations import conversation, prompt_of
from palate.data.formats.preferences import one_answer
from palate.data.formats.row_types import RowKind, SampledCompletions
from palate.data.formats.sampled import with_tokens


@dataclass(frozen=True)
class SamplesFormat:
    """Rows with a prompt and several completions that nobody has judged."""

    name: str = "samples"
    kind: RowKind = "prompts"
    needs: str = "`prompt` and `completions` (a list of strings or of {text})"
    columns: frozenset[str] = frozenset({"prompt", "completions", "tokenizer"})

    def fits(self, row: Columns) -> bool:
        """Whether there are a prompt and texts. Other `completions` are one of the user's columns."""
        completions = row.get("completions")
        return "prompt" in row and isinstance(completions, list) and all(map(_is_completion, completions))

    def parse(self, row: Columns) -> SampledCompletions:
        """The prompt and its completions, which may be empty texts."""
        prompt = prompt_of(present(row, "prompt"))
        if prompt[0].role == "text" and any(isinstance(entry, list) for entry in _entries(row)):
            prompt = (Message("user", prompt[0].text),)
        tokenizer = text(row.get("tokenizer", ""), "tokenizer")
        completions = (_completion(entry, tokenizer, f"completions[{k}]") for k, entry in enumerate(_entries(row)))
        return SampledCompletions(prompt, tuple(completions))


def _entries(row: Columns) -> list[object]:
    completions = row["completions"]
    if not isinstance(completions, list) or not completions:
        raise InvalidRow("no completion: `completions` is empty")
    return completions


def _is_completion(entry: object) -> bool:
    if isinstance(entry, list):
        return bool(entry) and all(isinstance(turn, dict) for turn in entry)
    return isinstance(entry, str) or (isinstance(entry, dict) and isinstance(entry.get("text"), str))


def _completion(entry: object, tokenizer: str, where: str) -> Completion:
    if isinstance(entry, str):
        return Completion(text(entry, where))
    if isinstance(entry, list):
        turn = one_answer((), conversation(entry, where))
        return Completion(turn.text, tool_fields=turn.tool_fields)
    fields = mapping(entry, where)
    calls = text(fields.get("tool_fields") or "", f"{where}.tool_fields")
    policy = text(fields.get("policy") or "", f"{where}.policy")
    return with_tokens(Completion(text(fields["text"], f"{where}.text"), policy=policy, tool_fields=calls), fields, tokenizer, where)
