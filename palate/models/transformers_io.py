"""Read and write with transformers without its progress bars and reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from palate.models.shared_layers import on_host
from palate.models.tensor_files import writing_tensors
from palate.text.chat_text import template_of
from palate.text.ends import end_ids

GENERATION_FILE = "generation_config.json"


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


def save_pair(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path, *, without: str = "") -> None:
    """Write model and tokenizer as an ordinary Hugging Face directory, without the weights whose names begin with `without`."""
    weights = {name: x for name, x in on_cpu(module).items() if not (without and name.startswith(without))}
    with no_progress_bars(), writing_tensors(directory):
        module.save_pretrained(directory, state_dict=weights)
    save_tokenizer(tokenizer, directory)


def on_cpu(module: nn.Module, is_wanted: Callable[[str, Tensor], bool] = lambda _name, _weight: True) -> dict[str, Tensor]:
    """Return the weights by name, on the CPU. A weight with several names is one tensor, so that transformers knows it is tied."""
    copies: dict[int, Tensor] = {}
    named = {name: x for name, x in module.state_dict(keep_vars=True).items() if is_wanted(name, x)}
    for x in named.values():
        if id(x) not in copies:
            copies[id(x)] = on_host(x)
    return {name: copies[id(x)] for name, x in named.items()}


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> None:
    """Write the tokenizer with the template that Palate used, and the ends of completions into generation_config.json.

    A tokenizer without a chat template gets the fallback template, and a reward model or an adapter its policy's ends. So what is
    loaded from the directory writes conversations and stops as Palate does. Other settings in generation_config.json stay.
    """
    was, tokenizer.chat_template = tokenizer.chat_template, tokenizer.chat_template or template_of(tokenizer)
    try:
        tokenizer.save_pretrained(directory)
    finally:
        tokenizer.chat_template = was
    path = Path(directory) / GENERATION_FILE
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = settings.get("eos_token_id")
    ends = sorted(end_ids(tokenizer).union([named] if isinstance(named, int) else named or ()))
    settings["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
