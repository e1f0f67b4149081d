"""A model in this process as a judge: its settings. torch is imported when the model is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from palate.config.artifacts import model_at
from palate.config.types import Count, ModelInput
from palate.core import ConfigError, Sampling
from palate.runs.record import read_record
from palate.runs.run import Run

if TYPE_CHECKING:
    from palate.judges.packed_judge import PackedJudge


@dataclass(frozen=True, kw_only=True)
class LocalJudge:
    """A model that is loaded into this process. It has no ledger: what it answered costs nothing and is computed again.

    Attributes:
        model: the model that judges; its chat template writes the questions.
        dtype: the type that it computes in; auto is bfloat16 on GPUs, else float32.
        temperature: divides the logits of written answers; 0 takes the likeliest token. Options are not sampled.
        max_tokens: longest written answer.
        tokens_per_microbatch: tokens in a forward pass over questions with options, at most.
    """

    kind: Literal["local"] = "local"
    model: ModelInput
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    temperature: Annotated[float, Ge(0)] = 0.0
    max_tokens: Count = 512
    tokens_per_microbatch: Count = 4096

    @property
    def model_name(self) -> str:
        """The name of the stage that made it, its hub name, or the name of its directory."""
        return name_of(self.model)

    def check(self, options: tuple[str, ...], draws: int) -> None:  # noqa: ARG002 (a local model scores any options)
        """Raise ConfigError where several draws would be the same answer."""
        if draws > 1 and not self.temperature:
            raise ConfigError(f"{draws} replies to a question are drawn at random, and temperature 0 gives the same one each time. Set 1")

    def open(self, run: Run) -> PackedJudge:
        """Return the model. Raises ModelError as `load_policy`."""
        from palate.judges.packed_judge import PackedJudge
        from palate.models.load import load_policy

        policy = load_policy(model_at(self.model), dtype=self.dtype)
        sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens)
        return PackedJudge(self.model_name, policy, sampling, self.tokens_per_microbatch, run.seed)


def name_of(model: str) -> str:
    """Return what raters' names call a model: the name of the stage that made it, its hub name, or the name of its directory."""
    directory = Path(model)
    if not directory.is_dir():
        return model
    record = read_record(directory)
    return directory.resolve().name if record is None else record.name
