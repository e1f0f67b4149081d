"""Samplers draw completions from a policy."""

from palate.samplers.local import LocalSampler, SampledTokens

__all__ = ["LocalSampler", "SampledTokens"]
