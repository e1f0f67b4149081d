"""What several policies answer to the same prompts: read from files and runs, joined by what was asked."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palate.config.artifacts import file_at, model_at
from palate.config.settings import nearest
from palate.core import Completion, ConfigError, Conversation, DataError, PalateError, Prompt
from palate.data.data_sources import SOURCE, content_beside_source, of_source
from palate.data.formats import Table, read_prompts, read_samples
from palate.data.jsonl import read_rows
from palate.evaluation.recorded_sources import recorded_sources
from palate.evaluation.training_prompts import prompt_digest
from palate.runs.record import read_record

Answers = Mapping[str, tuple[Completion, ...]]
"""Completions of a policy by the prompt's id."""

SAMPLES = "samples.jsonl"
EVALUATED = "completions.jsonl"

MOST_GROUPS = 50
"""The most groups into which prompts are split: with more, hardly a prompt is in each."""

_CONFIGURATIONS = ("config.json", "adapter_config.json")
"""Files that a model directory has one of."""


@dataclass(frozen=True)
class AnsweredPrompt:
    """A prompt that all policies answered.

    Attributes:
        prompt: the prompt.
        answers: each policy's completions, as many of each.
    """

    prompt: Prompt
    answers: tuple[tuple[Completion, ...], ...]


def is_model(path: str) -> bool:
    """Return whether a policy's path is a model, to sample from, and not a file or a run of answers."""
    directory = Path(path)
    if directory.is_file() or any((directory / name).is_file() for name in (SAMPLES, EVALUATED)):
        return False
    return model_at(path) != path or not directory.exists() or any((directory / name).is_file() for name in _CONFIGURATIONS)


def read_answers(path: str, asked: Sequence[Prompt] | None) -> Table[tuple[Prompt, tuple[Completion, ...]]]:
    """Read the answers of one policy: a run of `sample`, `rerank`, `revise` or `evaluate`, or a file of prompts with completions.

    Args:
        path: the run or the file.
        asked: the prompts, if they are known. Otherwise those of a run of `evaluate` are read again.

    Raises:
        DataError: there are no answers, or they are of several policies.
    """
    directory = Path(path)
    if directory.is_dir() and not (directory / SAMPLES).is_file() and (directory / EVALUATED).is_file():
        return _evaluated(directory, asked)
    table = read_samples(file_at(path, SAMPLES))
    writers = dict.fromkeys(each.policy for _, own in table.rows for each in own if each.policy)
    if len(writers) > 1:
        names = ", ".join(list(writers)[:3])
        raise DataError(f"{path}: holds answers of {len(writers)} policies ({names}). Give a file with the answers of one policy")
    return table


def _evaluated(directory: Path, asked: Sequence[Prompt] | None) -> Table[tuple[Prompt, tuple[Completion, ...]]]:
    """Return what a run of evaluate measured, with its prompts: those asked, or those that it read, by their content."""
    prompts = _prompts_of(directory) if asked is None else asked
    known = {prompt_digest(prompt): prompt for prompt in reversed(prompts)}
    rows: list[Any] = [row for _, row in read_rows(directory / EVALUATED)]
    unknown = replace(prompts[0], id="", conversation=())  # a row whose prompt was not asked, which is counted as such
    return Table([(known.get(row["content"], unknown), (Completion(row["text"], stop=row["stop"]),)) for row in rows], [])


def _prompts_of(directory: Path) -> list[Prompt]:
    """Return the prompts of a run of evaluate, read again from where it read them."""
    record = read_record(directory)
    try:
        sources = [] if record is None else recorded_sources(directory, record, "prompts", "prompts.jsonl")
        read = [(read_prompts(one.file, limit=one.limit, columns=one.columns).rows, one.name) for one in sources]
    except PalateError as error:
        raise DataError(f"{directory}: the prompts that it measured cannot be read again ({error}). Give them in `prompts`") from error
    if not read:
        raise DataError(f"{directory}: no run says which prompts these completions answer. Give the prompts in `prompts`")
    return [of_source(prompt, name) if name else prompt for rows, name in read for prompt in rows]


def given_completions(
    prompts: Sequence[Prompt], rows: Iterable[tuple[Prompt, tuple[Completion, ...]]]
) -> tuple[dict[str, tuple[Completion, ...]], int]:
    """Return the completions of each prompt by its id, and the number of rows that answer none of the prompts.

    A row answers the prompt of the same conversation, whatever its place in the file is. Where several prompts have this conversation, it
    answers the one with its own columns or id.
    """
    open_: dict[Conversation, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        open_[prompt.conversation].append(prompt)
    given: dict[str, tuple[Completion, ...]] = {}
    unmatched = 0
    for answered, completions in rows:
        candidates = open_[answered.conversation]
        if not candidates:
            unmatched += 1
            continue
        content, name = content_beside_source(answered), answered.id
        best = min(candidates, key=lambda one, own=content, name=name: (content_beside_source(one) != own, one.id != name))  # type: ignore[misc]
        candidates.remove(best)
        given[best.id] = completions
    return given, unmatched


def answered_by_all(prompts: Sequence[Prompt], answers: Mapping[str, Answers], most: int) -> list[AnsweredPrompt]:
    """Return the prompts that every policy answered, in order, with as many completions of each policy and at most `most`.

    Args:
        prompts: the prompts.
        answers: by policy.
        most: completions of a policy to a prompt, at most.

    Raises:
        DataError: no prompt has an answer of every policy.
    """
    found = []
    for prompt in prompts:
        if not all(own.get(prompt.id) for own in answers.values()):
            continue
        count = min(most, *(len(own[prompt.id]) for own in answers.values()))
        each = (tuple(replace(one, policy=name) for one in own[prompt.id][:count]) for name, own in answers.items())
        found.append(AnsweredPrompt(prompt, tuple(each)))
    if not found:
        counts = ", ".join(f"{name}: {len(own)}" for name, own in answers.items())
        raise DataError(
            f"none of the {len(prompts)} prompts was answered by all policies (answered prompts by policy: {counts}). Answers belong to a "
            "prompt by its conversation, so give answers to the same prompts"
        )
    return found


def prompt_groups(prompts: Sequence[Prompt], column: str | None) -> tuple[str, ...]:
    """Return the group of each prompt: its value in a column of the user's, "" where it has none; () where prompts are not split.

    Args:
        prompts: the prompts.
        column: the column; None splits by source where the prompts are of several.

    Raises:
        ConfigError: no prompt has the column, or it has more than `MOST_GROUPS` values.
    """
    name = SOURCE if column is None else column
    groups = tuple(_group(one.fields.get(name, one.source_name if name == SOURCE else "")) for one in prompts)
    values = set(groups)
    if column is None:
        return groups if 1 < len(values) <= MOST_GROUPS else ()
    if values == {""}:
        known = sorted({key for one in prompts for key in one.fields})
        offered = nearest(name, known) if known else "They have no columns."
        raise ConfigError(
            f"split_by: none of the {len(prompts)} prompts has a value in a column {name!r}. {offered} Name the file that has it "
            "in prompts: without that, the prompts are those of the first policy with answers"
        )
    if len(values) > MOST_GROUPS:
        raise ConfigError(f"split_by: {name} has {len(values)} values on {len(prompts)} prompts. Name a column with at most {MOST_GROUPS}")
    return groups


def _group(value: object) -> str:
    """Return the name of a group: a text as it is, and any other value as JSON has it, 1.0 as 1; "" where there is no value."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.isprintable() else json.dumps(value, ensure_ascii=False)[1:-1]  # a line break would cut a table
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False, sort_keys=True)  # type: ignore[call-overload]


def group_order(group: str) -> tuple[bool, float, str]:
    """Return what groups are sorted by: numbers by their size, then texts."""
    try:
        number = float(group)
    except ValueError:
        number = math.nan
    return (True, 0.0, group) if math.isnan(number) else (False, number, group)


def check_distinct(policies: Mapping[str, str]) -> None:
    """Raise ConfigError unless there are two policies or more, each with a name without dots and from a place of its own."""
    if len(policies) < 2:
        raise ConfigError("policies: a comparison needs two policies or more. Give each as NAME=PATH")
    if dotted := [name for name in policies if "." in name]:
        raise ConfigError(f"policies: the name {dotted[0]} has a dot, which separates settings. Give another name")
    places: dict[str, str] = {}
    for name, path in policies.items():
        place = str(Path(path).resolve()) if Path(path).exists() else path
        if place in places:
            raise ConfigError(f"policies: {places[place]} and {name} are both {path}. Name each policy once")
        places[place] = name
