"""Stage `average`: average the weights of models that were tuned from one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.config.artifacts import model_at, models_at
from palate.config.types import Amount, ModelInput
from palate.core import ConfigError, ModelError
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data
from palate.data.formats import RECOGNISED, read_preferences
from palate.data.jsonl import write_rows
from palate.evaluation.reward_model import assess, assess_sources, card_of, normalisation_of, predictions, reference_samples
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.reward_file import RewardFile, dimensions_of
from palate.models.scalar import ScalarModel, load_scalar
from palate.models.transformers_io import on_cpu
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.training.comparisons import judged_prompts
from palate.training.model_io import keep_model, token_limit
from palate.training.source_losses import told_apart

Averaged = CausalPolicy | ScalarModel


@dataclass(frozen=True)
class Average:
    """Average the weights of models that were tuned from one another.

    A policy averaged with the model it was tuned from keeps most of what tuning gained, and forgets less of everything else
    (Lin et al. 2024; Wortsman et al. 2022). Reward models that were tuned from one policy, with the same first heads, become one that costs
    no more than a member (WARM, Rame et al. 2024).

    Attributes:
        models: policies, or reward models, of one architecture and one vocabulary; a run that trained an ensemble means its members. The
            result has the first one's tokenizer and settings.
        weights: the weight of each model, divided by their sum; none gives all the same weight.
        reference_samples: completions on which the scores of averaged reward models get mean 0 and deviation 1. Policies need none.
        held_out: judgments that test averaged reward models, for their report card; none leaves their quality unknown.
    """

    models: tuple[ModelInput, ...]
    weights: tuple[Amount, ...] | None = None
    reference_samples: DataInput | None = None
    held_out: DataInput | None = None

    def check(self) -> None:
        """Raise ConfigError when there is nothing to average."""
        check_unweighted(self.reference_samples, self.held_out)
        if not self.models:
            raise ConfigError("models must name models to average, got none")

    def run(self, run: Run) -> None:
        """Write the averaged model as `model/`, and each model's distance from it to the summary.

        Raises:
            ConfigError: there is one model, or not one weight per model; or reward models have no reference samples, or policies have them.
            ModelError: the models are not alike.
        """
        paths = [member for path in self.models for member in models_at(path)]
        if len(paths) < 2:
            raise ConfigError(f"models must name at least 2 models to average, got {len(paths)}")
        if self.weights is not None and len(self.weights) != len(paths):
            raise ConfigError(f"weights must hold one number per model: {len(paths)} models, {len(self.weights)} weights")
        models = [_load(path) for path in paths]
        for path, model in zip(paths[1:], models[1:], strict=True):
            _check_alike(paths[0], models[0], path, model)
        weights = self.weights or (1.0,) * len(models)
        states = [on_cpu(model.module) for model in models]
        mean = {name: _mean([state[name] for state in states], weights) for name in states[0]}
        distances = [math.sqrt(sum(float((state[name].double() - mean[name]).square().sum()) for name in mean)) for state in states]
        first = models[0]
        first.load_state_dict(mean)
        tested = self._measured(run, first) if isinstance(first, ScalarModel) else self._kept(run, first)
        run.summary({"weights": [w / sum(weights) for w in weights], "distance": distances, **tested})

    def _kept(self, run: Run, policy: CausalPolicy) -> dict[str, object]:
        """Write the policy; return no figures."""
        if self.reference_samples is not None or self.held_out is not None:
            raise ConfigError("reference_samples and held_out are for reward models, and these are policies. Leave them out")
        keep_model(run, policy, None)
        return {}

    def _measured(self, run: Run, model: ScalarModel) -> dict[str, object]:
        """Give the scores of an averaged reward model their scale, test it, write it, and return its figures.

        Averaged weights do not give averaged scores, so neither scale nor accuracy follow from those of the models.
        """
        if self.reference_samples is None:
            raise ConfigError("averaged reward models have a scale of their own: name completions of the policy in reference_samples")
        reward = LearnedReward(model)
        _, trees = reference_samples(run, self.reference_samples, reward)
        raw = (reward.score_trees(trees) - torch.tensor(model.normalisation.bias)) / torch.tensor(model.normalisation.gain)
        model.normalisation, spread = normalisation_of(raw, model.normalisation.members)
        directory = keep_model(run, model, None)
        if self.held_out is None:
            return {"spread": spread}
        table, name = read_data(self.held_out, "held_out.jsonl", read_preferences, None, RECOGNISED), data_name(self.held_out)
        judged, dropped = judged_prompts(table.rows, model.tokenizer, token_limit(model))
        run.dropped(name, [*(row.kind for row in table.dropped), *dropped])
        dimensions = dimensions_of(model.heads, model.normalisation.members)
        rows = predictions(model, told_apart(judged), dimensions)
        if not rows:
            raise ConfigError(f"held_out: {name} judges none of the dimensions {', '.join(dimensions)}. Name other judgments")
        write_rows(run.directory / "predictions.jsonl", rows)
        figures = assess(rows)
        card_of(figures["overall"], spread).write(directory)
        return {"spread": spread, "held_out": figures, **assess_sources(rows)}


def _load(path: str) -> Averaged:
    """Return the reward model or the policy at a path."""
    directory = model_at(path)
    return load_policy(directory) if RewardFile.read(directory) is None else load_scalar(directory)


def _mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean, computed in float64; of whole numbers, the first tensor."""
    first = tensors[0]
    if not first.is_floating_point():
        return first
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        total.add_(tensor, alpha=weight)
    return total.div_(sum(weights)).to(first.dtype)


def _check_alike(first_path: str, first: Averaged, path: str, model: Averaged) -> None:
    """Raise ModelError where two models are not of one kind, one vocabulary, the same heads and the same shapes."""
    if isinstance(first, ScalarModel) != isinstance(model, ScalarModel):
        kinds = ["a reward model" if isinstance(one, ScalarModel) else "a policy" for one in (first, model)]
        raise ModelError(f"{first_path} is {kinds[0]}, and {path} is {kinds[1]}: only models of one kind can be averaged")
    if model.tokenizer.get_vocab() != first.tokenizer.get_vocab():
        raise ModelError(f"{path} and {first_path} have different vocabularies: only models tuned from one another can be averaged")
    if isinstance(first, ScalarModel) and isinstance(model, ScalarModel) and first.heads != model.heads:
        raise ModelError(
            f"{path} has the heads {', '.join(model.heads)}, and {first_path} has {', '.join(first.heads)}. Average models with one set"
        )
    first_shapes, shapes = ({name: tuple(p.shape) for name, p in one.state_dict().items()} for one in (first, model))
    differing = sorted(name for name in first_shapes.keys() | shapes.keys() if first_shapes.get(name) != shapes.get(name))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{path} and {first_path} differ in {len(differing)} weights, the first being {name}: {shapes.get(name, 'none')} against "
            f"{first_shapes.get(name, 'none')}. Only models tuned from one another can be averaged"
        )
