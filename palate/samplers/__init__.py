"""Samplers draw completions from a policy: in this process, from a server, or with vLLM beside the learner."""

from palate.samplers.local import LocalSampler, SampledTokens

__all__ = ["LocalSampler", "SampledTokens"]
