"""The memory of every stage of a pipeline file, from configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from palate.config.settings import collected, raise_collected
from palate.core import ConfigError, ModelError
from palate.pipeline.estimates.memory_advice import Advice, advice_for
from palate.pipeline.estimates.memory_parts import StageMemory
from palate.pipeline.estimates.model_origins import ModelOrigins, origin_at
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin
from palate.pipeline.estimates.stage_memory import memory_of
from palate.pipeline.plan import REFERENCE, Pipeline, read_stage
from palate.pipeline.table import Stage, Stages


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
    models, planned, errors = _models_of(pipeline), [], list[str]()
    for name in pipeline.stages:
        with collected(errors):
            plan, stage = read_stage(pipeline, name, stages)
            origins = models.of(name, stage)
            entry = stages.get(plan.stage)
            own = replace(machine, ranks=machine.ranks if entry is not None and entry.is_shared else 1, shard=plan.shard)
            needed = memory_of(stage, origins, own)
            advice = None
            if needed is not None and memory is not None and needed.peak > memory:
                advice = advice_for(stage, origins, own, memory)
            planned.append(PlannedMemory(name, plan.stage, stage, origins, needed, advice))
    raise_collected(errors)
    return tuple(planned), tuple(models.notes)


def _models_of(pipeline: Pipeline) -> ModelOrigins:
    """Return what follows the references of a pipeline file to models."""

    def find(name: str, setting: str, value: str) -> ModelOrigin | None:
        at = pipeline.settings.place(("stages", name, *setting.split(".")))
        reference = REFERENCE.fullmatch(value)
        if reference is not None:
            source = reference.group(1)
            if source in pipeline.stages:
                return models.made.get(source)
            if source not in pipeline.inputs:
                raise ConfigError(f"{at}: there is no stage or input ${source}. Name one of them, or the path of a model.")
            given = pipeline.inputs[source]
            if given is None:
                words = f"Add {source}=PATH, or a size such as {source}=7B, to the command."
                raise ConfigError(f"{at}: the input {source} has no value. {words}")
            value = f"{given}/{reference.group(2)}" if reference.group(2) else given
        try:
            return origin_at(value)
        except (ConfigError, ModelError) as error:
            raise type(error)(f"{at}: {error}") from error

    def tokenizer(value: str) -> str | None:
        reference = REFERENCE.fullmatch(value)
        return value if reference is None else pipeline.inputs.get(reference.group(1))

    models = ModelOrigins(find, tokenizer)
    return models
