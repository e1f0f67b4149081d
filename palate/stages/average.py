"""Stage `average`: average the weights of models that were tuned from one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.config.artifacts import model_at
from palate.config.types import Amount, ModelInput
from palate.core import ConfigError, ModelError
from palate.models.causal import CausalPolicy
from palate.models.load import load_policy
from palate.models.transformers_io import on_cpu
from palate.runs.run import Run
from palate.training.model_io import keep_model


@dataclass(frozen=True)
class Average:
    """Average the weights of models that were tuned from one another.

    A policy averaged with the model it was tuned from keeps most of what tuning gained, and forgets less of everything else
     (Lin et al. 2024; Wortsman et al. 2022).

    Attributes:
        models: policies of one architecture and one vocabulary; the result has the first one's tokenizer and settings.
        weights: the weight of each model, divided by their sum; none gives all the same weight.
    """

    models: tuple[ModelInput, ...]
    weights: tuple[Amount, ...] | None = None

    def check(self) -> None:
        """Raise ConfigError when there is nothing to average, or not one weight per model."""
        if len(self.models) < 2:
            raise ConfigError(f"models must name at least 2 models to average, got {len(self.models)}")
        if self.weights is not None and len(self.weights) != len(self.models):
            raise ConfigError(f"weights must hold one number per model: {len(self.models)} models, {len(self.weights)} weights")

    def run(self, run: Run) -> None:
        """Write the averaged model as `model/`, and each model's distance from it to the summary."""
        policies = [load_policy(model_at(path)) for path in self.models]
        for path, policy in zip(self.models[1:], policies[1:], strict=True):
            _check_shapes(self.models[0], policies[0], path, policy)
        weights = self.weights or (1.0,) * len(policies)
        states = [on_cpu(policy.module) for policy in policies]
        mean = {name: _mean([state[name] for state in states], weights) for name in states[0]}
        distances = [math.sqrt(sum(float((state[name].double() - mean[name]).square().sum()) for name in mean)) for state in states]
        policies[0].load_state_dict(mean)
        keep_model(run, policies[0], None)
        run.summary({"weights": [w / sum(weights) for w in weights], "distance": distances})


def _mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean, computed in float64; of whole numbers, the first tensor."""
    first = tensors[0]
    if not first.is_floating_point():
        return first
    total = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        total.add_(tensor, alpha=weight)
    return total.div_(sum(weights)).to(first.dtype)


def _check_shapes(first_path: str, first: CausalPolicy, path: str, policy: CausalPolicy) -> None:
    if policy.tokenizer.get_vocab() != first.tokenizer.get_vocab():
        raise ModelError(f"{path} and {first_path} have different vocabularies: only models tuned from one another can be averaged")
    first_shapes, shapes = ({name: tuple(p.shape) for name, p in model.state_dict().items()} for model in (first, policy))
    differing = sorted(name for name in first_shapes.keys() | shapes.keys() if first_shapes.get(name) != shapes.get(name))
    if differing:
        name = differing[0]
        raise ModelError(
            f"{path} and {first_path} differ in {len(differing)} weights, the first being {name}: {shapes.get(name, 'none')} against "
            f"{first_shapes.get(name, 'none')}. Only models tuned from one another can be averaged"
        )
