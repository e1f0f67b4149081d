"""Coverage's advice as the order of a rating server's queue: people are asked first about prompts that the judgments miss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palate.core import ConfigError, Conversation
from palate.evaluation.coverage.coverage_report import Deployment
from palate.evaluation.coverage.prompt_reach import PromptReach

if TYPE_CHECKING:
    from palate.ratings import Project, Ratings

UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class QueueAdvice:
    """What became of the open items of a project, which are those without a judgment.

    Attributes:
        project: name of the project.
        ordered: items whose prompts are farther from judged ones than usual. They come first.
        near: items about prompts of the deployment that judged ones reach. They come at random, after the others.
        elsewhere: items about other prompts, which come at random too.
    """

    project: str
    ordered: int
    near: int
    elsewhere: int

    @property
    def sentence(self) -> str:
        """What was done, for a terminal."""
        rest = f"{self.near} are about prompts that judged ones reach, {self.elsewhere} about other prompts; these come at random."
        return f"{self.project}: {self.ordered} of {self.ordered + self.near + self.elsewhere} open items come first. {rest}"


def order_queue(ratings: Ratings, name: str, deployment: Deployment, reach: PromptReach) -> QueueAdvice:
    """Order the queue of a project by how much farther each open item's prompt is from judged ones than usual.

    Former scores of the project, such as those of a reward model, are replaced. Similar prompts do not follow each other, and the project's
    random share stays random.

    Raises:
        ConfigError: there is no such project, its queue takes no order, or none of its open items is about a prompt of the deployment.
    """
    project = _project(ratings, name)
    need = {_texts(prompt.conversation): float(far) for prompt, far in zip(deployment.prompts, reach.need, strict=True)}
    judged = {judgment.comparison for judgment in ratings.as_comparisons(project.id)[1]}
    items = [item for item in ratings.items(project.id) if item.id not in judged and item.gold is None]
    known = [(item.id, need[_texts(item.conversation)]) for item in items if _texts(item.conversation) in need]
    if not known:
        raise ConfigError(
            f"--queue {name}: none of its {len(items)} open items is about a prompt of --prompts. Add items about these prompts with "
            "palate label --items, or name the file of prompts that the items are about."
        )
    rows = [{"item": item, "spread": far} for item, far in known if far > 0]
    ratings.set_scores(project.id, rows)
    return QueueAdvice(name, len(rows), len(known) - len(rows), len(items) - len(known))


def _texts(conversation: Conversation) -> tuple[str, ...]:
    """Return what stands in a conversation. A prompt that is plain text in one place can be a user's turn in another."""
    return tuple(turn.text for turn in conversation)


def _project(ratings: Ratings, name: str) -> Project:
    projects = {project.name: project for project in ratings.projects()}
    if name not in projects:
        raise ConfigError(f"--queue: there is no project {name!r}. Choose one of {', '.join(sorted(projects)) or 'none: make one first'}.")
    if projects[name].queue != UNCERTAIN:
        raise ConfigError(
            f"--queue {name}: its queue is {projects[name].queue}, which takes no order. Make a project with the queue {UNCERTAIN}, on the "
            "page Projects or by --from.queue of collect."
        )
    return projects[name]
