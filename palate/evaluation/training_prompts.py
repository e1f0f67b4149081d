"""Whether a model is measured on prompts that it, or the reward model that scores it, was trained on: both are read again and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from palate.core import Conversation, PalateError, Prompt
from palate.data.data_sources import content_beside_source
from palate.data.formats import RECOGNISED, read_prompts
from palate.data.voted_labels import read_voted_labels
from palate.evaluation.recorded_sources import RecordedSource, recorded_sources
from palate.runs.record import RECORD, RunRecord, ancestry, missing_runs, read_record

FILES = {"data": "demonstrations.jsonl", "preferences": "preferences.jsonl", "prompts": "prompts.jsonl"}
"""Settings that name what a stage learns from, with the file that they mean inside a run."""

TRAINING_STAGES = ("sft", "reward", "refresh", "direct", "online")
"""Stages that learn from prompts. Pretraining learns from texts, which have none."""


def prompt_digest(prompt: Prompt) -> str:
    """Return what stands for the content of a prompt: digests of its conversation and of the user's columns, with a slash between them.

    The name of its source is not among the columns: the same prompt may be one of several sources elsewhere.
    """
    columns = hashlib.sha256(content_beside_source(prompt)[1].encode()).hexdigest()[:16]
    return f"{conversation_digest(prompt.conversation)}/{columns}"


def conversation_digest(conversation: Conversation) -> str:
    """Return 16 hex digits that stand for the content of a conversation."""
    return hashlib.sha256(json.dumps([astuple(message) for message in conversation]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrainingPrompts:
    """Prompts of an evaluation that training read too.

    Attributes:
        is_known: whether what training read could be read again, and there were prompts to look for.
        shared: how many of the prompts each training run read, by the run's name; only runs that read any.
        sentence: what is known, in words; "" where there were no prompts, or a directory is not that of a run.
    """

    is_known: bool = False
    shared: Mapping[str, int] = field(default_factory=dict)
    sentence: str = ""


def prompts_note(directories: Sequence[str], contents: Sequence[str]) -> str:
    """Say whether the models of the evaluate runs in `directories` were trained on the prompts whose digests are `contents`.

    Returns:
        A sentence. It is "" where there are no contents, or where a directory is not that of a run.
    """
    return training_prompts(directories, contents).sentence


def training_prompts(directories: Sequence[str], contents: Sequence[str]) -> TrainingPrompts:
    """Return which of the prompts with the digests `contents` were read by training that led to the evaluate runs in `directories`."""
    asked = {content.split("/")[0] for content in contents}
    if not asked or not all((Path(directory) / RECORD).is_file() for directory in directories):
        return TrainingPrompts()
    runs = {key: one for directory in directories for key, one in ancestry(Path(directory)).items()}
    found: dict[str, frozenset[str]] = {}
    read: dict[str, frozenset[str]] = {}
    for path, record in runs.values():
        if missing := missing_runs(path, record):
            return _not_known(f"{', '.join(missing)}, which {record.name} was made from, is not there")
        if record.stage in TRAINING_STAGES:
            try:
                found[record.name] = found.get(record.name, frozenset()) | (asked & _training_prompts(path, record, read))
            except (PalateError, OSError, ValueError):
                return _not_known(f"what {record.name} read cannot be read again")
    named = {name: len(own) for name, own in sorted(found.items()) if own}
    if not named:
        return TrainingPrompts(is_known=True, sentence=f"None of the {len(asked)} prompts was a prompt of training.")
    counts = ", ".join(f"{name}: {count}" for name, count in named.items())
    sentence = (
        f"Caution: of the {len(asked)} prompts, {max(named.values())} were also prompts of training ({counts}). They are not held out."
    )
    return TrainingPrompts(is_known=True, shared=named, sentence=sentence)


def _not_known(why: str) -> TrainingPrompts:
    return TrainingPrompts(sentence=f"It is not known whether the models were trained on these prompts: {why}.")


def _training_prompts(directory: Path, record: RunRecord, read: dict[str, frozenset[str]]) -> frozenset[str]:
    """Return the digests of the conversations that a training run read. `read` keeps those of each file, as runs share files."""
    found: frozenset[str] = frozenset()
    for setting, name in FILES.items():
        for source in recorded_sources(directory, record, setting, name):
            key = f"{source.file} {source.limit} {source.columns}"
            if key not in read:
                read[key] = frozenset(map(conversation_digest, _conversations(source)))
            found |= read[key]
    return found


def _conversations(source: RecordedSource) -> Iterator[Conversation]:
    if source.limit is None and source.columns == RECOGNISED and _is_collected(source.file):
        prompts = {id(one.prompt): one.prompt for one in read_voted_labels(source.file)}
        return (prompt.conversation for prompt in prompts.values())
    return (prompt.conversation for prompt in read_prompts(source.file, limit=source.limit, columns=source.columns).rows)


def _is_collected(file: Path) -> bool:
    """Whether a run of `collect` wrote the file: its rows repeat few prompts, which `read_voted_labels` reads once each."""
    record = read_record(file.parent)
    return record is not None and record.stage == "collect" and file.name in {"preferences.jsonl", "held_out.jsonl"}
