"""Read and write with transformers without its progress bars and reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Turn off progress bars inside the context."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


@contextmanager
def without_reports() -> Iterator[None]:
    """Show only errors of transformers inside the context."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save_pair(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Write model and tokenizer as an ordinary Hugging Face directory."""
    with no_progress_bars():
        module.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
