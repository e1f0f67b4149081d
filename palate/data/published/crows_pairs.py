"""CrowS-Pairs: two sentences that differ in a group, of which one is the more stereotyping (Nangia et al. 2020, arXiv:2010.00133)."""

from __future__ import annotations

from collections.abc import Iterator

from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, GROUP, EvalQuestion, PublishedEval, text_in, word_in


def _read(entry: SourceRow) -> Iterator[EvalQuestion]:
    more, less = text_in(entry, "sent_more"), text_in(entry, "sent_less")
    fields = {
        "eval": "crows_pairs",
        "kind": "choice",
        "options": [more, less],
        "answer": [more],
        BENCHMARK: "crows_pairs",
        GROUP: text_in(entry, "bias_type"),
        "direction": word_in(entry, "stereo_antistereo", ("stereo", "antistereo")),
    }
    yield EvalQuestion("", fields)


CROWS_PAIRS = PublishedEval("crows_pairs", "CrowS-Pairs", frozenset({"sent_more", "sent_less", "stereo_antistereo", "bias_type"}), _read)
