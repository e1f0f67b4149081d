"""Completions of the same few prompts at some iterations, for people who watch the run."""

from __future__ import annotations

from collections.abc import Sequence

from palate.core import Prompt, derive_seed
from palate.data.jsonl import read_rows, write_rows
from palate.distributed.ranks import ranks
from palate.runs.run import EXAMPLES, Run
from palate.stages.online.rollout_sampler import RolloutSampler

PROMPTS = 4
MOMENTS = 8
"""Times that the prompts are completed during training, after once at its start."""


class Examples:
    """Writes `examples.jsonl`: a row per prompt at the start, after every eighth of the iterations, and at the end.

    The seed is the same each time, so that completions differ by the weights alone. Nothing is learned from them, and no other
    completion changes.
    """

    def __init__(self, run: Run, sampler: RolloutSampler, prompts: Sequence[Prompt], iterations: int) -> None:
        self._run, self._sampler = run, sampler
        self._prompts = prompts[: max(PROMPTS, ranks().world)]  # a rank without a prompt would not gather weights that ranks share out
        self._every = -(-iterations // MOMENTS)

    def before(self, iteration: int) -> None:
        """Write the completions before an iteration, if it is their turn."""
        if iteration % self._every == 0:
            self.write(iteration)

    def write(self, iteration: int) -> None:
        """Write the completions by the weights that `iteration` iterations made. Rows of later ones go: a resumed run makes them again."""
        drawn = self._sampler.draw_apart(self._prompts, 1, derive_seed(self._run.seed, "examples"))
        path = self._run.directory / EXAMPLES
        before = [row for _, row in read_rows(path) if int(str(row["step"])) < iteration] if path.is_file() else []
        now = [
            {"step": iteration, "id": prompt.id, "prompt": prompt.text, "completion": completion.text}
            for prompt, (completion,) in zip(self._prompts[:PROMPTS], drawn.groups, strict=False)
        ]
        write_rows(path, [*before, *now])
