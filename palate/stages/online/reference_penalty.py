"""The price of KL in online training, and the model that KL is measured to."""

from __future__ import annotations

from dataclasses import dataclass

from palate.config.types import ModelInput
from palate.objectives.kl import KLPenalty


@dataclass(frozen=True, kw_only=True)
class ReferencePenalty(KLPenalty):
    """The KL penalty that keeps the policy near the reference.

    Attributes:
        reference: the model that KL is measured to; none uses the policy as it started.
    """

    reference: ModelInput | None = None
