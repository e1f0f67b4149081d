"""Palate and TRL at the same work: `python -m benchmarks.speed --help`."""
