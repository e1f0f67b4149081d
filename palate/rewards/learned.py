"""Scores from a learned reward model: several heads, normalised, added up."""

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
    """What is known of a reward model's quality; written beside its weights, read before anything trusts it.

    Attributes:
        accuracy: on held-out judgments, ties half.
        judgments: how many held-out judgments that was measured on.
        spread: standard deviation of raw scores on the reference policy's samples, in logits.
        length_rule: accuracy of the better of "longer wins" and "shorter wins" on the same judgments.
    """

    accuracy: float
    judgments: int
    spread: float
    length_rule: float

    def write(self, directory: Path) -> None:
        """Writes the card to a model directory."""
        (directory / CARD).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read_from(directory: str) -> ReportCard | None:
        """The card in a model directory, or None where there is none."""
        path = Path(directory) / CARD
        return ReportCard(**json.loads(path.read_text())) if path.exists() else None

    def require_trust(self, accuracy: float, spread: float) -> None:
        """Refuses a reward model that is near chance or nearly constant: standardising its scores would amplify noise.

        Raises:
            TrainingError: names the figure that is too low, and what to do.
        """
        if accuracy <= 0:
            return  # the caller trusts it all the same, in so many words
        margin = 1.96 * (self.accuracy * (1 - self.accuracy) / max(self.judgments, 1)) ** 0.5
        if self.accuracy - margin < 0.5 or self.accuracy < accuracy:
            raise TrainingError(
                f"the reward model is near chance: accuracy {self.accuracy:.3f} +- {margin:.3f} on {self.judgments} held-out judgments "
                f"(needed: {accuracy}, and 0.5 outside the interval). A policy trained on it would learn noise. Collect more or better "
                "judgments, or look whether the preferences were shuffled or swapped"
            )
        if self.spread < spread:
            raise TrainingError(
                f"the reward model hardly tells completions apart: its scores spread by {self.spread:.4f} logits ({spread} needed). "
                "Standardising such scores amplifies noise. Train it longer or with a higher learning rate"
            )


def required_report_card(run: Run, path: str, accuracy: float, spread: float) -> ReportCard | None:
    """The card of the reward model at `path`; None, and a warning, where it has none and so cannot be checked.

    Raises:
        TrainingError: its accuracy or its spread is too low to be trusted.
    """
    card = ReportCard.read_from(model_at(path))
    if card is not None:
        card.require_trust(accuracy, spread)
    elif not run.is_resumed:
        run.warn(0, {"card": f"{path} has no report_card.json, so nobody knows how good it is: it is taken as it is"}, {})
    return card


PRODUCT = 1 << 28
"""Tokens times squared width of a batch that is scored."""


class LearnedReward:
    """A reward model as a scorer: the sum of its normalised heads has mean 0 and standard deviation 1 on reference samples."""

    def __init__(self, model: ScalarModel) -> None:
        self.model = model
        # The wider the model, the fewer tokens fill its products; more would only cost memory.
        self._tokens = min(16_384, max(1024, PRODUCT // model.module.config.hidden_size**2))

    @staticmethod
    def load(path: str, *, merge_adapter: bool = True) -> LearnedReward:
        """The reward model in a directory; it learns nothing. An adapter is worked into its base, or left beside it."""
        model = load_scalar(path, merge_adapter=merge_adapter)
        model.module.requires_grad_(requires_grad=False)
        return LearnedReward(model)

    def score_trees(self, trees: Sequence[Tree]) -> Tensor:
        """Normalised scores (b, h) of all branches, trees in order, branches in order."""
        return self._of_branches(trees, len(self.model.heads), lambda batch: self.model.normalised(self.model.scores(batch)))

    def states(self, trees: Sequence[Tree]) -> Tensor:
        """What the heads read (b, d) at the end of all branches, in the same order."""
        return self._of_branches(trees, self.model.module.config.hidden_size, self.model.states)

    def _of_branches(self, trees: Sequence[Tree], width: int, of: Callable[[PackedBatch], Tensor]) -> Tensor:
        """(b, width) what `of` says of all branches, trees in order, branches in order."""
        sizes = [len(tree.branches) for tree in trees]
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        found = torch.empty(sum(sizes), width)
        with torch.inference_mode():
            for part in microbatches(trees, self._tokens):
                rows = torch.cat([torch.arange(starts[k], starts[k] + sizes[k]) for k in part])
                found[rows] = of(pack([trees[k] for k in part])).float()
        return found

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]) -> Mapping[str, list[list[float | None]]]:
        """Scores by head name and under `score` their sum: a list per prompt of one number per completion."""
        trees = [self.tree(prompt, group) for prompt, group in zip(prompts, completions, strict=True)]
        table = self.score_trees(trees)
        columns = {"score": table.sum(1), **{name: table[:, k] for k, name in enumerate(self.model.heads)}}
        result: dict[str, list[list[float | None]]] = {}
        for name, column in columns.items():
            values, at = column.tolist(), 0
            result[name] = []
            for tree in trees:
                result[name].append(values[at : at + len(tree.branches)])
                at += len(tree.branches)
        return result

    def tree(self, prompt: Prompt, completions: Sequence[Completion], limit: int | None = None) -> Tree:
        """The tokens to score: the completions' own ids where they have them (same tokenizer: the caller's duty), else their texts.

        Raises:
            Unusable: of texts, when prompt and longest completion exceed `limit` tokens, by default what the model takes.
        """
        if all(completion.ids for completion in completions):
            trunk = prompt_ids(self.model.tokenizer, prompt.conversation)
            return Tree(trunk, tuple(Branch(c.ids, (True,) * len(c.ids)) for c in completions))
        tree = preference_tree(
            self.model.tokenizer, prompt.conversation, [c.text for c in completions], limit or self.model.max_tokens or NO_LIMIT
        )
        return Tree(tree.trunk, tuple(_cut(b) if c.stop == "length" else b for b, c in zip(tree.branches, completions, strict=True)))


def _cut(branch: Branch) -> Branch:
    """A branch without its terminator: a completion that was cut off must not look finished."""
    return Branch(branch.ids[:-1], branch.learned[:-1]) if len(branch.ids) > 1 else branch
