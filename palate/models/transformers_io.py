"""Reading and writing with transformers without its progress bars, one for every tiny file, and without its reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Leaves the setting as it was."""
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


@contextmanager
def without_reports() -> Iterator[None]:
    """Errors only; leaves the setting as it was."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save_pair(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Writes model and tokenizer as an ordinary Hugging Face directory."""
    with no_progress_bars():
        module.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
