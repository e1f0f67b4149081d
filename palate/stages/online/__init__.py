"""Stage `online`: train a policy on rewards of its own completions, under a KL budget.

- `settings`: the settings and their checks.
- `stage`: a run from start to end.
- `loop`: the six steps of an iteration.
- `roles`: the value model, and models that share one base.
- `rollout_sampler` and `rollouts`: drawing completions, and the completions with their scores.
- `algorithm`: what an algorithm gives the loop; `policy_gradient`, `online_dpo` and `raft` are the algorithms.
- `presets`: published methods as settings.
- `pretraining`: texts that the policy also learns from.
"""

from palate.stages.online.stage import Online

__all__ = ["Online"]
