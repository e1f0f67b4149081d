"""Stage `online`: a policy from rewards of its own completions, under a KL budget.

`stage` has the settings, `loop` the six verbs, `rollouts` what goes through them; each way of learning is a file: `policy_gradient`,
`pairs`, `imitate`.
"""

from palate.stages.online.stage import Online

__all__ = ["Online"]
