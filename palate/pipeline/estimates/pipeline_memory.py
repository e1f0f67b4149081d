"""The memory of every stage of a pipeline file. Models are followed to the configuration they come from; no weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from palate.config.artifacts import model_at
from palate.config.read import map_inputs
from palate.config.settings import Keys, collected, raise_collected
from palate.config.types import InputMark
from palate.core import ConfigError, ModelError
from palate.models.adapters import ADAPTER_FILE, LoRA, base_of, is_adapter
from palate.models.load import load_tokenizer, vocabulary_size
from palate.models.reward_file import RewardFile
from palate.models.shapes import find_shape, shape_of_architecture
from palate.pipeline.estimates.memory_advice import Advice, advice_for
from palate.pipeline.estimates.memory_parts import StageMemory
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin
from palate.pipeline.estimates.stage_memory import memory_of
from palate.pipeline.plan import REFERENCE, Pipeline, read_stage
from palate.pipeline.table import Stage, Stages
from palate.stages.pretrain import Pretrain
from palate.stages.reward import Reward

VOCABULARY = 4096
"""Tokens that are assumed where the tokenizer is not there yet."""

MODEL_SETTINGS = frozenset({"model", "models", "reward", "reference"})
"""Settings that name a model; of those in a list or a mapping, the last word that is not a number."""


@dataclass(frozen=True)
class PlannedMemory:
    """A stage, and the memory that it needs.

    Attributes:
        name: its name in the pipeline.
        kind: its kind.
        stage: its settings, with inputs as written.
        origins: the models that it loads, by setting.
        memory: what it needs; None for a stage without a model.
        advice: what would make it fit; None where it fits, or where no memory is given to compare with.
    """

    name: str
    kind: str
    stage: Stage
    origins: Mapping[str, ModelOrigin]
    memory: StageMemory | None
    advice: Advice | None = None


@dataclass
class _Models:
    """Follows the models of stages to configurations."""

    pipeline: Pipeline
    made: dict[str, ModelOrigin] = field(default_factory=dict)
    """The model that each earlier stage writes, by the stage's name."""
    notes: list[str] = field(default_factory=list)

    def origin(self, keys: Keys, value: str) -> ModelOrigin | None:
        """Return the model that a setting names; None for what an earlier stage writes that is not a model.

        Raises:
            ConfigError: an input has no value, or there is no such model.
        """
        at = self.pipeline.settings.place(keys)
        reference = REFERENCE.fullmatch(value)
        if reference is not None:
            name = reference.group(1)
            if name in self.pipeline.stages:
                return self.made.get(name)
            if name not in self.pipeline.inputs:
                raise ConfigError(f"{at}: there is no stage or input ${name}. Name one of them, or the path of a model.")
            given = self.pipeline.inputs[name]
            if given is None:
                raise ConfigError(f"{at}: the input {name} has no value. Add {name}=PATH, or a size such as {name}=7B, to the command.")
            value = f"{given}/{reference.group(2)}" if reference.group(2) else given
        try:
            return origin_at(value)
        except (ConfigError, ModelError) as error:
            raise type(error)(f"{at}: {error}") from error

    def origins(self, name: str, stage: Stage) -> dict[str, ModelOrigin]:
        """Return the models of a stage by setting."""
        found: dict[str, ModelOrigin] = {}

        def find(setting: str, value: str, mark: InputMark) -> str:
            words = [word for word in setting.split(".") if not word.isdigit()]
            if mark.hub or (words[-1] in MODEL_SETTINGS and not mark.function):
                origin = self.origin(("stages", name, *setting.split(".")), value)
                if origin is not None:
                    found[setting] = origin
            return value

        map_inputs(stage, find)
        if isinstance(stage, Pretrain):
            found["architecture"] = self._pretrained(name, stage)
        return found

    def _pretrained(self, name: str, stage: Pretrain) -> ModelOrigin:
        reference = REFERENCE.fullmatch(stage.tokenizer)
        given = self.pipeline.inputs.get(reference.group(1)) if reference is not None else stage.tokenizer
        vocabulary = VOCABULARY
        if given is not None and Path(given).exists():
            vocabulary = vocabulary_size(load_tokenizer(given))
        else:
            self.notes.append(f"{name}: its tokenizer is not there yet; a vocabulary of {VOCABULARY:,} tokens is assumed.")
        return ModelOrigin(shape_of_architecture(stage.architecture, vocabulary, name), name, name)

    def record(self, name: str, stage: Stage, origins: Mapping[str, ModelOrigin]) -> None:
        """Remember the model that a stage writes."""
        start = next((origins[key] for key in ("architecture", "model", "models.0", "reward") if key in origins), None)
        if start is None:
            return
        own = {item.name: cast("Any", vars(stage))[item.name] for item in fields(cast("Any", stage))}
        adapters = own.get("adapters")
        is_kept = isinstance(adapters, LoRA) and not adapters.merge and start.rank is None
        rank = adapters.rank if is_kept and isinstance(adapters, LoRA) else None
        reads = stage.score == "with_likelihood" if isinstance(stage, Reward) else start.reads_likelihood
        self.made[name] = replace(start, name=name, base=start.name if is_kept else name, rank=rank, reads_likelihood=reads)


def origin_at(path: str) -> ModelOrigin:
    """Return the model at a path, or of a published size.

    Raises:
        ConfigError: there is none.
        ModelError: it cannot be read.
    """
    place = model_at(path)
    stored = RewardFile.read(place)
    reads = stored is not None and stored.likelihood is not None
    if is_adapter(place):
        base = base_of(place)[0]
        settings = json.loads((Path(place) / ADAPTER_FILE).read_text(encoding="utf-8"))
        return ModelOrigin(find_shape(base), place, base, rank=int(settings.get("r", LoRA().rank)), reads_likelihood=reads)
    return ModelOrigin(find_shape(place), place, place, reads_likelihood=reads)


def plan_memory(
    pipeline: Pipeline, stages: Stages, machine: Machine, memory: float | None
) -> tuple[tuple[PlannedMemory, ...], tuple[str, ...]]:
    """Return the memory of every stage on each device, and notes on what was assumed.

    Args:
        pipeline: the pipeline; inputs that are not models need no value.
        stages: the table of stages.
        machine: what the stages run on.
        memory: bytes of a device; None gives no advice.

    Raises:
        ConfigError: settings are wrong, or a model is not there; one message for all stages.
    """
    models, planned, errors = _Models(pipeline), [], list[str]()
    for name in pipeline.stages:
        with collected(errors):
            plan, stage = read_stage(pipeline, name, stages)
            origins = models.origins(name, stage)
            models.record(name, stage, origins)
            own = machine if stages[plan.stage].is_shared else replace(machine, ranks=1)
            needed = memory_of(stage, origins, own)
            advice = None
            if needed is not None and memory is not None and needed.peak > memory:
                advice = advice_for(stage, origins, own, memory)
            planned.append(PlannedMemory(name, plan.stage, stage, origins, needed, advice))
    raise_collected(errors)
    return tuple(planned), tuple(models.notes)
