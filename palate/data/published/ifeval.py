"""IFEval: prompts with instructions that a program can check (Zhou et al. 2023, arXiv:2311.07911)."""

from __future__ import annotations

from collections.abc import Iterator

from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, GROUP, EvalQuestion, PublishedEval, text_in
from palate.data.published.instructions import ARGUMENTS, IDS, instructions_in


def _read(entry: SourceRow) -> Iterator[EvalQuestion]:
    prompt, count = text_in(entry, "prompt"), len(instructions_in(entry.row, entry.source))
    fields = {
        "eval": "ifeval",
        "kind": "instructions",
        IDS: entry.row[IDS],
        ARGUMENTS: entry.row[ARGUMENTS],
        BENCHMARK: "ifeval",
        GROUP: "1 instruction" if count == 1 else f"{count} instructions",
    }
    yield EvalQuestion(prompt, fields)


IFEVAL = PublishedEval("ifeval", "IFEval", frozenset({"prompt", IDS, ARGUMENTS}), _read)
