"""Follows the models of a pipeline's stages to the configurations that they come from; no weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from palate.config.artifacts import model_at, models_at
from palate.models.adapters import ADAPTER_FILE, LoRA, base_of, is_adapter
from palate.models.load import load_tokenizer, vocabulary_size
from palate.models.reward_file import RewardFile
from palate.models.shapes import find_shape, shape_of_architecture
from palate.pipeline.estimates.role_memory import ModelOrigin, largest_start
from palate.pipeline.model_inputs import model_inputs
from palate.pipeline.table import Stage
from palate.stages.pretrain import Pretrain
from palate.stages.reward import Reward

VOCABULARY = 4096
"""Tokens that are assumed where the tokenizer is not there yet."""


@dataclass
class ModelOrigins:
    """The models of stages, taken in the order of the pipeline.

    Attributes:
        find: returns the model that a setting of a stage names; None for what an earlier stage writes that is not a model.
        tokenizer: returns the path that a stage's setting `tokenizer` means; None where it has none yet.
        made: the model that each earlier stage writes, by the stage's name.
        notes: what was assumed.
    """

    find: Callable[[str, str, str], ModelOrigin | None]
    tokenizer: Callable[[str], str | None]
    made: dict[str, ModelOrigin] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, name: str, stage: Stage) -> dict[str, ModelOrigin]:
        """Return the models of a stage by setting, and remember the one that it writes.

        Raises:
            ConfigError: as `find`.
            ModelError: as `find`.
        """
        named = {setting: self.find(name, setting, value) for setting, value in model_inputs(stage).items()}
        found = {setting: origin for setting, origin in named.items() if origin is not None}
        if isinstance(stage, Pretrain):
            found["architecture"] = self._pretrained(name, stage)
        self._remember(name, stage, found)
        return found

    def _pretrained(self, name: str, stage: Pretrain) -> ModelOrigin:
        given, vocabulary = self.tokenizer(stage.tokenizer), VOCABULARY
        if given is not None and Path(given).exists():
            vocabulary = vocabulary_size(load_tokenizer(given))
        else:
            self.notes.append(f"{name}: its tokenizer is not there yet; a vocabulary of {VOCABULARY:,} tokens is assumed.")
        return ModelOrigin(shape_of_architecture(stage.architecture, vocabulary, name), name, name)

    def _remember(self, name: str, stage: Stage, origins: Mapping[str, ModelOrigin]) -> None:
        start = next((origins[key] for key in ("architecture", "model", "models.0", "reward") if key in origins), None)
        if start is None:
            return
        if isinstance(stage, Reward):
            start = largest_start(origins)
        own = {item.name: cast("Any", vars(stage))[item.name] for item in fields(cast("Any", stage))}
        adapters = own.get("adapters")
        is_kept = isinstance(adapters, LoRA) and not adapters.merge and start.rank is None
        rank = adapters.rank if is_kept and isinstance(adapters, LoRA) else None
        reads = stage.score == "with_likelihood" if isinstance(stage, Reward) else start.reads_likelihood
        self.made[name] = replace(start, name=name, base=start.name if is_kept else name, rank=rank, reads_likelihood=reads)


def origin_at(path: str) -> ModelOrigin:
    """Return the model at a path, or of a published size; of an ensemble the first member, which the others are like.

    Raises:
        ConfigError: there is none.
        ModelError: it cannot be read.
    """
    place = model_at(models_at(path)[0])
    stored = RewardFile.read(place)
    reads = stored is not None and stored.likelihood is not None
    if is_adapter(place):
        base = base_of(place)[0]
        settings = json.loads((Path(place) / ADAPTER_FILE).read_text(encoding="utf-8"))
        return ModelOrigin(find_shape(base), place, base, rank=int(settings.get("r", LoRA().rank)), reads_likelihood=reads)
    return ModelOrigin(find_shape(place), place, place, reads_likelihood=reads)
