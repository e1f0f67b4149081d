"""Published methods by name, as settings of the stage `online`.

A preset keeps two things apart: the parts that define the method, and the settings that its authors ran it with. The parts are the rule
of advantage, the policy loss, the reduction, KL and shaping. `loop` holds the settings that the source gives, under their names in the
stage. Lengths (the limit and the buffer of a soft limit, a constant length) belong to the task: presets leave them open, and they follow
`sampling.max_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.config.read import dump_config
from palate.objectives.advantages import GAE, Advantage, GroupRelative, LeaveOneOut, ReinforcePlusPlus
from palate.objectives.kl import AdaptiveKL, FixedKL, KLPenalty
from palate.objectives.policy_gradient import GSPO, PolicyObjective, PPOClip, Reinforce
from palate.objectives.reductions import ConstantLength, Reduction, SequenceMean, SequenceSum, TokenMean
from palate.objectives.shaping import KeepReward, MaskCompletion, ReplaceReward, Shaping, SoftOverlong
from palate.objectives.value import ClippedValue, ValueObjective

SETTING_PATHS = {"value_coefficient": ("method", "value_coef"), "lr": ("optimizer", "lr"), "temperature": ("sampling", "temperature")}
"""Paths of the settings that stand in a group of the stage."""
NEEDS_DATA = frozenset({"pretraining_coef"})
"""Settings that a preset cannot give, because the user has to name their data first."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A method as published.

    Attributes:
        source: the paper or the code that describes it.
        advantage: the rule of advantage.
        objective: the policy's loss.
        reduction: how the losses of tokens add up.
        kl: what keeps the policy near the reference; its coefficient is 0 where the method has no KL.
        shaping: how scores become rewards.
        value: the value model's loss; None where the method has no value model.
        loop: settings of the training loop that the source gives.
    """

    source: str
    advantage: Advantage
    objective: PolicyObjective
    reduction: Reduction
    kl: KLPenalty
    shaping: Shaping
    value: ValueObjective | None = None
    loop: Mapping[str, float] = field(default_factory=dict)


_NO_KL = KLPenalty(control=FixedKL(coef=0.0))
_KEEP_SCORES = Shaping(missing_eos=KeepReward())

PRESETS: Mapping[str, Preset] = {
    "ziegler": Preset(
        source="Ziegler et al. 2019; lm-human-preferences: adaptive KL to 6 nats, rewards whitened, -1 where the eos is missing",
        advantage=GAE(),
        objective=PPOClip(),
        reduction=TokenMean(),
        kl=KLPenalty(control=AdaptiveKL(init_coef=0.15, target=6.0, horizon=10000)),
        shaping=Shaping(missing_eos=ReplaceReward(reward=-1.0), whiten=True),
        value=ClippedValue(),
        loop={"epochs_per_batch": 4, "minibatches": 1, "prompts_per_iteration": 512, "samples_per_prompt": 1, "value_coefficient": 0.1},
    ),
    "instructgpt": Preset(
        source="Ouyang et al. 2022 app. C: fixed KL 0.02, gamma and lam as in Stiennon et al. 2020; PPO-ptx is `pretraining` at 27.8",
        advantage=GAE(),
        objective=PPOClip(),
        reduction=TokenMean(),
        kl=KLPenalty(control=FixedKL(coef=0.02)),
        shaping=_KEEP_SCORES,
        value=ClippedValue(),
        loop={"epochs_per_batch": 1, "minibatches": 8, "prompts_per_iteration": 512, "samples_per_prompt": 1, "pretraining_coef": 27.8},
    ),
    "n-plus": Preset(
        source="Huang et al. 2024 (the N+ implementation details): fixed KL 0.05, -1 in place of the score where the eos is missing",
        advantage=GAE(),
        objective=PPOClip(),
        reduction=TokenMean(),
        kl=KLPenalty(control=FixedKL(coef=0.05)),
        shaping=Shaping(missing_eos=ReplaceReward(reward=-1.0)),
        value=ClippedValue(),
        loop={
            "epochs_per_batch": 4,
            "minibatches": 1,
            "prompts_per_iteration": 512,
            "samples_per_prompt": 1,
            "value_coefficient": 0.1,
            "lr": 3e-6,
            "temperature": 0.7,
        },
    ),
    "rloo": Preset(
        source="Ahmadian et al. 2024: leave-one-out baselines, KL in the reward; one update per batch, where the authors take two",
        advantage=LeaveOneOut(),
        objective=Reinforce(),
        reduction=SequenceSum(),
        kl=KLPenalty(control=FixedKL(coef=0.03)),
        shaping=_KEEP_SCORES,
        loop={"epochs_per_batch": 1, "minibatches": 1, "samples_per_prompt": 4},
    ),
    "reinforce-pp": Preset(
        source="Hu et al. 2025 (REINFORCE++): token KL in the reward, reward to go whitened over the batch, PPO's clip",
        advantage=ReinforcePlusPlus(),
        objective=PPOClip(),
        reduction=TokenMean(),
        kl=KLPenalty(control=FixedKL(coef=0.01)),
        shaping=_KEEP_SCORES,
        loop={"epochs_per_batch": 1, "samples_per_prompt": 1},
    ),
    "deepseek-grpo": Preset(
        source="Shao et al. 2024 (DeepSeekMath) eq. 3 and 4, sec. 4.1: k3 in the loss at 0.04, mean of sequence means, groups of 64",
        advantage=GroupRelative(scale="group"),
        objective=PPOClip(),
        reduction=SequenceMean(),
        kl=KLPenalty(estimator="k3", place="loss", control=FixedKL(coef=0.04)),
        shaping=_KEEP_SCORES,
        loop={"epochs_per_batch": 1, "minibatches": 1, "samples_per_prompt": 64, "lr": 1e-6},
    ),
    "dr-grpo": Preset(
        source="Liu et al. 2025 (Dr. GRPO): no standard deviation, a constant length, no KL",
        advantage=GroupRelative(scale="none"),
        objective=PPOClip(),
        reduction=ConstantLength(),
        kl=_NO_KL,
        shaping=_KEEP_SCORES,
        loop={"epochs_per_batch": 1, "samples_per_prompt": 8, "lr": 1e-6},
    ),
    "dapo": Preset(
        source="Yu et al. 2025 (DAPO): clip-higher, token mean, a soft penalty on long completions, truncated ones masked, no KL; "
        "the authors resample groups of equal rewards",
        advantage=GroupRelative(scale="group"),
        objective=PPOClip(clip=0.2, clip_high=0.28),
        reduction=TokenMean(),
        kl=_NO_KL,
        shaping=Shaping(missing_eos=MaskCompletion(), overlong=SoftOverlong()),
        loop={"epochs_per_batch": 1, "minibatches": 16, "prompts_per_iteration": 512, "samples_per_prompt": 16, "lr": 1e-6},
    ),
    "gspo": Preset(
        source="Zheng et al. 2025 (GSPO): one length-normalised ratio per completion, group advantages, no KL",
        advantage=GroupRelative(scale="group"),
        objective=GSPO(),
        reduction=SequenceMean(),
        kl=_NO_KL,
        shaping=_KEEP_SCORES,
        loop={"epochs_per_batch": 1, "minibatches": 4},
    ),
}
"""Presets by name."""


def settings(preset: Preset) -> dict[str, object]:
    """Return the settings of the stage that a preset stands for, by field."""
    method = {"kind": "policy_gradient", **{name: dump_config(getattr(preset, name)) for name in ("advantage", "objective", "reduction")}}
    if preset.value is not None:
        method["value"] = dump_config(preset.value)
    groups: dict[str, dict[str, object]] = {"method": method}
    fields: dict[str, object] = {"kl": dump_config(preset.kl), "shaping": dump_config(preset.shaping)}
    for name, value in preset.loop.items():
        if name in SETTING_PATHS:
            group, setting = SETTING_PATHS[name]
            groups.setdefault(group, {})[setting] = value
        elif name not in NEEDS_DATA:
            fields[name] = value
    return {**groups, **fields}


SETTINGS: Mapping[str, Mapping[str, object]] = {name: settings(preset) for name, preset in PRESETS.items()}
