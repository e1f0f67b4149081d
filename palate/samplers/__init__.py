"""Samplers: who draws completions from a policy."""

from palate.samplers.local import LocalSampler, Sample

__all__ = ["LocalSampler", "Sample"]
