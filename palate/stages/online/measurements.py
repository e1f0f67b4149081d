"""What online training measures beside its reward, and how far the weights that it keeps may be from the reference."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.config.artifacts import model_at
from palate.core import TrainingError
from palate.data.judge_names import figure_name
from palate.models.precision import DType
from palate.objectives.kl import BudgetKL, KLPenalty
from palate.objectives.shaping import SoftOverlong
from palate.rewards.composition import Scores
from palate.rewards.learned import LearnedReward
from palate.runs.run import Run
from palate.stages.online.rollouts import Rollouts
from palate.stages.online.score_metrics import mean_metrics
from palate.training.keep import BestReward


def reward_metrics(scores: Scores) -> dict[str, float]:
    """Return the metrics of the reward; those of a single part under the names of its dimensions, unless its judge is uncalibrated."""
    metrics = scores.metrics()
    (name, *others) = scores.parts
    if others or name.endswith(figure_name("", is_calibrated=False)):
        return metrics
    return {key.replace(f"score_{name}_", "score_"): value for key, value in metrics.items() if not key.startswith("part_")}


def load_held_out(path: str | None, tokenizer: PreTrainedTokenizerBase, dtype: DType) -> LearnedReward | None:
    """Return the held-out reward model at `path`, for completions of this tokenizer; None where there is none."""
    return None if path is None else LearnedReward.load(model_at(path), tokenizer, dtype=dtype)


def held_out_scores(reward: LearnedReward, rollouts: Rollouts) -> Tensor:
    """Return the scores (b,) by the held-out reward model, NaN where it cannot score.

    Raises:
        TrainingError: it can score none.
    """
    table, reasons = reward.table(rollouts.prompts, rollouts.groups, rollouts.trees)
    if len(reasons) == len(table):
        raise TrainingError(f"held_out.reward can score no completion: {reasons[0]}. Use a reward model with a longer context")
    return table.sum(1)


def held_out_metrics(reward: LearnedReward, rollouts: Rollouts, most: int | None) -> dict[str, float]:
    """Return mean and standard error of the scores by the held-out reward model. Raises as `held_out_scores`.

    It scores the first `most` completions of each prompt; None scores all.
    """
    scored = replace(rollouts, groups=tuple(group[:most] for group in rollouts.groups))
    return mean_metrics("held_out_score", held_out_scores(reward, scored).tolist(), scored)


def within_budget(keep: BestReward, kl: KLPenalty) -> BestReward:
    """Return how the best weights are chosen: within the run's own KL budget too, where it has one."""
    if not isinstance(kl.control, BudgetKL):
        return keep
    return replace(keep, kl_budget=min(kl.control.nats, keep.kl_budget or kl.control.nats))


def say_limit(run: Run, given: SoftOverlong | None, limit: SoftOverlong | None) -> None:
    """Say which completions a soft limit of length charges, where its length follows from that of sampling."""
    if given is None or limit is None or given.max_tokens is not None or run.is_resumed:
        return
    first = (limit.max_tokens or 0) - (limit.buffer or 0) + 1
    text = (
        f"completions of {first} to {limit.max_tokens} tokens are charged: shaping.overlong follows sampling.max_tokens; give its lengths"
    )
    run.warn(0, {"overlong": f"{text} to charge others"}, {})
