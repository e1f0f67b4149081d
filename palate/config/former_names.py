"""Former names of settings and kinds. They serve messages alone: nothing is read under a former name.

`CHANGELOG.md` has the same table for people.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

FORMER_NAMES: Mapping[str, tuple[str, ...]] = {
    "ahead": ("asynchronous",),
    "anchor": ("reference_kind",),
    "at_least": ("min_score",),
    "at_once": ("concurrency",),
    "accuracy": ("min_accuracy",),
    "axes": ("heads", "dimensions"),
    "axis": ("dimension",),
    "best": ("top_k",),
    "best_against_worst": ("online_dpo",),
    "crowd": ("pool",),
    "deadline": ("timeout_seconds",),
    "ended": ("eos",),
    "exams": ("evals",),
    "follow": ("reference_update",),
    "imitate_best": ("raft",),
    "judged": ("judgments",),
    "least": ("min_judgments",),
    "least_gap": ("min_gap",),
    "least_reward": ("min_reward",),
    "missing_end": ("missing_eos",),
    "missing_end_reward": ("missing_eos_reward",),
    "most": ("max_multiplier",),
    "old": ("replay",),
    "old_share": ("replay_share",),
    "opinions": ("raters_per_comparison",),
    "passes": ("epochs_per_batch",),
    "prompts_per_step": ("prompts_per_iteration",),
    "question": ("instructions",),
    "reference": ("model",),
    "second_opinions": ("repeat_share",),
    "shown": ("models",),
    "shuffled": ("control",),
    "spread": ("min_spread",),
    "start": ("init_multiplier",),
    "steps": ("iterations",),
    "template": ("instructions",),
    "thumbs": ("unpaired",),
    "trust": ("reward_requirements",),
    "unleashed": ("without_kl",),
}
"""Former name -> the names that may stand in its place; which of them depends on the stage."""


def renamed(word: str, known: Collection[str]) -> str | None:
    """Return what `word` is called now, where that is among the known names; else None."""
    return next((name for name in FORMER_NAMES.get(word, ()) if name in known), None)
