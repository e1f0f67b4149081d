"""The rows of the report's table on what training lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class TaxRow:
    """What training runs lost of one thing that they measured.

    Attributes:
        measure: the eval, or `text_nll`.
        is_loss: whether a lower figure is better: the loss on texts, nats per token.
        changes: the kept weights less the run's start, by training run.
        first: the training run that the others are compared with.
        versus_first: the other runs' kept weights less those of the first run, over the same texts or questions.
    """

    measure: str
    is_loss: bool
    changes: Mapping[str, Estimate]
    first: str
    versus_first: Mapping[str, Estimate]

    @property
    def title(self) -> str:
        """What was measured, as the page says it."""
        return "loss on texts, nats per token" if self.is_loss else self.measure.replace("_", " ")
