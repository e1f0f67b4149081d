"""Palate on one GPU, in one command of at most nine minutes: `benchmarks/gpu/run.sh`."""
