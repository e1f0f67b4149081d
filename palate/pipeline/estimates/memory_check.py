"""The estimate of planned stages against the memory that their devices have now, before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palate.core import ConfigError
from palate.core.process import MEMORY_CHECK, place
from palate.distributed.ranks import ranks
from palate.models.devices import describe, find_device, memory_of_device
from palate.pipeline.estimates.memory_advice import advice_for
from palate.pipeline.estimates.memory_parts import StageMemory, gigabytes, sizes_by_role
from palate.pipeline.estimates.model_origins import ModelOrigins, origin_at
from palate.pipeline.estimates.role_memory import Machine, ModelOrigin
from palate.pipeline.estimates.stage_memory import memory_of
from palate.pipeline.plan import Planned
from palate.pipeline.table import STAGES


@dataclass(frozen=True)
class MemoryFinding:
    """A stage that does not fit, or may not.

    Attributes:
        line: what it needs, what is there, and what to change.
        is_certain: whether its weights, gradients and moments alone are larger than the device.
    """

    line: str
    is_certain: bool


def check_memory(planned: Sequence[Planned]) -> list[str]:
    """Return a line for each stage that may need more memory than its device has free. A model that cannot be read has no estimate.

    Raises:
        ConfigError: weights, gradients and moments alone exceed the whole memory of a device; one message for all stages.
    """
    models, findings = _models_of(planned), []
    for item in planned:
        try:
            origins = models.of(item.plan.name, item.stage)
        except (ValueError, OSError):
            continue  # the stage itself says what is wrong with the model
        findings += [finding for finding in [_finding(item, origins)] if finding is not None]
    refused = [finding.line for finding in findings if finding.is_certain]
    if refused:
        lines = "\n".join(refused)
        raise ConfigError(f"{lines}\n`palate plan` shows each part. To load the models all the same, set {MEMORY_CHECK}=off.")
    return [finding.line for finding in findings]


def _models_of(planned: Sequence[Planned]) -> ModelOrigins:
    """Return what follows the paths of planned stages to models, also where an earlier stage is still to make one."""
    makers = {str(path): name for item in planned for name, path in item.needs}

    def find(_stage: str, _setting: str, value: str) -> ModelOrigin | None:
        made = models.made.get(makers.get(value, ""))
        return origin_at(value) if made is None else made

    models = ModelOrigins(find, lambda value: value)
    return models


def _finding(item: Planned, origins: dict[str, ModelOrigin]) -> MemoryFinding | None:
    device = find_device(item.plan.device)
    there = memory_of_device(device)
    entry = STAGES.get(item.plan.stage)
    count, shard = ranks().world if entry is not None and entry.is_shared else 1, item.plan.shard
    sharing = replace(shard, ranks=shard.ranks or place().local_world)
    machine = Machine(is_gpu=device.type == "cuda", ranks=count, memory=there.total, shard=sharing)
    needed = memory_of(item.stage, origins, machine)
    if needed is None:
        return None
    least = sum(part.size for part in needed.certain)
    is_certain = least > there.total
    room = there.total if is_certain or there.free is None else there.free
    if needed.peak <= room:
        return None
    advice = advice_for(item.stage, origins, machine, room).text(room)
    where = f"{describe(device)}, " if machine.ranks == 1 else f"{describe(device)} of each rank, "
    if is_certain:
        parts = _in_words(needed)
        line = f"its weights, gradients and moments alone need {gigabytes(least)} GB of {where}which has {gigabytes(room)} GB: {parts}."
    else:
        line = f"about {gigabytes(needed.peak)} GB are needed of {where}where {gigabytes(room)} GB are free now. It may run out of memory."
    return MemoryFinding(f"{item.plan.name}: {line} {advice[0].upper()}{advice[1:]}.", is_certain)


def _in_words(needed: StageMemory) -> str:
    """Return the certain bytes of each role, and of what."""
    words = []
    for role, kinds in sizes_by_role(needed.certain).items():
        each = ", ".join(f"{kind} {gigabytes(size)}" for kind, size in kinds.items())
        words.append(f"{role} {gigabytes(sum(kinds.values()))} ({each})")
    return "; ".join(words)
