"""Palate's sampler and transformers at the same prompts: `python -m benchmarks.sampling --help`."""
