"""Counts in sentences."""

from palate.evaluation.report.formatting import counted


def test_one_is_singular_with_its_verb() -> None:
    assert counted(1, "prompt", "counts", "count") == "1 prompt counts"
    assert [counted(count, "prompt", "counts", "count") for count in (0, 2)] == ["0 prompts count", "2 prompts count"]
    assert [counted(count, "run") for count in (1, 3)] == ["1 run", "3 runs"]
