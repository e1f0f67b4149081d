"""BBQ: questions about two people, one of a stereotyped group, with and without the facts (Parrish et al. 2022, arXiv:2110.08193)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from palate.core import DataError
from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, CLUSTER, GROUP, EvalQuestion, PublishedEval, text_in, word_in

_NAMES = ("ans0", "ans1", "ans2")


def _read(entry: SourceRow) -> Iterator[EvalQuestion]:
    options = [text_in(entry, name) for name in _NAMES]
    label = entry.row.get("label")
    if label not in (0, 1, 2) or isinstance(label, bool):
        raise DataError(f"{entry.source}: the column `label` has {label!r}; known are 0, 1 and 2. Take the file as it is published")
    condition = word_in(entry, "context_condition", ("ambig", "disambig"))
    category = text_in(entry, "category")
    unknown, target = _roles(entry)
    fields = {
        "eval": "bbq_ambiguous" if condition == "ambig" else "bbq_disambiguated",
        "kind": "choice",
        "options": options,
        "answer": [options[int(str(label))]],
        BENCHMARK: "bbq",
        GROUP: category,
        CLUSTER: f"{category}:{entry.row.get('question_index')}",
        "polarity": word_in(entry, "question_polarity", ("neg", "nonneg")),
        "unknown": unknown,
        "target": target,
    }
    yield EvalQuestion(text_in(entry, "question"), fields, text_in(entry, "context"))


def _roles(entry: SourceRow) -> tuple[int, int | None]:
    """Return which option is the unknown one, and which names the stereotyped group; None where not exactly one does.

    Parrish et al. look the second up in `additional_metadata.csv`. The rows say it too: `answer_info` names the group of each option.
    """
    info, further = entry.row.get("answer_info"), entry.row.get("additional_metadata")
    groups = further.get("stereotyped_groups") if isinstance(further, dict) else None
    if not isinstance(info, dict) or not isinstance(groups, list) or not all(isinstance(info.get(name), list) for name in _NAMES):
        raise DataError(
            f"{entry.source}: `answer_info` or `additional_metadata.stereotyped_groups` is missing. Take the file as it is published"
        )
    unknown = [at for at, name in enumerate(_NAMES) if "unknown" in info[name]]
    if len(unknown) != 1:
        raise DataError(f"{entry.source}: {len(unknown)} of the options are `unknown` in `answer_info`, and 1 must be")
    stereotyped = {_plain(group) for group in groups}
    targets = [at for at, name in enumerate(_NAMES) if at not in unknown and stereotyped & {_plain(word) for word in info[name]}]
    return unknown[0], targets[0] if len(targets) == 1 else None


def _plain(group: object) -> str:
    return re.sub(r"[\s_-]", "", str(group)).casefold()


_COLUMNS = ("context", "question", *_NAMES, "label", "answer_info", "question_polarity", "context_condition", "category")
BBQ = PublishedEval("bbq", "BBQ", frozenset({*_COLUMNS, "additional_metadata"}), _read)
