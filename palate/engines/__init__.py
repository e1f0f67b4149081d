"""Samplers: who draws completions from a policy."""

from palate.engines.local import LocalSampler, Sample

__all__ = ["LocalSampler", "Sample"]
