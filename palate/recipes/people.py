"""People as raters of stage `collect`: questions go to a rating server's database, answers come back from it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.recipes.config import Count
from palate.stores.runs import Run

if TYPE_CHECKING:
    from palate.stores.ratings import Progress

COMPARISON = "comparison"
"""The field of an item that says which comparison it is."""


@dataclass(frozen=True)
class People:
    """People who answer at `palate label`.

    Attributes:
        database: where the ratings are: a path, or postgresql+psycopg://user@host/name; made where there is none.
        project: the project of that name; made where there is none, each question for `opinions` raters.
        wait: until every question has its answers; false takes what there is.
        least: judgments to have at least.
        poll_seconds: how often is looked.
    """

    database: str
    project: str = "comparisons"
    wait: bool = True
    least: Count = 1
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not self.poll_seconds > 0:
            raise ConfigError(f"people.poll_seconds must be above 0, got {self.poll_seconds}")

    def judgments(
        self, run: Run, comparisons: Sequence[Comparison], dimensions: tuple[str, ...], opinions: int
    ) -> dict[tuple[str, str], list[Judgment]]:
        """What people said, by comparison and dimension; questions without an answer are left out.

        Questions that the project does not have yet are added. Waiting can be interrupted: the answers are in the database.

        Raises:
            ConfigError: the database cannot be used, or the project asks other questions.
            DataError: fewer than `least` judgments are there.
        """
        from palate.stores.ratings import Candidate, Item, Project, Task, open_ratings

        ratings = open_ratings(self.database, create=True)
        try:
            found = next((project for project in ratings.projects() if project.name == self.project), None)
            if found is None:
                found = ratings.add_project(Project(self.project, Task(axes=dimensions), overlap=opinions), time.time())
            if found.task.kind not in {"compare", "rank"} or not set(dimensions) <= set(found.task.axes):
                raise ConfigError(
                    f"people.project: {self.project} asks about {', '.join(found.task.axes)} (task {found.task.kind}), "
                    f"not about {', '.join(dimensions)}: name another project, or set dimensions to what it asks"
                )
            items = [
                Item(
                    comparison.prompt.conversation,
                    tuple(Candidate(one.text, policy=one.policy) for one in comparison.completions),
                    fields={COMPARISON: comparison.id},
                )
                for comparison in comparisons
            ]
            ratings.add_items(found.id, items, time.time())
            self._wait(run, lambda: ratings.progress(found.id, time.time()))
            asked, said = ratings.as_comparisons(found.id)
        finally:
            ratings.close()
        names = {one.id: str(one.prompt.fields.get(COMPARISON, "")) for one in asked}
        wanted = {comparison.id for comparison in comparisons}
        answers: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
        for judgment in said:
            name = names[judgment.comparison]
            if name in wanted and judgment.dimension in dimensions:
                answers[name, judgment.dimension].append(replace(judgment, comparison=name))
        count = sum(map(len, answers.values()))
        if count < self.least:
            raise DataError(
                f"people.project {self.project} in {self.database} has {count} judgments of these questions, {self.least} are needed: "
                "start `palate label`, and judge; or set people.wait"
            )
        return answers

    def _wait(self, run: Run, look: Callable[[], Progress]) -> None:
        """Nothing; returns once every item has its answers, or at once where nobody waits."""
        progress = look()
        if not self.wait:
            return
        with run.progress(progress.wanted, "judged by people") as advance:
            before = 0
            while True:
                advance(progress.judgments - before, f"{progress.raters} raters, {progress.open} at work")
                before = progress.judgments
                if progress.complete >= progress.items:
                    return
                run.check_stop()
                time.sleep(self.poll_seconds)
                progress = look()
