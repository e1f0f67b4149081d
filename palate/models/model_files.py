"""Models out of files of weights: whole, or shared out over ranks, of which each reads only what it keeps."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from palate.core import ModelError
from palate.models.devices import placed
from palate.models.encoders import above_backbone
from palate.models.precision import DType, dtype_of
from palate.models.shared_layers import share_out, sharing_now
from palate.models.transformers_io import no_progress_bars, without_reports

T = TypeVar("T")
AutoClass = type[AutoModelForCausalLM] | type[AutoModelForSequenceClassification]
_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError, StrictDataclassError)
_TYPES: Mapping[str, torch.dtype] = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def load_module(auto: AutoClass, path: str | Path, config: PretrainedConfig, dtype: DType, *, new_head: bool = False) -> PreTrainedModel:
    """Return the model at `path`, of the class that `auto` chooses. With `new_head` the layers above the backbone may be missing.

    Where ranks share out the models that are loaded now, the weights stay in their file, which is mapped, until each rank has copied its
    slices. For that they must have the type of the file, so they take the type `dtype` when they are copied.

    Raises:
        ModelError: dtype is unknown, or weights are missing, broken, or of other shapes.
    """
    computed_in, sharing = dtype_of(dtype), sharing_now()
    mapped = None
    if Path(path).is_dir() or sharing is not None:
        mapped = _stored_type(path, _safetensors_at(path))
    if sharing is None or new_head:  # what is drawn for a new head must not depend on the type of the file
        mapped = None
    elif mapped is None:
        warnings.warn(
            f"each rank reads all of {path} into its memory before ranks share it out, because its weights are not in safetensors files "
            "of one of the types float32, bfloat16 and float16. Save it again with save_pretrained of transformers",
            stacklevel=2,
        )
    with without_reports():  # their content is in the messages below
        load = partial(auto.from_pretrained, path, config=config, dtype=mapped or computed_in, output_loading_info=True)
        module, report = read_by_transformers(path, "weights", partial(load, ignore_mismatched_sizes=new_head))
    missing = set(report["missing_keys"]) - (above_backbone(module) if new_head else set())
    if missing:
        raise ModelError(
            f"{path} holds another kind of model: it lacks weights that a {type(module).__name__} has ({_some(missing)}). "
            "Use weights and config.json of the same model"
        )
    if report["unexpected_keys"] and not new_head:
        unused = _some(report["unexpected_keys"])
        warnings.warn(f"{path} holds weights that a {type(module).__name__} does not use ({unused}); Palate ignores them", stacklevel=2)
    if sharing is None:
        return placed(module)
    share_out(module, sharing, computed_in)
    module.config.dtype = computed_in
    return module


def read_by_transformers(path: str | Path, what: str, read: Callable[[], T]) -> T:
    """Return what `read` returns; errors of transformers on bad files become a ModelError."""
    try:
        with no_progress_bars():
            return read()
    except _UNREADABLE as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{path}: {what} cannot be read, because the model brings code of its own (auto_map), which Palate does not run. "
                "Use a model whose architecture is part of transformers"
            ) from error
        reason = f"({type(error).__name__}: {str(error).strip() or 'no reason given'})"
        if not Path(path).exists():
            raise ModelError(f"{path} is not a directory here, and a hub did not give {what} of a model of that name {reason}") from error
        raise ModelError(f"{path}: {what} cannot be read {reason}") from error


def _safetensors_at(path: str | Path) -> Sequence[str]:
    """Return the safetensors files of a model, in a directory or of a name on the hub; nothing where its weights are in other files.

    Raises:
        ModelError: the index is broken, or names a file that is missing.
    """
    if (whole := _file_at(path, SAFE_WEIGHTS_NAME)) is not None:
        return [whole]
    if (index := _file_at(path, SAFE_WEIGHTS_INDEX_NAME)) is None:
        return []
    try:
        names = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read ({type(error).__name__}: {error}). Copy the file again") from error
    files = {name: _file_at(path, name) for name in names}
    if absent := [name for name, file in files.items() if file is None]:
        raise ModelError(f"{path}: weights cannot be read ({_some(absent)} is missing, which {index} names). Copy the directory again")
    return [file for file in files.values() if file is not None]


def _file_at(path: str | Path, name: str) -> str | None:
    try:
        file: str | None = cached_file(str(path), name)
    except OSError:
        return None
    return file


def _stored_type(path: str | Path, files: Sequence[str]) -> torch.dtype | None:
    """Return a type that holds all weights in some files as they are; None where there is none, or no file.

    Raises:
        ModelError: a file is broken.
    """
    types: set[str] = set()
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                types |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118  # it is not a mapping
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: weights cannot be read ({file}: {error}). Copy the file again") from error
    if not types or not types <= _TYPES.keys():
        return None
    return _TYPES[types.pop()] if len(types) == 1 else torch.float32


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])
