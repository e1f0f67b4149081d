"""The members of an ensemble of reward models: models of their own, adapters on one base, or heads of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.config.artifacts import model_at, models_at
from palate.core import ConfigError
from palate.core.process import WHOLE, shard_now
from palate.models.adapters import is_adapter
from palate.models.load import load_config, load_tokenizer
from palate.models.paths import longest_sequence
from palate.models.reward_file import Normalisation, dimensions_of
from palate.models.shared_weights import share_frozen
from palate.rewards.learned import LearnedReward
from palate.text.tokens import tokenizer_digest


@dataclass(frozen=True)
class EnsembleMember:
    """A member of an ensemble: a reward model, or those heads of one that belong to this member.

    Attributes:
        name: the path of the model; with the member's number where several share the model.
        path: the path of the model.
        reward: the model.
        dimensions: names of the dimensions, in the order of `columns`.
        columns: numbers of the model's heads.
    """

    name: str
    path: str
    reward: LearnedReward
    dimensions: tuple[str, ...]
    columns: tuple[int, ...]

    def normalised(self, table: Tensor) -> Tensor:
        """Return this member's normalised scores (b, h) from those of all the model's heads."""
        return table[:, list(self.columns)] * self.reward.model.normalisation.members

    def raw(self, scores: Tensor, dimensions: Sequence[str]) -> Tensor:
        """Return raw scores (b, h), in logits, from normalised ones in the order of `dimensions`."""
        scale = self.reward.model.normalisation
        order = [self.columns[self.dimensions.index(name)] for name in dimensions]
        gain, bias = scores.new_tensor(scale.gain)[order], scores.new_tensor(scale.bias)[order]
        return (scores / scale.members - bias) / gain

    @property
    def is_normalised(self) -> bool:
        """Whether the model's scores have a scale of their own (`reward.json`) and are not raw logits."""
        heads = len(self.reward.model.heads)
        return self.reward.model.normalisation != Normalisation((1.0,) * heads, (0.0,) * heads)


def members_of(path: str, reward: LearnedReward) -> tuple[EnsembleMember, ...]:
    """Return the members that the model at `path` holds: one, or several with heads of their own on its backbone."""
    count, heads = reward.model.normalisation.members, reward.model.heads
    dimensions = dimensions_of(heads, count)
    size = len(dimensions)
    return tuple(
        EnsembleMember(f"{path}#{k + 1}" if count > 1 else path, path, reward, dimensions, tuple(range(k * size, (k + 1) * size)))
        for k in range(count)
    )


def distinct_models(paths: Sequence[str]) -> list[str]:
    """Return the models that the paths mean, members of ensembles one by one.

    Raises:
        ConfigError: two of them are one model, however their paths are written: it would agree with itself.
    """
    each = [member for path in paths for member in models_at(path)]
    places = [Path(model_at(member)).resolve() for member in each]
    if twice := [path for k, path in enumerate(each) if places[k] in places[:k]]:
        raise ConfigError(f"the ensemble names a model twice: {twice[0]} in {', '.join(paths)}. Name each once.")
    return each


def has_adapters(paths: Sequence[str]) -> bool:
    """Whether two of the models or more are adapters. These stay beside their bases, of which equal weights can be held once."""
    return sum(is_adapter(model_at(path)) for path in paths) > 1


def share_bases(rewards: Iterable[LearnedReward]) -> None:
    """Hold the equal weights below adapters once; ranks that share out weights hold slices of each model."""
    if shard_now().kind == WHOLE:
        share_frozen(*(reward.model.module for reward in rewards if reward.model.adapters is not None))


@dataclass(frozen=True)
class ModelTokens:
    """How a model reads text: its tokenizer, and the most tokens that it takes; None where it has no limit."""

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int | None


@dataclass(frozen=True)
class MemberStart:
    """What a member of an ensemble starts from, before its weights are loaded."""

    model: ModelTokens


TRAIN_ALIKE = (
    "Train the members from models with one tokenizer and one context, or give each model a part in `rewards`, whose scores are added"
)
"""The remedy for reward models that cannot be an ensemble."""


def require_alike(rewards: Mapping[str, LearnedReward] | Mapping[str, MemberStart], remedy: str = TRAIN_ALIKE) -> None:
    """Refuse an ensemble whose models do not read the same tokens: they would disagree about the text and not about its quality.

    Raises:
        ConfigError: a model has another tokenizer, chat template, end token or context than the first. One message names them all.
    """
    (first, one), *others = rewards.items()
    digest, limit = tokenizer_digest(one.model.tokenizer), one.model.max_tokens
    told = [f"{path} has another tokenizer or chat template" for path, other in others if tokenizer_digest(other.model.tokenizer) != digest]
    told += [
        f"{path} takes {other.model.max_tokens or 'any number of'} tokens and {first} {limit or 'any number'}"
        for path, other in others
        if other.model.max_tokens != limit
    ]
    if told:
        raise ConfigError(f"the members of an ensemble must read the same tokens as {first}, but {'; '.join(told)}. {remedy}")


def require_alike_starts(paths: Sequence[str]) -> None:
    """Refuse models as the starts of one ensemble's members unless they read the same tokens. This loads no weights.

    Raises:
        ConfigError: as `require_alike`.
        ModelError: a model's tokenizer or configuration cannot be read.
    """
    places = {path: model_at(path) for path in paths}
    starts = {path: MemberStart(ModelTokens(load_tokenizer(place), longest_sequence(load_config(place)))) for path, place in places.items()}
    require_alike(starts, "Name models in members.other_models that have the tokenizer and the context of `model`")
