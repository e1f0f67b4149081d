"""TruthfulQA: questions that many people answer wrongly, with right and wrong answers (Lin et al. 2022, arXiv:2109.07958)."""

from __future__ import annotations

from collections.abc import Iterator

from palate.core import DataError
from palate.data.containers import SourceRow
from palate.data.published.eval_questions import BENCHMARK, GROUP, EvalQuestion, PublishedEval, text_in


def _read_json(entry: SourceRow) -> Iterator[EvalQuestion]:
    for name, mode in (("mc1", "best"), ("mc2", "mass")):
        yield _question(entry, name, mode, text_in(entry, "question"), _targets(entry, f"{name}_targets"))


def _read_csv(entry: SourceRow) -> Iterator[EvalQuestion]:
    wrong = dict.fromkeys(_split(entry, "Incorrect Answers"), False)
    best, right = dict.fromkeys([text_in(entry, "Best Answer")], True), dict.fromkeys(_split(entry, "Correct Answers"), True)
    for name, mode, good in (("mc1", "best", best), ("mc2", "mass", right)):
        yield _question(entry, name, mode, text_in(entry, "Question"), {**good, **wrong}, text_in(entry, "Category"))


def _question(entry: SourceRow, name: str, mode: str, question: str, targets: dict[str, bool], category: str = "") -> EvalQuestion:
    right = [text for text, is_right in targets.items() if is_right]
    if not right or len(right) == len(targets):
        raise DataError(f"{entry.source}: {name} needs a right and a wrong answer. Take the file as it is published")
    fields = {"eval": f"truthfulqa_{name}", "kind": "choice", "options": list(targets), "answer": right, "grade_by": mode}
    return EvalQuestion(question, {**fields, BENCHMARK: "truthfulqa", **({GROUP: category} if category else {})})


def _targets(entry: SourceRow, column: str) -> dict[str, bool]:
    """Return whether each answer is right. The published file has empty answers, left over from a list cut at `;`, which are left out."""
    targets = entry.row.get(column)
    if not isinstance(targets, dict) or not all(value in (0, 1) for value in targets.values()):
        raise DataError(f"{entry.source}: the column `{column}` needs answers with 1 or 0 each, got {str(targets)[:80]}")
    return {text.strip(): bool(value) for text, value in targets.items() if text.strip()}


def _split(entry: SourceRow, column: str) -> list[str]:
    return [part.strip() for part in text_in(entry, column).split(";") if part.strip()]


TRUTHFULQA_JSON = PublishedEval(
    "truthfulqa", "TruthfulQA (mc_task.json)", frozenset({"question", "mc1_targets", "mc2_targets"}), _read_json
)
TRUTHFULQA_CSV = PublishedEval(
    "truthfulqa", "TruthfulQA (csv)", frozenset({"Question", "Category", "Best Answer", "Correct Answers", "Incorrect Answers"}), _read_csv
)
