"""Grades by models as judgments in Palate's own file, in which they stand beside those of people: one item per completion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from palate.core import Judgment
from palate.data.exchange import Candidate, Exchange, ExchangeItem, Project, RaterInfo, Task, Vote
from palate.data.rubrics import GradeWord, Rubric
from palate.judges.rubric_grading import Grades, GradingItem


def rubric_exchange(name: str, items: Mapping[str, GradingItem], grades: Mapping[str, Sequence[Grades]]) -> Exchange:
    """Return the items with the grades of each rater, as `palate agreement` and `palate label import` read them.

    A probability of one half or more is a criterion that is met, and stands beside it. A missing grade is left out, and so is a rater who
    gave none at all.

    Args:
        name: the project's name.
        items: completions with their rubrics, by id.
        grades: the grades of each item in their order, by rater.
    """
    rows = tuple(
        ExchangeItem(
            id=identity,
            conversation=item.prompt.conversation,
            candidates=(Candidate(item.completion.text, policy=item.completion.policy, tool_fields=item.completion.tool_fields),),
            task="rubric",
            fields={"rubric": rubric_rows(item.rubric)},
        )
        for identity, item in items.items()
    )
    votes = tuple(
        Vote(Judgment(identity, rater, ()), grades=words, grade_probabilities=soft_grades(own))
        for rater, given in grades.items()
        for identity, own in zip(items, given, strict=True)
        if (words := grade_words(own))
    )
    raters = tuple(RaterInfo(rater, "model") for rater in grades)
    return Exchange(items=rows, votes=votes, raters=raters, name=name, project=Project(name, Task("rubric")))


def rubric_rows(rubric: Rubric) -> list[dict[str, object]]:
    """Return a rubric as JSON objects, which `rubric_of` reads back."""
    return [
        {"id": c.id, "text": c.text, "weight": c.weight, **({"dimension": c.dimension} if c.dimension else {})} for c in rubric.criteria
    ]


def grade_words(grades: Grades) -> dict[str, GradeWord]:
    """Return what grades say, without those that are missing."""
    return {name: "met" if grade >= 0.5 else "unmet" for name, grade in _known(grades)}


def soft_grades(grades: Grades) -> dict[str, float]:
    """Return the grades of a judge that gives probabilities; nothing of one that says yes or no."""
    known = {name: float(grade) for name, grade in _known(grades)}
    return {} if set(known.values()) <= {0.0, 1.0} else known


def _known(grades: Grades) -> Iterable[tuple[str, float]]:
    return ((name, grade) for name, grade in grades.items() if not isinstance(grade, str))
