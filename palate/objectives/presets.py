"""Methods by name, as data: which rule of advantage, policy loss, reduction, KL and shaping each of them is, and where that is written.

What a method is and what its authors ran it with are two things. The parts are the method; `loop` holds the numbers of the loop
that the source gives, by the names of the stage `online`. Numbers of length (the longest completion, its buffer) belong to the task: they
are those of the defaults and have to be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.objectives.advantages import GAE, Advantage, GroupRelative, LeaveOneOut, ReinforcePlusPlus
from palate.objectives.kl import AdaptiveKL, FixedKL, KLPenalty
from palate.objectives.policy_gradient import GSPO, PolicyObjective, PPOClip, Reinforce
from palate.objectives.reductions import ConstantLength, Reduction, SequenceMean, SequenceSum, TokenMean
from palate.objectives.shaping import KeepReward, MaskCompletion, ReplaceReward, Shaping, SoftOverlong
from palate.objectives.value import ClippedValue, ValueObjective


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A method as published.

    Attributes:
        source: where it is written.
        advantage: rule of advantage.
        objective: the policy's loss.
        reduction: how tokens add up.
        kl: what keeps the policy near the reference; a price of 0 where the method has none.
        shaping: from scores to rewards.
        value: the value model's loss, by methods that have one.
        loop: numbers of the loop that the source gives.
    """

    source: str
    advantage: Advantage
    objective: PolicyObjective
    reduction: Reduction
    kl: KLPenalty
    shaping: Shaping
    value: ValueObjective | None = None
    loop: Mapping[str, float] = field(default_factory=dict)


_FREE = KLPenalty(control=FixedKL(coef=0.0))
_AS_SCORED = Shaping(missing_eos=KeepReward())

PRESETS: Mapping[str, Preset] = {
    "ziegler": Preset(
        source="Ziegler et al. 2019; lm-human-preferences: adaptive KL to 6 nats, rewards whitened, -1 without an end",
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
        shaping=_AS_SCORED,
        value=ClippedValue(),
        loop={"epochs_per_batch": 1, "minibatches": 8, "prompts_per_iteration": 512, "samples_per_prompt": 1, "pretraining_coef": 27.8},
    ),
    "n-plus": Preset(
        source="Huang et al. 2024 (the N+ implementation details): fixed KL 0.05, -1 in place of the score without an end",
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
        source="Ahmadian et al. 2024: leave-one-out baselines, KL in the reward, one update a batch",
        advantage=LeaveOneOut(),
        objective=Reinforce(),
        reduction=SequenceSum(),
        kl=KLPenalty(control=FixedKL(coef=0.03)),
        shaping=_AS_SCORED,
        loop={"epochs_per_batch": 1, "minibatches": 1, "samples_per_prompt": 4},
    ),
    "reinforce-pp": Preset(
        source="Hu 2025 (REINFORCE++): token KL in the reward, reward to go whitened over the batch, PPO's clip",
        advantage=ReinforcePlusPlus(),
        objective=PPOClip(),
        reduction=TokenMean(),
        kl=KLPenalty(control=FixedKL(coef=0.01)),
        shaping=_AS_SCORED,
        loop={"epochs_per_batch": 1, "samples_per_prompt": 1},
    ),
    "deepseek-grpo": Preset(
        source="Shao et al. 2024 (DeepSeekMath) eq. 3 and 4, sec. 4.1: k3 in the loss at 0.04, mean of sequence means, groups of 64",
        advantage=GroupRelative(scale="group"),
        objective=PPOClip(),
        reduction=SequenceMean(),
        kl=KLPenalty(estimator="k3", place="loss", control=FixedKL(coef=0.04)),
        shaping=_AS_SCORED,
        loop={"epochs_per_batch": 1, "minibatches": 1, "samples_per_prompt": 64, "lr": 1e-6},
    ),
    "dr-grpo": Preset(
        source="Liu et al. 2025 (Dr. GRPO): no standard deviation, a constant length, no KL",
        advantage=GroupRelative(scale="none"),
        objective=PPOClip(),
        reduction=ConstantLength(),
        kl=_FREE,
        shaping=_AS_SCORED,
        loop={"epochs_per_batch": 1, "samples_per_prompt": 8, "lr": 1e-6},
    ),
    "dapo": Preset(
        source="Yu et al. 2025 (DAPO): clip-higher, token mean, long completions charged softly and cut ones masked, no KL; the authors "
        "sample groups of equal rewards anew",
        advantage=GroupRelative(scale="group"),
        objective=PPOClip(clip=0.2, clip_high=0.28),
        reduction=TokenMean(),
        kl=_FREE,
        shaping=Shaping(missing_eos=MaskCompletion(), overlong=SoftOverlong()),
        loop={"epochs_per_batch": 1, "minibatches": 16, "prompts_per_iteration": 512, "samples_per_prompt": 16, "lr": 1e-6},
    ),
    "gspo": Preset(
        source="Zheng et al. 2025 (GSPO): a length-normalised ratio a completion, group advantages, no KL",
        advantage=GroupRelative(scale="group"),
        objective=GSPO(),
        reduction=SequenceMean(),
        kl=_FREE,
        shaping=_AS_SCORED,
        loop={"epochs_per_batch": 1, "minibatches": 4},
    ),
}
"""Name to method."""
