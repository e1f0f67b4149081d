"""A learned reward model as a scorer, and the report card of its quality."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from palate.config.artifacts import model_at
from palate.core import Completion, Prompt, TrainingError
from palate.models.scalar import ScalarModel, load_scalar
from palate.runs.run import Run
from palate.text.pack import Branch, PackedBatch, Tree, microbatches, pack
from palate.text.spans import NO_LIMIT, preference_tree, prompt_ids

CARD = "report_card.json"


@dataclass(frozen=True)
class ReportCard:
    """What is known about a reward model's quality: written beside its weights, read before a stage relies on it.

    Attributes:
        accuracy: on held-out judgments; a tie counts one half.
        judgments: number of held-out judgments that the accuracy was measured on.
        spread: standard deviation of raw scores on the reference policy's samples, in logits.
        length_rule: accuracy of the better of "longer wins" and "shorter wins" on the same judgments.
    """

    accuracy: float
    judgments: int
    spread: float
    length_rule: float

    def write(self, directory: Path) -> None:
        """Write the report card to a model directory."""
        (directory / CARD).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read_from(directory: str) -> ReportCard | None:
        """Return the report card in a model directory, or None where there is none."""
        path = Path(directory) / CARD
        return ReportCard(**json.loads(path.read_text())) if path.exists() else None

    def check(self, min_accuracy: float, min_spread: float) -> None:
        """Refuse a reward model that is near chance or nearly constant, because standardising its scores would amplify noise.

        Args:
            min_accuracy: the accuracy needed; 0 or less accepts any reward model.
            min_spread: the standard deviation of raw scores that is needed, in logits.

        Raises:
            TrainingError: a figure is too low; the message names it, and what to do.
        """
        if min_accuracy <= 0:
            return
        margin = 1.96 * (self.accuracy * (1 - self.accuracy) / max(self.judgments, 1)) ** 0.5
        if self.accuracy - margin < 0.5 or self.accuracy < min_accuracy:
            raise TrainingError(
                f"the reward model is near chance: accuracy {self.accuracy:.3f} +- {margin:.3f} on {self.judgments} held-out judgments "
                f"(needed: {min_accuracy}, and 0.5 outside the interval). A policy trained on it would learn noise. Collect more or better "
                "judgments, or check whether the preferences were shuffled or swapped"
            )
        if self.spread < min_spread:
            raise TrainingError(
                f"the reward model hardly tells completions apart: the standard deviation of its scores is {self.spread:.4f} logits "
                f"({min_spread} needed). Standardising such scores amplifies noise. Train it longer or with a higher learning rate"
            )


def required_report_card(run: Run, path: str, min_accuracy: float, min_spread: float) -> ReportCard | None:
    """Return the report card of the reward model at `path`, checked; without one, log a warning and return None.

    Raises:
        TrainingError: its accuracy or its spread is too low.
    """
    card = ReportCard.read_from(model_at(path))
    if card is not None:
        card.check(min_accuracy, min_spread)
    elif not run.is_resumed:
        run.warn(0, {"card": f"{path} has no report_card.json, so its quality is unknown: it is used without a check"}, {})
    return card


PRODUCT = 1 << 28
"""Tokens times squared hidden size of a batch that is scored."""


class LearnedReward:
    """A reward model as a scorer: the sum of its normalised heads has mean 0 and standard deviation 1 on reference samples."""

    def __init__(self, model: ScalarModel) -> None:
        self.model = model
        # A wider model reaches full speed with fewer tokens; more would only cost memory.
        self._tokens = min(16_384, max(1024, PRODUCT // model.module.config.hidden_size**2))

    @staticmethod
    def load(path: str, *, merge_adapter: bool = True) -> LearnedReward:
        """Load the reward model in a directory, with frozen weights. An adapter is merged into its base, or stays beside it."""
        model = load_scalar(path, merge_adapter=merge_adapter)
        model.module.requires_grad_(requires_grad=False)
        return LearnedReward(model)

    def score_trees(self, trees: Sequence[Tree]) -> Tensor:
        """Return normalised scores (b, h) of all branches, trees in order, branches in order."""
        return self._of_branches(trees, len(self.model.heads), lambda batch: self.model.normalised(self.model.scores(batch)))

    def states(self, trees: Sequence[Tree]) -> Tensor:
        """Return the hidden states (b, d) that the heads read at the end of each branch, in the same order."""
        return self._of_branches(trees, self.model.module.config.hidden_size, self.model.states)

    def _of_branches(self, trees: Sequence[Tree], width: int, measure: Callable[[PackedBatch], Tensor]) -> Tensor:
        """Return `measure` (b, width) of all branches, trees in order, branches in order."""
        sizes = [len(tree.branches) for tree in trees]
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        values = torch.empty(sum(sizes), width)
        with torch.inference_mode():
            for part in microbatches(trees, self._tokens):
                rows = torch.cat([torch.arange(starts[k], starts[k] + sizes[k]) for k in part])
                values[rows] = measure(pack([trees[k] for k in part])).float()
        return values

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]) -> Mapping[str, list[list[float | None]]]:
        """Return scores by head, and their sum under `score`: a list per prompt of one number per completion."""
        trees = [self.tree(prompt, group) for prompt, group in zip(prompts, completions, strict=True)]
        table = self.score_trees(trees)
        columns = {"score": table.sum(1), **{name: table[:, k] for k, name in enumerate(self.model.heads)}}
        result: dict[str, list[list[float | None]]] = {}
        for name, column in columns.items():
            values, start = column.tolist(), 0
            result[name] = []
            for tree in trees:
                result[name].append(values[start : start + len(tree.branches)])
                start += len(tree.branches)
        return result

    def tree(self, prompt: Prompt, completions: Sequence[Completion], limit: int | None = None) -> Tree:
        """Return the tokens to score: the completions' own ids where they have them, otherwise those of their texts.

        The caller makes sure that ids come from the same tokenizer.

        Raises:
            Unusable: prompt and longest text exceed `limit` tokens, by default the model's own limit.
        """
        if all(completion.ids for completion in completions):
            trunk = prompt_ids(self.model.tokenizer, prompt.conversation)
            return Tree(trunk, tuple(Branch(c.ids, (True,) * len(c.ids)) for c in completions))
        tree = preference_tree(
            self.model.tokenizer, prompt.conversation, [c.text for c in completions], limit or self.model.max_tokens or NO_LIMIT
        )
        return Tree(tree.trunk, tuple(_cut(b) if c.stop == "length" else b for b, c in zip(tree.branches, completions, strict=True)))


def _cut(branch: Branch) -> Branch:
    """Return a branch without its end token: a completion that was cut off must not look finished."""
    return Branch(branch.ids[:-1], branch.learned[:-1]) if len(branch.ids) > 1 else branch
