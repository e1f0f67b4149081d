"""The worlds of `benchmarks.monitors`: that on which faults and limits were chosen, and others with other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]

LEAVE_ONE_OUT: Settings = {"method": {"advantage": "leave_one_out"}, "kl": {}}
GRPO: Settings = {
    "method": {"advantage": {"kind": "group_relative", "scale": "group"}, "reduction": "sequence_mean"},
    "kl": {"place": "loss", "estimator": "k3"},
}


@dataclass(frozen=True)
class MonitorWorld:
    """What the runs of a seed have in common.

    Attributes:
        seeds: the seeds on which it runs where none are named.
        kitchen: settings of the kitchen.
        architecture: the size of the base.
        pool: who judges.
        online: settings of every run of online training.
        learning: how these runs learn from rewards, and where they pay for KL.
        kl: the price of KL in a clean run, and in the others.
        judged: prompts with samples that people judge, and pairs per prompt.
        demonstrations: how many SFT learns.
        faults: those that are planted; none plants all. A world that differs in its training alone needs no faults in the data.
    """

    seeds: tuple[int, ...]
    kitchen: Settings
    architecture: Settings
    pool: Settings
    online: Settings
    learning: Settings = field(default_factory=lambda: LEAVE_ONE_OUT)
    kl: tuple[float, float] = (0.1, 0.05)
    judged: tuple[int, int] = (300, 6)
    demonstrations: int = 1_600
    faults: tuple[str, ...] | None = None


def _online(prompts: int, samples: int, max_tokens: int) -> Settings:
    return {"prompts_per_iteration": prompts, "samples_per_prompt": samples, "sampling": {"max_tokens": max_tokens}}


SIZE: Settings = {"hidden_size": 64, "intermediate_size": 192}
PEOPLE: Settings = {"raters": 8, "sharpness": 11, "length_bias": 0.0, "phrase_bias": 0.0, "side_bias": 0.3}
KITCHEN: Settings = {"texts": 10_000, "lessons": 0.4, "cookbooks": 0.6, "prompts": 900, "held_out": 140, "evals": 60}

WORLDS: Mapping[str, MonitorWorld] = {
    "development": MonitorWorld(
        seeds=(1,),
        kitchen={"texts": 9_000, "lessons": 0.5, "prompts": 800, "held_out": 120, "evals": 60},
        architecture={"hidden_size": 80, "intermediate_size": 240},
        pool={"raters": 12, "sharpness": 14, "length_bias": 0.0, "phrase_bias": 0.0},
        online=_online(20, 4, 72),
    ),
    "test": MonitorWorld(seeds=tuple(range(151, 161)), kitchen=KITCHEN, architecture=SIZE, pool=PEOPLE, online=_online(24, 4, 64)),
    "small": MonitorWorld(
        seeds=(165, 166, 167, 168),
        kitchen={**KITCHEN, "texts": 8_000, "held_out": 180, "evals": 80},
        architecture={"hidden_size": 48, "intermediate_size": 144},
        pool=PEOPLE,
        online=_online(16, 6, 96),
        kl=(0.05, 0.02),
    ),
    "noisy": MonitorWorld(
        seeds=(169, 170, 171),
        kitchen={**KITCHEN, "lessons": 0.5, "held_out": 100},
        architecture=SIZE,
        pool={"raters": 5, "reliability": 0.8, "sharpness": 5, "length_bias": 0.1, "phrase_bias": 0.0, "side_bias": 0.4, "spread": 0.6},
        online=_online(32, 3, 56),
        judged=(240, 4),
        demonstrations=1_200,
        faults=("over-refusal", "leaked", "duplicated", "blind", "side"),
    ),
    "grpo": MonitorWorld(
        seeds=(172, 173, 174),
        kitchen={**KITCHEN, "cookbooks": 0.5, "prompts": 700},
        architecture=SIZE,
        pool=PEOPLE,
        online=_online(12, 8, 64),
        learning=GRPO,
        kl=(0.1, 0.02),
        faults=("length", "over-refusal", "forgotten"),
    ),
}
"""Faults and limits were chosen on `development`, and on seed 150 of `test`. docs/methods/faults.md says which of the others were run.

`small` has a smaller base, longer answers, weaker prices of KL and more questions. `noisy` has fewer and less reliable people, fewer
judgments and demonstrations, and shorter answers. `grpo` learns by GRPO on groups of 8, with the price of KL in the loss.
"""
