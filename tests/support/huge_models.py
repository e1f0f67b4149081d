"""Model directories with the configuration of a published model and without weights."""

from __future__ import annotations

from pathlib import Path

from palate.models.shapes import published_config
from palate.testing import word_tokenizer


def huge_model(directory: Path, name: str = "Llama-3.1-8B") -> None:
    """Writes the configuration of a published model, and a small tokenizer."""
    published_config(name).save_pretrained(directory)
    word_tokenizer().save_pretrained(directory)
