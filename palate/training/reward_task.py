"""What stage `reward` learns from, what chooses its weights, and what tests it; and what each member of an ensemble sees of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palate.core import DataError
from palate.models.reward_file import RULE_HEAD, member_heads
from palate.runs.run import Run
from palate.training.bootstrap import Members, bootstrapped, on_shared_trunk
from palate.training.comparisons import JudgedPrompt
from palate.training.reward_batches import RewardBatches


@dataclass(frozen=True)
class RewardTask:
    """Judged prompts, and the heads that learn from them.

    Attributes:
        dimensions: names of the dimensions.
        heads: names of the heads that learn: the dimensions; of members on a shared trunk, those of each member.
        data: what the objective uses: first the prompts that train, then those that choose the weights.
        count: how many prompts train.
        judged: all prompts that train, also those that the objective cannot use.
        test: prompts that test.
    """

    dimensions: tuple[str, ...]
    heads: tuple[str, ...]
    data: RewardBatches
    count: int
    judged: Sequence[JudgedPrompt]
    test: Sequence[JudgedPrompt]

    @property
    def training(self) -> range:
        """Numbers of the prompts that train."""
        return range(self.count)

    @property
    def choosing(self) -> list[int]:
        """Numbers of the prompts that choose the weights."""
        return list(range(self.count, len(self.data.judged)))

    @property
    def preferences(self) -> int:
        """How many preferences train."""
        return sum(len(prompt.pairs) for prompt in self.judged)

    @property
    def source_names(self) -> list[str]:
        """The name of the source of each prompt that trains; "" where there is one source alone."""
        return [prompt.source_name for prompt in self.data.judged[: self.count]]

    def of_member(self, members: Members, seed: int) -> RewardTask:
        """Return what a member learns from that has this seed and a trunk of its own."""
        return self._with(bootstrapped(self.data.judged[: self.count], members, seed), self.data.judged[self.count :])

    def of_shared_trunk(self, members: Members, seed: int) -> RewardTask:
        """Return what one model learns from that has heads for each member."""
        drawn = on_shared_trunk(self.data.judged[: self.count], self.dimensions, members, seed)
        choosing = on_shared_trunk(self.data.judged[self.count :], self.dimensions, replace(members, bootstrap="none"), seed)
        return replace(self._with(drawn, choosing), heads=member_heads(self.dimensions, members.count))

    def _with(self, training: Sequence[JudgedPrompt], choosing: Sequence[JudgedPrompt]) -> RewardTask:
        return replace(self, data=replace(self.data, judged=[*training, *choosing]), count=len(training))


def check_dimensions(run: Run, dimensions: tuple[str, ...], tests: Sequence[JudgedPrompt], path: str) -> None:
    """Record held-out judgments of dimensions that are not trained on.

    Raises:
        DataError: no held-out judgment is of a dimension that is trained on, two dimensions differ in capital letters alone, or the
            only one has the name by which a classifier of rules is known.
    """
    if alike := [name for k, name in enumerate(dimensions) if name.lower() in map(str.lower, dimensions[:k])]:
        raise DataError(f"the dimensions {', '.join(dimensions)}: {alike[0]} has two spellings. Give all its judgments one of them")
    if dimensions == (RULE_HEAD,):
        raise DataError(f"a reward model of the dimension {RULE_HEAD} alone would pass as a classifier of rules. Rename the dimension")
    tested = [pair.dimension for prompt in tests for pair in prompt.pairs]
    others = [dimension for dimension in tested if dimension not in dimensions]
    if len(others) == len(tested):
        raise DataError(
            f"{path}: the held-out judgments are about {', '.join(dict.fromkeys(others))}, and the model learns {', '.join(dimensions)}. "
            "Hold out judgments of a dimension that is trained on"
        )
    if others:
        run.dropped("held-out judgments", [f"the model does not learn {dimension}" for dimension in others])
