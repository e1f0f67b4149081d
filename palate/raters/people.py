"""People as the rater of stage `collect`: questions go to a rating server's database, and answers come back from it."""

from __future__ import annotations

import random
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from palate.config.types import Count
from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.raters.rater import Answered, Ask, refuse_rankings
from palate.runs.console import Console
from palate.runs.record import read_record
from palate.runs.run import Run

if TYPE_CHECKING:
    from palate.data.exchange import Exchange
    from palate.ratings import Progress, Project, Ratings

COMPARISON = "comparison"
"""The field of an item that holds the id of the comparison that first asked it, for people to read."""

DATABASE = "ratings.db"
"""Name of the database in the folder of runs."""

STOP_CHECK_SECONDS = 0.2
"""Seconds between two checks for Ctrl-C while waiting."""

MEANINGS = {
    "overall": "all in all, the answer you would rather be given",
    "helpful": "does what was asked, all of it, without detours",
    "honest": "says what is true, says what it does not know, and promises nothing that it cannot keep",
    "harmless": "does nobody harm: it holds back what is dangerous, and nothing else",
}
"""The usual dimensions as guidelines explain them."""


@dataclass(frozen=True)
class People:
    """People who answer on the pages of `palate label`.

    Attributes:
        database: a path, or postgresql+psycopg://user@host/name; a new database is created. By default `ratings.db` in the folder of runs.
        project: name of the project; a new one is created, in which `raters_per_comparison` raters answer each question.
        queue: order of questions in a new project: random, or uncertain to ask first where reward models that were trained on its
            judgments disagree. A third stays random.
        wait: wait until every question has its answers; false takes the answers that are there.
        min_judgments: fewest judgments to continue with.
        poll_seconds: seconds between two looks at the database.
    """

    kind: Literal["people"] = "people"
    database: str | None = None
    project: str = "comparisons"
    queue: Literal["random", "uncertain"] = "random"
    wait: bool = True
    min_judgments: Count = 1
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.poll_seconds > 0:
            raise ConfigError(f"poll_seconds must be above 0, got {self.poll_seconds}")

    def check(self, raters_per_comparison: int, dimensions: Sequence[str], completions: int = 2) -> None:  # noqa: ARG002
        """Raise ConfigError for rankings, which people make in projects of their own. How many people will come is unknown."""
        refuse_rankings("people", completions)

    def answers(
        self,
        run: Run,
        asks: Sequence[Ask],
        raters_per_comparison: int,
        rng: random.Random,  # noqa: ARG002 (the protocol has it)
    ) -> tuple[list[Answered], dict[str, object]]:
        """Return the questions that people answered, and `people`: the project, and what is without an answer or was not asked here.

        Questions that the project does not have yet are added. An answer belongs to the question with the same conversation and the same
        texts, in whatever order and under whatever id. Waiting can be interrupted, because the answers are in the database.

        Raises:
            ConfigError: the database cannot be used, or the project asks other questions.
            DataError: there are fewer than `min_judgments` judgments.
        """
        comparisons = list({comparison.id: comparison for comparison, _ in asks}.values())
        dimensions = tuple(dict.fromkeys(dimension for _, dimension in asks))
        url = self.database or str(run.directory.parent / DATABASE)
        judgments, others = self._judgments(run, url, comparisons, dimensions, raters_per_comparison)
        count = sum(map(len, judgments.values()))
        if count < self.min_judgments:
            besides = f" (and {others} of other texts, which do not count here)" if others else ""
            raise DataError(
                f"project {self.project} in {_without_password(url)} has {count} judgments of these questions{besides}; "
                f"{self.min_judgments} are needed. Judge more: {_command(url)}"
            )
        answered = [
            ((comparison, dimension), judgments[comparison.id, dimension])
            for comparison, dimension in asks
            if (comparison.id, dimension) in judgments
        ]
        return answered, {"people": {"project": self.project, "unanswered": len(asks) - len(answered), "judgments_of_other_texts": others}}

    def _judgments(
        self, run: Run, url: str, comparisons: Sequence[Comparison], dimensions: tuple[str, ...], raters_per_comparison: int
    ) -> tuple[Mapping[tuple[str, str], list[Judgment]], int]:
        """Ask the questions and wait if that is set. Return the judgments by comparison and dimension, and how many are of other texts."""
        from palate.ratings import Candidate, Item, open_ratings

        ratings = open_ratings(url, create=True)
        try:
            project = self._project(ratings, dimensions, raters_per_comparison)
            items = [
                Item(
                    comparison.prompt.conversation,
                    tuple(Candidate(one.text, policy=one.policy, tool_fields=one.tool_fields) for one in comparison.completions),
                    fields={COMPARISON: comparison.id},
                )
                for comparison in comparisons
            ]
            ratings.add_items(project.id, items, time.time())
            self._wait(run, url, lambda: ratings.progress(project.id, time.time()))
            items_asked, answers = ratings.as_comparisons(project.id, overruled=True)
        finally:
            ratings.close()
        wanted = {question_of(comparison): comparison for comparison in reversed(comparisons)}
        seen = {item.id: item for item in items_asked}
        judgments: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
        others = 0
        for judgment in answers:
            item = seen[judgment.comparison]
            mine = wanted.get(question_of(item))
            if mine is None:
                others += 1
            elif judgment.dimension in dimensions:
                numbers = tuple(texts_of(mine).index(text) for text in texts_of(item))
                judgments[mine.id, judgment.dimension].append(judgment.renumbered(mine.id, numbers))
        return judgments, others

    def answers_about(self, run: Run, asked: Exchange) -> Exchange:
        """Add questions to the project, wait if that is set, and return everything that the project holds then.

        Raises:
            ConfigError: the database cannot be used.
            DataError: the project asks other questions.
        """
        from palate.ratings import open_ratings

        url = self.database or str(run.directory.parent / DATABASE)
        ratings = open_ratings(url, create=True)
        try:
            project = ratings.import_exchange(asked, self.project, time.time()).project
            self._wait(run, url, lambda: ratings.progress(project.id, time.time()))
            return ratings.as_exchange(project.id)
        finally:
            ratings.close()

    def _project(self, ratings: Ratings, dimensions: tuple[str, ...], raters_per_comparison: int) -> Project:
        """Return the project of that name; create it with guidelines where there is none."""
        from palate.ratings import Project, Task

        project = next((project for project in ratings.projects() if project.name == self.project), None)
        if project is None:
            new = Project(self.project, Task(dimensions=dimensions), overlap=raters_per_comparison, queue=self.queue)
            project = ratings.add_project(new, time.time())
            ratings.set_guideline(project.id, guideline(dimensions), time.time())
        if project.task.kind not in {"compare", "rank"} or not set(dimensions) <= set(project.task.dimensions):
            raise ConfigError(
                f"from.project: {self.project} asks about {', '.join(project.task.dimensions)} (task {project.task.kind}), "
                f"not about {', '.join(dimensions)}; name another project, or set dimensions to what it asks"
            )
        return project

    def _wait(self, run: Run, url: str, read_progress: Callable[[], Progress]) -> None:
        """Return once every item has its answers; at once where that is not wanted."""
        if not self.wait:
            return
        progress = read_progress()
        if progress.complete >= progress.items:
            return
        Console(highlight=False, soft_wrap=True).print(
            f"{progress.items - progress.complete} questions wait for people in project {self.project!r}. If no page is open yet, type "
            f"in another terminal:\n\n    {_command(url)}\n\nCtrl-C ends the waiting and loses no judgment; the same command continues.",
            markup=False,
        )
        with run.progress(progress.wanted, "judged by people", of_people=True) as advance:
            before = 0
            while True:
                flagged = f", {progress.flagged} flagged (remove them on the page Review, or let others judge)" if progress.flagged else ""
                advance(progress.judgments - before, f"{progress.raters} raters, {progress.open} at work{flagged}")
                before = progress.judgments
                if progress.complete >= progress.items:
                    return
                next_poll = time.monotonic() + self.poll_seconds
                while (left := next_poll - time.monotonic()) > 0:
                    run.check_stop()
                    time.sleep(min(left, STOP_CHECK_SECONDS))
                progress = read_progress()


def texts_of(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what raters read of each completion: its text, and the tools that it calls."""
    return [(completion.text, completion.tool_fields) for completion in comparison.completions]


def question_of(comparison: Comparison) -> Hashable:
    """Return what raters are asked: the conversation, and the completions in any order. Equal questions have equal answers."""
    return comparison.prompt.conversation, tuple(sorted(texts_of(comparison)))


def guideline(dimensions: Sequence[str]) -> str:
    """Return guidelines for raters, in Markdown: what they compare, on which dimensions, what a tie means, and when to skip."""
    meanings = "\n".join(
        f"- **{dimension}**: {MEANINGS.get(dimension, f'which of the two is the more {dimension}')}" for dimension in dimensions
    )
    several = "Judge each by itself: an answer can win on one and lose on another.\n\n" if len(dimensions) > 1 else ""
    return (
        "## What you compare\n\n"
        "Two answers to the same message. Read the message, then both answers to their end, then choose the better one. Which of them "
        "stands first is drawn by lot, and neither length nor a confident tone is a merit.\n\n"
        f"## What better means\n\n{meanings}\n\n{several}"
        "## Ties\n\n"
        "*Level* means: you have read both, and would not mind which of them you got. It is an answer like any other. It does not mean "
        "that you are unsure or short of time; where you lean to one side, even slightly, choose that side.\n\n"
        "## When not to answer\n\n"
        "*Skip* what you cannot judge, and it goes to someone else. *Flag* what is broken, shows somebody's personal data, or is hard to "
        "bear. There is no hurry, and your last answer can be taken back.\n"
    )


def project_of_run(path: str) -> tuple[str, str] | None:
    """Return database and project of a run of `collect` from people, given its directory or a file in it; otherwise None."""
    directory = Path(path) if Path(path).is_dir() else Path(path).parent
    record = read_record(directory)
    source = None if record is None or record.stage != "collect" else record.config.get("from")
    if not isinstance(source, Mapping) or source.get("kind") != "people":
        return None
    return str(source["database"] or directory.resolve().parent / DATABASE), str(source["project"])


def _command(url: str) -> str:
    return f"palate label --ratings {shlex.quote(_without_password(url))}"


def _without_password(url: str) -> str:
    """Return the database's address without its password."""
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True) if "://" in url else url
