"""The factor by which losses are multiplied before a backward pass in float16, so that small gradients do not become 0.

float16 holds numbers from 6e-8 to 65504, and bfloat16 and float32 up to 3e38. The factor is a power of two, so that multiplying and
dividing by it rounds nothing. It falls where a gradient overflows, and rises slowly while none does (Micikevicius et al. 2018, section
3.2).

Unlike elsewhere a step that overflows is not left out: it is computed again with a smaller factor. So the number of steps, the schedule of
the learning rate and the examples that are learned do not depend on the type. Losses here are sums over tokens, whose gradients are larger
than those of means, hence the low start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch

START, HIGHEST, LOWEST = 2.0**4, 2.0**16, 2.0**-16
FALL = 4.0
"""What the factor is divided by where a gradient overflows."""
STEPS_TO_RISE = 200
"""Steps without an overflow after which the factor doubles."""


class LossScale:
    """The factor, and the steps since it last changed. It follows from numbers that all ranks have, so they decide alike.

    In types other than float16 it is 1 and stays so.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._is_needed = dtype == torch.float16
        self.factor = START if self._is_needed else 1.0
        self._good_steps = 0

    @property
    def may_repeat(self) -> bool:
        """Whether a step may have to be computed again."""
        return self._is_needed

    def must_repeat(self, loss: float, norm: float) -> bool:
        """Return whether a step must be computed again with the factor as it then is.

        A loss that is not finite has overflowed before the factor came in, so a smaller factor would not help.

        Args:
            loss: the summed loss of all micro-batches, without the factor.
            norm: the norm of their gradient.
        """
        if not self._is_needed:
            return False
        if math.isfinite(norm):
            self._good_steps += 1
            if self._good_steps >= STEPS_TO_RISE and self.factor < HIGHEST:
                self.factor, self._good_steps = 2 * self.factor, 0
            return False
        if not math.isfinite(loss) or self.factor <= LOWEST:
            return False
        self.factor, self._good_steps = self.factor / FALL, 0
        return True

    @property
    def remedy(self) -> str:
        """Return what else a user can do about numbers that are not finite."""
        return ". float16 holds no number above 65504, which some models' hidden states exceed: try dtype bfloat16" * self._is_needed

    def state(self) -> dict[str, object]:
        """Return what a checkpoint holds; nothing where the factor stays 1."""
        return {"loss_scale": [self.factor, self._good_steps]} if self._is_needed else {}

    def restore(self, numbers: Mapping[str, object]) -> None:
        """Continue from a checkpoint's numbers. One that was written in another type has no factor, and this one begins anew."""
        if self._is_needed and "loss_scale" in numbers:
            factor, good_steps = cast("list[float]", numbers["loss_scale"])
            self.factor, self._good_steps = float(factor), int(good_steps)
