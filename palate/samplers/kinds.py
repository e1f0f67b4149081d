"""The kinds of samplers that draw from a model that does not change, as settings of a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from palate.core import Sampling
from palate.models.load import load_policy
from palate.models.precision import DType
from palate.samplers.draw import check_sampling
from palate.samplers.local import LocalSampler
from palate.samplers.openai_sampler import OpenAISamplerSettings


@dataclass(frozen=True, kw_only=True)
class LocalSamplerSettings:
    """The model is loaded into this process."""

    kind: Literal["local"] = "local"

    def check(self, sampling: Sampling) -> None:
        """Raise ConfigError for a setting that does not describe a distribution."""
        check_sampling(sampling)

    def open(self, model: str, dtype: DType = "float32") -> LocalSampler:
        """Return the sampler of the model in a directory, which computes in `dtype`. Raises ModelError as `load_policy`."""
        return LocalSampler(load_policy(model, dtype=dtype))


SamplerKind = LocalSamplerSettings | OpenAISamplerSettings
