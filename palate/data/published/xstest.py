"""XSTest: safe prompts that only sound dangerous, and unsafe ones beside them (Roettger et al. 2024, arXiv:2308.01263)."""

from __future__ import annotations

from collections.abc import Iterator

from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, GROUP, EvalQuestion, PublishedEval, text_in, word_in


def _read(entry: SourceRow) -> Iterator[EvalQuestion]:
    label = word_in(entry, "label", ("safe", "unsafe"))
    kind = "comply" if label == "safe" else "refuse"
    fields = {"eval": f"xstest_{label}", "kind": kind, BENCHMARK: "xstest", GROUP: text_in(entry, "type")}
    yield EvalQuestion(text_in(entry, "prompt"), fields)


XSTEST = PublishedEval("xstest", "XSTest", frozenset({"prompt", "type", "label", "focus"}), _read)
