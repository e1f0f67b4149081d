"""A learned reward model as a scorer, and the report card of its quality."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.config.artifacts import model_at
from palate.core import Completion, DataError, ModelError, Prompt, TrainingError
from palate.distributed.sharing import microbatches, shared
from palate.distributed.windows import windows
from palate.models.four_bit import FourBit
from palate.models.precision import DType
from palate.models.reward_file import RULE_HEAD, not_a_reward
from palate.models.scalar import ScalarModel, load_scalar
from palate.models.shared_layers import sharing_out
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree, pack
from palate.text.spans import NO_LIMIT, preference_tree
from palate.text.template import Unusable
from palate.text.tokens import tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CARD = "report_card.json"


@dataclass(frozen=True)
class ReportCard:
    """What is known about a reward model's quality: written beside its weights, read before a stage relies on it.

    Attributes:
        accuracy: on held-out judgments; a tie counts one half.
        judgments: number of held-out judgments that the accuracy was measured on.
        spread: standard deviation of raw scores on the reference policy's samples, in logits.
        length_rule: accuracy of the better of "longer wins" and "shorter wins" on the same judgments.
        over_length_low: lower end of the interval of `accuracy - length_rule`, paired by judgment; None where it was not measured.
    """

    accuracy: float
    judgments: int
    spread: float
    length_rule: float
    over_length_low: float | None = None

    def write(self, directory: Path) -> None:
        """Write the report card to a model directory."""
        (directory / CARD).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read_from(directory: str) -> ReportCard | None:
        """Return the report card in a model directory, or None where there is none. Raises ModelError where it cannot be read."""
        path = Path(directory) / CARD
        if not path.exists():
            return None
        try:
            card = ReportCard(**json.loads(path.read_text()))
            figures = [float(value) for value in vars(card).values() if value is not None]
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path} cannot be read ({error}). Write it again with `palate reward-check MODEL PAIRS --card`") from error
        if not all(map(math.isfinite, figures)):
            raise ModelError(
                f"{path} has a figure that is not a finite number. Write it again with `palate reward-check MODEL PAIRS --card`"
            )
        return card

    def check(self, min_accuracy: float, min_spread: float) -> None:
        """Refuse a reward model that is near chance, not better than a length rule, or nearly constant.

        Standardising the scores of such a model would amplify noise, and a policy trained on it would learn a length.

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
        gain = self.accuracy - self.length_rule
        lowest = gain if self.over_length_low is None else self.over_length_low
        if lowest <= 0:
            interval = "" if self.over_length_low is None else f", and the interval of the difference begins at {lowest:+.3f}"
            raise TrainingError(
                f"the reward model is not better than a rule that looks at the length alone: accuracy {self.accuracy:.3f} against "
                f"{self.length_rule:.3f} on {self.judgments} held-out judgments{interval}. A policy trained on it would learn a length. "
                "Collect more judgments, or pairs of equal length; min_accuracy 0 accepts any reward model"
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


MAX_UNSCORED = 0.5
"""Largest share of completions without a score; with more, what is left would not stand for the whole."""
PRODUCT = 1 << 28
"""Tokens times squared hidden size of a batch that is scored."""


def tokens_at_once(hidden_size: int) -> int:
    """Return the tokens of a batch that is scored: a wider model reaches full speed with fewer, and more would only cost memory."""
    return min(16_384, max(1024, PRODUCT // hidden_size**2))


class LearnedReward:
    """A reward model as a scorer: the sum of its normalised heads has mean 0 and standard deviation 1 on reference samples.

    Every stage scores through `table`, `score` or `scores_of`. They take token ids only from a tokenizer like the model's own, and give a
    reason in place of a score where a completion is longer than the model takes.
    """

    def __init__(self, model: ScalarModel, sampled_with: PreTrainedTokenizerBase | None = None) -> None:
        """Take the model, and the tokenizer that the completions' ids come from; with None only texts are scored."""
        self.model = model
        self.takes_ids = sampled_with is not None and tokenizer_digest(model.tokenizer) == tokenizer_digest(sampled_with)
        """Whether completions are scored by their own ids. Otherwise their texts are, in the model's own tokens."""
        self.used: Callable[[], AbstractContextManager[None]] = nullcontext
        """A context in which the model can compute, where its weights lie elsewhere meanwhile."""
        self._tokens = tokens_at_once(model.module.config.get_text_config().hidden_size)

    @staticmethod
    def load(
        path: str,
        sampled_with: PreTrainedTokenizerBase | None = None,
        *,
        merge_adapter: bool = True,
        dtype: DType = "float32",
        four_bit: FourBit | None = None,
    ) -> LearnedReward:
        """Load the reward model in a directory, with frozen weights, which ranks share out where the stage does that.

        Args:
            path: the directory.
            sampled_with: the tokenizer that the completions' ids come from; None where only texts are known.
            merge_adapter: whether an adapter is merged into its base, or stays beside it.
            dtype: the type that the model computes in.
            four_bit: how the base of an adapter that stays beside it is quantised; None leaves it as it is.
        """
        with sharing_out(windows(), learns=False):
            model = load_scalar(path, dtype=dtype, merge_adapter=merge_adapter, four_bit=four_bit)
        model.module.requires_grad_(requires_grad=False)
        return LearnedReward(model, sampled_with)

    @property
    def reads_rules(self) -> bool:
        """Whether the model is a classifier of rules."""
        return self.model.heads == (RULE_HEAD,)

    def require_no_rules(self, path: str) -> None:
        """Refuse a classifier of rules where a reward model is needed: without a question its head says nothing, and high is bad.

        Raises:
            ModelError: it is one; the message calls it by `path`.
        """
        if self.reads_rules:
            raise not_a_reward(path)

    def score_trees(self, trees: Sequence[Tree]) -> Tensor:
        """Return normalised scores (b, h) of all branches, trees in order, branches in order; trees are in the model's own tokens."""
        return self._of_branches(trees, len(self.model.heads), lambda batch: self.model.normalised(self.model.scores(batch)))

    def states(self, trees: Sequence[Tree]) -> Tensor:
        """Return what the heads read of each branch, in the same order: see `ScalarModel.states`."""
        return self._of_branches(trees, self.model.head_weights.shape[1], self.model.states)

    def _of_branches(self, trees: Sequence[Tree], width: int, measure: Callable[[PackedBatch], Tensor]) -> Tensor:
        """Return `measure` (b, width) of all branches, trees in order, branches in order."""
        sizes = [len(tree.branches) for tree in trees]
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        values = torch.empty(sum(sizes), width)
        parts = microbatches(trees, self._tokens)
        with self.used(), torch.inference_mode():
            measured = shared(parts, lambda part: measure(pack([trees[k] for k in part], self._tokens)).float())
        for part, of_part in zip(parts, measured, strict=True):
            values[torch.cat([torch.arange(starts[k], starts[k] + sizes[k]) for k in part])] = of_part
        return values

    def table(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]], sampled: Sequence[Tree] | None = None
    ) -> tuple[Tensor, dict[int, str]]:
        """Return normalised scores (b, h) of all completions in order, NaN where there is none, and the reasons by number.

        `sampled` are the completions' tokens as trees, one per prompt; they are used where the model takes ids.
        """
        self.require_no_rules("the model")
        sizes = [len(group) for group in completions]
        scores = torch.full((sum(sizes), len(self.model.heads)), float("nan"))
        reasons: dict[int, str] = {}
        trees, rows, start = [], [], 0
        for k, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
            numbers = range(start, start + len(group))
            start += len(group)
            try:
                tree = sampled[k] if sampled is not None and self.takes_ids else self.tree(prompt, group, NO_LIMIT)
            except Unusable as error:
                reasons |= dict.fromkeys(numbers, error.reason)
                continue
            limit = self.model.max_tokens or NO_LIMIT
            lengths = [len(tree.trunk) + len(branch.ids) for branch in tree.branches]
            reasons |= {
                row: f"too long for the reward model: {n} tokens, it takes {limit}"
                for row, n in zip(numbers, lengths, strict=True)
                if n > limit
            }
            fitting = [j for j, n in enumerate(lengths) if n <= limit]
            if fitting:
                trees.append(Tree(tree.trunk, tuple(tree.branches[j] for j in fitting)))
                rows += [numbers[j] for j in fitting]
        if rows:
            scores[rows] = self.score_trees(trees)
        reasons |= {row: "the model gave no finite number" for row in rows if not scores[row].isfinite().all()}
        scores[sorted(reasons)] = float("nan")
        return scores, reasons

    def score(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]) -> Mapping[str, list[list[float | None]]]:
        """Return scores by head, and their sum under `score`: a list per prompt of one number per completion.

        None stands where there is no score. A head called `score` gives way to the sum.
        """
        table, reasons = self.table(prompts, completions)
        columns = {**{name: table[:, k] for k, name in enumerate(self.model.heads)}, "score": table.sum(1)}
        result: dict[str, list[list[float | None]]] = {}
        for name, column in columns.items():
            values = [None if k in reasons else value for k, value in enumerate(column.tolist())]
            ends = list(accumulate(map(len, completions)))
            result[name] = [values[end - len(group) : end] for end, group in zip(ends, completions, strict=True)]
        return result

    def scores_of(
        self, run: Run, path: str, prompts: Sequence[Prompt], completions: Sequence[Sequence[Completion]]
    ) -> list[list[float | None]]:
        """Return the sum of the heads per prompt and completion, None where there is none; record the reasons in the run.

        Raises:
            DataError: more than half of the completions have no score. The message names the reward model by `path`.
        """
        table, reasons = self.table(prompts, completions)
        if len(reasons) > MAX_UNSCORED * len(table):
            first = "; ".join(list(dict.fromkeys(reasons.values()))[:3])
            raise DataError(
                f"the reward model {path} cannot score {len(reasons)} of {len(table)} completions: {first}. Use a reward model with a "
                "longer context, or lower sampling.max_tokens"
            )
        if reasons:
            run.dropped(f"completions without a score by {path}", [reason.split(":")[0] for reason in reasons.values()])
        values = [None if k in reasons else value for k, value in enumerate(table.sum(1).tolist())]
        ends = accumulate(map(len, completions))
        return [values[end - len(group) : end] for end, group in zip(ends, completions, strict=True)]

    def tree(self, prompt: Prompt, completions: Sequence[Completion], limit: int | None = None) -> Tree:
        """Return the tokens to score: the completions' own ids if they are this model's tokens, otherwise those of their texts.

        Raises:
            Unusable: prompt and longest completion exceed `limit` tokens, by default the model's own limit.
        """
        return preference_tree(self.model.tokenizer, prompt.conversation, completions, limit or self.model.max_tokens or NO_LIMIT)
