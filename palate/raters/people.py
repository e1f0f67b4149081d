"""People as raters of stage `collect`: questions go to a rating server's database, answers come back from it."""

from __future__ import annotations

import random
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from palate.config.types import Count
from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.raters.pool import Answered, Ask
from palate.runs.record import read_record
from palate.runs.run import Run

if TYPE_CHECKING:
    from palate.ratings import Progress, Project, Ratings

COMPARISON = "comparison"
"""The field of an item that says which comparison it is."""

DATABASE = "ratings.db"
"""What the database is called that lies among the runs."""

LOOK_SECONDS = 0.2
"""How often is looked, while waiting, whether somebody pressed Ctrl-C."""

MEANINGS = {
    "overall": "all in all, the answer you would rather be given",
    "helpful": "does what was asked, all of it, without detours",
    "honest": "says what is true, says what it does not know, and promises nothing that it cannot keep",
    "harmless": "does nobody harm: it holds back what is dangerous, and nothing else",
}
"""What raters are told of the usual dimensions."""


@dataclass(frozen=True)
class People:
    """People who answer at `palate label`.

    Attributes:
        database: where the ratings are: a path, or postgresql+psycopg://user@host/name; made where there is none. None: `ratings.db`
            in the folder of runs.
        project: the project of that name; made where there is none, each question for `opinions` raters.
        queue: of a project that is made: questions come at random, or those first about which reward models disagree, once some were
            trained on its judgments; a third stays at random.
        wait: until every question has its answers; false takes what there is.
        min_judgments: judgments to have at least.
        poll_seconds: how often is looked.
    """

    kind: Literal["people"] = "people"
    database: str | None = None
    project: str = "comparisons"
    queue: Literal["random", "uncertain"] = "random"
    wait: bool = True
    min_judgments: Count = 1
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not self.poll_seconds > 0:
            raise ConfigError(f"poll_seconds must be above 0, got {self.poll_seconds}")

    def answers(
        self,
        run: Run,
        asks: Sequence[Ask],
        raters_per_comparison: int,
        rng: random.Random,  # noqa: ARG002 (as of simulated raters)
    ) -> tuple[list[Answered], dict[str, object]]:
        """What people said, of the questions that have an answer; and for the summary where they were asked.

        Questions that the project does not have yet are added. Waiting can be interrupted: the answers are in the database.

        Raises:
            ConfigError: the database cannot be used, or the project asks other questions.
            DataError: fewer than `least` judgments are there.
        """
        comparisons = list({one.id: one for one, _ in asks}.values())
        dimensions = tuple(dict.fromkeys(dimension for _, dimension in asks))
        url = self.database or str(run.directory.parent / DATABASE)
        said = self._said(run, url, comparisons, dimensions, raters_per_comparison)
        count = sum(map(len, said.values()))
        if count < self.min_judgments:
            raise DataError(
                f"project {self.project} in {_shown(url)} has {count} judgments of these questions, {self.min_judgments} are needed. "
                f"Judge more: {_command(url)}"
            )
        answered = [(ask, said[ask[0].id, ask[1]]) for ask in asks if (ask[0].id, ask[1]) in said]
        return answered, {"people": {"project": self.project, "unanswered": len(asks) - len(answered)}}

    def _said(
        self, run: Run, url: str, comparisons: Sequence[Comparison], dimensions: tuple[str, ...], raters_per_comparison: int
    ) -> Mapping[tuple[str, str], list[Judgment]]:
        """Judgments by comparison and dimension."""
        from palate.ratings import Candidate, Item, open_ratings

        ratings = open_ratings(url, create=True)
        try:
            project = self._project(ratings, dimensions, raters_per_comparison)
            items = [
                Item(
                    comparison.prompt.conversation,
                    tuple(Candidate(one.text, policy=one.policy) for one in comparison.completions),
                    fields={COMPARISON: comparison.id},
                )
                for comparison in comparisons
            ]
            ratings.add_items(project.id, items, time.time())
            if self.wait:
                self._wait(run, url, lambda: ratings.progress(project.id, time.time()))
            asked, said = ratings.as_comparisons(project.id, overruled=True)
        finally:
            ratings.close()
        names = {one.id: str(one.prompt.fields.get(COMPARISON, "")) for one in asked}
        wanted = {comparison.id for comparison in comparisons}
        found: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
        for judgment in said:
            name = names[judgment.comparison]
            if name in wanted and judgment.dimension in dimensions:
                found[name, judgment.dimension].append(replace(judgment, comparison=name))
        return found

    def _project(self, ratings: Ratings, dimensions: tuple[str, ...], raters_per_comparison: int) -> Project:
        """The project of the setting's name, made with guidelines where there is none."""
        from palate.ratings import Project, Task

        found = next((project for project in ratings.projects() if project.name == self.project), None)
        if found is None:
            made = Project(self.project, Task(dimensions=dimensions), overlap=raters_per_comparison, queue=self.queue)
            found = ratings.add_project(made, time.time())
            ratings.set_guideline(found.id, guideline(dimensions), time.time())
        if found.task.kind not in {"compare", "rank"} or not set(dimensions) <= set(found.task.dimensions):
            raise ConfigError(
                f"from.project: {self.project} asks about {', '.join(found.task.dimensions)} (task {found.task.kind}), "
                f"not about {', '.join(dimensions)}: name another project, or set dimensions to what it asks"
            )
        return found

    def _wait(self, run: Run, url: str, look: Callable[[], Progress]) -> None:
        """Nothing; returns once every item has its answers."""
        progress = look()
        if progress.complete >= progress.items:
            return
        Console(highlight=False, soft_wrap=True).print(
            f"{progress.items - progress.complete} pairs wait for people in project {self.project!r}. Where no page is open yet, type "
            f"in another terminal:\n\n    {_command(url)}\n\nCtrl-C ends the waiting, not what was judged: the same command goes on.",
            markup=False,
        )
        with run.progress(progress.wanted, "judged by people") as advance:
            before = 0
            while True:
                aside = f", {progress.flagged} flagged (remove them on the page Review, or let others judge)" if progress.flagged else ""
                advance(progress.judgments - before, f"{progress.raters} raters, {progress.open} at work{aside}")
                before = progress.judgments
                if progress.complete >= progress.items:
                    return
                again = time.monotonic() + self.poll_seconds
                while (left := again - time.monotonic()) > 0:
                    run.check_stop()
                    time.sleep(min(left, LOOK_SECONDS))
                progress = look()


def guideline(dimensions: Sequence[str]) -> str:
    """Guidelines for newcomers, in Markdown: what is compared, on which dimensions, what a tie means, and when to pass."""
    asked = "\n".join(
        f"- **{dimension}**: {MEANINGS.get(dimension, f'which of the two is the more {dimension}')}" for dimension in dimensions
    )
    several = "Judge each by itself: an answer can win on one and lose on another.\n\n" if len(dimensions) > 1 else ""
    return (
        "## What you compare\n\n"
        "Two answers to the same message. Read the message, then both answers to their end, then choose the better one. Which of them "
        "stands first is drawn by lot, and neither length nor a confident tone is a merit.\n\n"
        f"## What better means\n\n{asked}\n\n{several}"
        "## Ties\n\n"
        "*Level* means: you have read both, and would not mind which of them you got. It is an answer like any other. It does not mean "
        "that you are unsure or short of time; where you lean to one side, even slightly, choose that side.\n\n"
        "## When not to answer\n\n"
        "*Skip* what you cannot judge, and it goes to someone else. *Flag* what is broken, shows somebody's personal data, or is hard to "
        "bear. There is no hurry, and your last answer can be taken back.\n"
    )


def asked_at(place: str) -> tuple[str, str] | None:
    """Database and project of the run of `collect` from people that `place` is, or is a file of; None where it is anything else."""
    path = Path(place)
    directory = path if path.is_dir() else path.parent
    record = read_record(directory)
    told = None if record is None or record.stage != "collect" else record.config.get("from")
    if not isinstance(told, Mapping) or told.get("kind") != "people":
        return None
    return str(told["database"] or directory.resolve().parent / DATABASE), str(told["project"])


def _command(url: str) -> str:
    return f"palate label --ratings {shlex.quote(_shown(url))}"


def _shown(url: str) -> str:
    """The database's address without its password."""
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True) if "://" in url else url
