"""Weights on their way to an engine, as a directory that it reads."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from palate.models.causal import CausalPolicy
from palate.models.transformers_io import no_progress_bars, on_cpu, save_tokenizer


def published(directory: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a folder beside `directory`, give it that name when it is whole, and return it. Nobody reads half of it."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    write(part)
    return part.rename(directory)


def write_weights(policy: CausalPolicy, directory: Path) -> Path:
    """Write the policy's weights as an ordinary directory with one file, adapters merged, and return it.

    An output layer that is tied to the embeddings is written as one of its own. vLLM's build for CPUs keeps a packed copy of the output
    layer, which an update of tied weights does not reach, also where vLLM was started from a model that ties them.
    """
    shutil.rmtree(directory, ignore_errors=True)
    whole = policy if policy.adapters is None else copy.deepcopy(policy).merged()
    module = whole.module
    weights = on_cpu(module)
    with no_progress_bars():
        module.save_pretrained(directory, state_dict=weights, max_shard_size="10TB")
    head, _ = whole.head
    if head is module.get_input_embeddings().weight:
        save_file({"lm_head.weight": head.detach().cpu().contiguous()}, directory / "output_layer.safetensors")
        path = directory / "config.json"
        settings = {**json.loads(path.read_text(encoding="utf-8")), "tie_word_embeddings": False}
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(policy.tokenizer, directory)
    return directory
