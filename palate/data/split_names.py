"""Which split of a data set a file belongs to, and which split is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from palate.core import DataError

_TRAINING = ("train", "training")
_WORDS = (*_TRAINING, "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation", "heldout", "holdout")
_SHARD = re.compile(r"(?:[-_.]\d+[-_.]of[-_.]\d+(?:-[0-9a-f]+)?|(?:[-_.](?:part|shard))?[-_.]?(?<![a-z])\d+)$", re.IGNORECASE)
_SUFFIXES = re.compile(r"\.(?:jsonl|json|csv|tsv|parquet)(?:\.gz)?$")


def split_of(file: Path) -> str:
    """The split that a file's name or folder mentions; "" if none.

    A name may say more than that (`train_prefs`, `train_sft`). Then the whole name without the number of a shard is the split, because
    such files hold different data.
    """
    stem = _SHARD.sub("", _SUFFIXES.sub("", file.name))
    for name in (stem, *reversed(file.parts[:-1])):
        words = _words(name)
        if not set(words).isdisjoint(_WORDS):
            return "train" if words == ["training"] else name
    return ""


def find_split(splits: Sequence[str], where: str, remedy: str) -> str:
    """The split to read: the only one, or the only one for training.

    Raises:
        DataError: there are several splits, and not exactly one is for training.
    """
    if len(splits) == 1:
        return splits[0]
    training = [split for split in splits if not set(_words(split)).isdisjoint(_TRAINING)]
    if len(training) == 1:
        return training[0]
    problem = f"several are for training ({', '.join(training)})" if training else "none is `train`"
    raise DataError(f"{where}: holds the splits {', '.join(name or '(no name)' for name in splits)} and {problem}; {remedy}.")


def _words(name: str) -> list[str]:
    return re.split(r"[-_.\s]+", name.lower())
