"""GSM8K: sums in words, whose answers end with `#### ` and a number (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from palate.core import DataError
from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, EvalQuestion, PublishedEval, text_in

_FINAL = re.compile(r"#### (-?[0-9.,]+)\s*$")


def _read(entry: SourceRow) -> Iterator[EvalQuestion]:
    final = _FINAL.search(text_in(entry, "answer"))
    if final is None:
        raise DataError(f"{entry.source}: the column `answer` does not end with `#### ` and a number. Take the file as it is published")
    fields = {"eval": "gsm8k", "kind": "number", "answer": final[1].replace(",", ""), BENCHMARK: "gsm8k"}
    yield EvalQuestion(text_in(entry, "question"), fields)


GSM8K = PublishedEval("gsm8k", "GSM8K", frozenset({"question", "answer"}), _read)
