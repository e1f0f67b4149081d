"""Ranks: one program on several devices. Empty so far; every stage runs in one process."""
