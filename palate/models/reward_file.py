"""The file beside a scalar model's weights: names of the heads, gain and bias, what scores read, and the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from palate.core import ModelError
from palate.models.likelihood import NOTE
from palate.models.mean_pooling import MEAN_NOTE

REWARD_FILE = "reward.json"

RULE_HEAD = "broken"
"""The name of the only head of a classifier of rules: the log-odds that the rule is broken."""


@dataclass(frozen=True)
class Normalisation:
    """Gain and bias per head: `gain * score + bias` has mean 0 and standard deviation 1 on reference samples (Ziegler et al. 2019).

    Attributes:
        gain: one per head.
        bias: one per head.
        members: members of an ensemble that the heads belong to, one member's heads after another's. The sum of all heads is then the mean
            over members, so each gain is divided by their number.
    """

    gain: tuple[float, ...]
    bias: tuple[float, ...]
    members: int = 1


def not_a_reward(path: str) -> ModelError:
    """Return what is said of a classifier of rules at `path` where a reward model is needed."""
    return ModelError(
        f"{path} is a classifier of rules and not a reward model: it reads a question about a rule. Use it with its rules: "
        "`palate score --rules FILE`, or a part of a reward with kind written_rules"
    )


def member_heads(dimensions: Sequence[str], members: int) -> tuple[str, ...]:
    """Return the names of the heads of `members` members: of one member the dimensions, of several `DIMENSION.NUMBER`."""
    return tuple(dimensions) if members == 1 else tuple(f"{name}.{k}" for k in range(1, members + 1) for name in dimensions)


def dimensions_of(heads: Sequence[str], members: int) -> tuple[str, ...]:
    """Return the dimensions that the heads of `members` members are about."""
    return tuple(heads) if members == 1 else tuple(name.removesuffix(".1") for name in heads[: len(heads) // members])


@dataclass(frozen=True)
class RewardFile:
    """What reward.json holds.

    Attributes:
        heads: names of the heads.
        gain: gain of each head.
        bias: bias of each head.
        likelihood: coefficient of each head, in logits per nat of mean log-likelihood; None where scores read only the last token.
        tokenizer: digest of the tokenizer that the heads were trained with; None where nobody knows.
        members: members of an ensemble that share this model, as in `Normalisation`.
        pooling: mean where scores read the mean state of a completion; None where they read that of its last token.
    """

    heads: tuple[str, ...]
    gain: tuple[float, ...]
    bias: tuple[float, ...]
    likelihood: tuple[float, ...] | None = None
    tokenizer: str | None = None
    members: int = 1
    pooling: str | None = None

    def write(self, directory: str | Path) -> None:
        """Write the file to a directory that already has the model."""
        content = {name: value for name, value in asdict(self).items() if value is not None and (name, value) != ("members", 1)}
        if self.likelihood is not None:
            content["note"] = NOTE
        elif self.pooling is not None:
            content["note"] = MEAN_NOTE
        (Path(directory) / REWARD_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def scale_of(self, heads: tuple[str, ...], directory: str | Path) -> Normalisation:
        """Return the scale of a model with these heads. Raises ModelError where the file names others."""
        if self.heads != heads:
            raise ModelError(f"{Path(directory) / REWARD_FILE} has heads {list(self.heads)}; the model has heads {list(heads)}")
        return Normalisation(self.gain, self.bias, self.members)

    @staticmethod
    def read(directory: str | Path) -> RewardFile | None:
        """Return the file of a directory, or None where there is none.

        Raises:
            ModelError: it cannot be read, or does not have one number per head.
        """
        path = Path(directory) / REWARD_FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            pooling = content.get("pooling")
            likelihood = content["likelihood"] if "note" in content and pooling is None else content.get("likelihood")
            numbers = (content["gain"], content["bias"], *(() if likelihood is None else (likelihood,)))
            heads = tuple(content["heads"])
            columns = [tuple(map(float, column)) for column in numbers]
            tokenizer, members = content.get("tokenizer"), int(content.get("members", 1))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} cannot be read ({type(error).__name__}: {error}); it needs heads, gain and bias") from error
        if any(len(column) != len(heads) for column in columns):
            raise ModelError(f"{path} needs one number per head: it has {len(heads)} heads and columns of {[len(c) for c in columns]}")
        if pooling not in (None, "mean"):
            raise ModelError(f"{path} has pooling {pooling!r}, which this version does not know. It knows mean")
        if members < 1 or len(heads) % members or member_heads(dimensions_of(heads, members), members) != heads:
            raise ModelError(f"{path} says that {members} members share the heads {', '.join(heads)}. Copy the directory as it was written")
        return RewardFile(heads, columns[0], columns[1], columns[2] if likelihood is not None else None, tokenizer, members, pooling)
