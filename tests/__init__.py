"""Tests of Palate."""
