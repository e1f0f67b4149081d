"""Raters: whoever answers comparisons."""
