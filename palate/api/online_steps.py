"""The loop of stage `online`, step by step: prompt, sample, score, price, credit, learn, record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from palate.api.model_parts import PromptLike, grouped
from palate.api.stage_calls import settings_of
from palate.core import Completion, RunError
from palate.models.causal import CausalPolicy
from palate.pipeline.execute import forget, working
from palate.runs.run import open_run_at
from palate.stages.online.loop import Loop
from palate.stages.online.rollouts import Rollouts
from palate.stages.online.stage import Online
from palate.text.spans import prompt_ids
from palate.training.model_io import keep_model, trained

KIND = "online_loop"
"""What runs are called whose loop was driven by hand: they may have learned otherwise than the stage."""


@contextmanager
def online_loop(**settings: Any) -> Iterator[Loop]:
    """A context with the loop of stage `online`, for a program that drives it. It takes the settings of `palate.online`.

    `loop.iterate()` is a whole iteration: `prompt`, `sample`, `score`, `price`, `credit`, `learn` and `record`. Called one by one they give
    the same numbers, and anything can be done between them. `loop.run.log(step, metrics)` writes metrics to `metrics.jsonl`, and
    `loop.save()` a checkpoint from which the same call goes on. Guards and the choice of the best weights belong to the stage. The model is
    written to the run when the context ends without an exception.

    Raises:
        ConfigError: settings cannot be used.
        RunError: the run is done.
    """
    stage, words = settings_of("online", settings)
    planned = replace(words, name=words.name or KIND).planned("online", stage)
    planned = replace(planned, plan=replace(planned.plan, stage=KIND))
    planned = replace(planned, directory=planned.directory if words.out else planned.plan.directory(planned.directory.parent))
    if words.fresh:
        forget([planned], [planned.plan.name])
    run = open_run_at(planned.directory, planned.plan)
    if run.is_done:
        raise RunError(f"{run.directory} is done. Give fresh=True to drive the loop anew, or another seed or name")
    with working(planned, run):
        config = cast("Online", planned.stage)
        loop = Loop(config, run)
        try:
            loop.restore()
            yield loop
            figures = loop.finish()
        finally:
            loop.close()
        keep_model(run, trained(run, loop.policy, config.adapters, loop.learner), config.adapters)
        run.summary({"iterations": loop.iteration, "kl_coef": loop.kl.coef, "last": loop.last_metrics, **figures})


def rollouts(policy: CausalPolicy, prompts: Sequence[PromptLike], completions: Sequence[Sequence[Completion]]) -> Rollouts:
    """Return completions that anybody drew as rollouts, which `loop.score` takes. Each needs its ids and their log-probabilities."""
    asked, groups = grouped(prompts, completions)
    trunks = tuple(prompt_ids(policy.tokenizer, prompt) for prompt in asked)
    return Rollouts(tuple(asked), trunks, tuple(map(tuple, groups)))
