"""Rows on disk: JSON lines, the shapes of outside data sets, and the judgments of other tools. Never imports torch."""
