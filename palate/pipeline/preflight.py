"""What is looked at on this machine before the first stage runs: its folders, its devices, and whether models fit their memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence

from palate.config.artifacts import model_at, models_at
from palate.config.read import map_inputs
from palate.config.types import InputMark
from palate.core import ConfigError, ModelError
from palate.core.process import ALL, AUTO, MEMORY_CHECK, WHOLE
from palate.distributed.ranks import ranks
from palate.pipeline.model_inputs import has_model
from palate.pipeline.plan import Planned


def require_writable(planned: Sequence[Planned]) -> None:
    """Refuse a folder in which no run can be made, before anything is computed. It tries in the nearest folder that exists.

    Raises:
        ConfigError: there is such a folder.
    """
    for root in dict.fromkeys(item.directory.parent for item in planned):
        nearest = next(place for place in (root.absolute(), *root.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryDirectory(prefix=".palate-", dir=nearest):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"no run can be made in {root}, because {nearest} cannot be written ({reason}). Work in another folder, or name one with "
                "--runs DIR."
            ) from error


def require_devices(planned: Sequence[Planned]) -> None:
    """Refuse a device that is not there before any stage runs. The two that are everywhere are not looked for: that loads torch.

    Raises:
        ConfigError: there is no such device.
    """
    for item in planned:
        if item.plan.device not in (AUTO, "cpu"):
            from palate.models.devices import find_device

            try:
                find_device(item.plan.device)
            except ConfigError as error:
                raise ConfigError(f"{item.plan.name}: {error}") from error


def require_shards(planned: Sequence[Planned]) -> None:
    """Refuse settings that need whole weights where ranks share them out.

    Raises:
        ConfigError: there is such a setting.
    """
    if ranks().world == 1:
        return  # nothing is shared out
    for item in planned:
        shard, has = item.plan.shard, vars(item.stage)
        if shard.kind == WHOLE:
            continue
        sampler = {} if has.get("sampler") is None else vars(has["sampler"])
        takes_policy = shard.takes(learns=has.get("adapters") is None)
        why = None
        if has.get("offload"):
            why = "offload keeps frozen models in the machine's memory. Set offload to false"
        elif has.get("reference_update") is not None and shard.kind == ALL:
            why = "reference_update reads all weights of the policy. Leave it out"
        elif takes_policy and sampler.get("asynchronous"):
            why = "asynchronous sampling needs a whole copy of the policy. Set sampler.asynchronous to 0"
        if why is not None:
            raise ConfigError(f"{item.plan.name}: shard is {shard.kind}, and {why}; or use shard none")


def require_rewards(planned: Planned) -> None:
    """Refuse a stage that has a classifier of rules as a reward model, before it samples or trains. This reads no weights.

    Raises:
        ModelError: there is one. The message names its setting and its path.
    """

    def look(name: str, path: str, mark: InputMark) -> str:
        if mark.is_reward:
            from palate.models.reward_file import RULE_HEAD, RewardFile, not_a_reward

            for model in map(model_at, models_at(path)):
                file = RewardFile.read(model)
                if file is not None and file.heads == (RULE_HEAD,):
                    raise ModelError(f"{planned.plan.name}.{name}: {not_a_reward(path)}")
        return path

    map_inputs(planned.stage, look)


def require_memory(planned: Sequence[Planned], echo: Callable[[str], None]) -> None:
    """Refuse stages whose weights, gradients and moments are larger than their device, and tell which others may be too large.

    Args:
        planned: the stages to run, in order.
        echo: takes a line of text.

    Raises:
        ConfigError: a stage cannot fit, or the environment's variable says neither `on` nor `off`.
    """
    word = os.environ.get(MEMORY_CHECK, "on")
    if word not in ("on", "off"):
        raise ConfigError(f"the environment variable {MEMORY_CHECK} is {word!r}: give on or off, or unset it")
    if word == "off" or not any(has_model(item.stage) for item in planned):
        return
    from palate.pipeline.estimates.memory_check import check_memory

    for line in check_memory(planned):
        echo(line)
