"""Measurements: what docs/benchmarks.md shows is printed by the modules here."""
