"""Palate aligns a language model with human taste: the whole loop of RLHF in one package."""

__version__ = "0.1.0"
