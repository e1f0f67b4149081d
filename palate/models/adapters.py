"""LoRA (Hu et al. 2021) with peft: small trainable matrices beside the frozen linear layers of a model.

peft replaces linear layers inside a module. The module stays a Hugging Face model, so packed trees, the sampler and the scalar heads use it
as before. Only this file uses peft.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from palate.core import ConfigError, ModelError
from palate.models.cpu import PLAIN
from palate.models.four_bit import FourBit, fingerprint, four_bit_layers
from palate.models.shards import is_shared_out
from palate.models.shared_layers import make_whole, take_back
from palate.models.tensor_files import writing_tensors
from palate.models.transformers_io import on_cpu

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FILE = "adapter_config.json"
"""File that a directory with an adapter has instead of config.json."""
BASE_FILE = "base.json"
DEFAULT = "default"
"""peft's name for the adapter whose files are at the top of a directory; other adapters get a folder of their name."""


@dataclass(frozen=True)
class LoRA:
    """Train small matrices beside frozen layers instead of the whole model.

    Attributes:
        rank: inner width of the matrices.
        alpha: the adapter's output is scaled by alpha / rank.
        target_modules: endings of the names of the layers that get an adapter; none gives one to every linear layer except the head.
        modules_to_save: endings of the names of modules that are trained and saved as a whole beside the adapter.
        base_dtype: nf4 holds the frozen linear layers in 4 bits (QLoRA), which needs `palate[quant]`; none holds them in `dtype`. Products
            are computed in `dtype` either way. The adapter is merged into the base as it is on disk.
        merge: write `model/`, an ordinary model with the adapter merged; false writes only `adapter/`, which is small.
    """

    kind: Literal["lora"] = "lora"
    rank: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    base_dtype: Literal["nf4"] | None = None
    merge: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ConfigError(f"an adapter needs a rank of 1 or more and an alpha above 0, got {self.rank} and {self.alpha}")


def four_bit_of(adapters: LoRA | None) -> FourBit | None:
    """Return how the base of these adapters is quantised when it is loaded; None where it is not."""
    return None if adapters is None or adapters.base_dtype is None else FourBit(keep=adapters.modules_to_save)


class Adapters:
    """The adapters on one module, by name. They share the module's own weights, which are frozen.

    A new adapter does not change the module, because the outer of its two matrices is 0.
    """

    def __init__(self, module: PreTrainedModel, base: str) -> None:
        """Prepare `module`; `base`, the path or hub name it was loaded from, is written beside every adapter."""
        self._module = module
        self._fingerprint = fingerprint(module)
        self._wrapped: PeftModel | None = None
        self.move_base(base)

    def move_base(self, base: str) -> None:
        """Say where the base is now: `base` holds the same weights."""
        self.base = base
        """Path or hub name of the model that the adapters are for."""
        self._module.name_or_path = str(Path(base).resolve()) if Path(base).exists() else base  # peft writes it into a new adapter
        for config in {} if self._wrapped is None else self._wrapped.peft_config.values():
            config.base_model_name_or_path = self._module.name_or_path

    def add(self, lora: LoRA, seed: int, name: str = DEFAULT) -> None:
        """Add an adapter with inner matrices drawn from `seed`, and make it active.

        Raises:
            ModelError: the model has no such layers, or they cannot have an adapter.
        """
        from peft import LoraConfig, get_peft_model

        is_scalar = "score" in dict(self._module.named_children())
        config = LoraConfig(
            task_type="SEQ_CLS" if is_scalar else "CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides it, whatever number it is
            fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in self._module.modules()),
            target_modules=list(lora.target_modules) or "all-linear",
            modules_to_save=list(dict.fromkeys((*lora.modules_to_save, *(("score",) if is_scalar else ())))) or None,
        )
        take_back(self._module, lora.modules_to_save)
        with torch.random.fork_rng(devices=[]), _as_model_error(f"no adapter fits {self.base}"):
            torch.manual_seed(seed)
            if self._wrapped is None:
                self._wrapped = get_peft_model(self._module, config, adapter_name=name)  # type: ignore[assignment]
            else:
                self._wrapped.add_adapter(name, config)
        self.activate(name)
        self._check_embeddings()

    def load(self, directory: str | Path, name: str = DEFAULT) -> None:
        """Load the adapter in a directory, which was made for this base, and make it active.

        Raises:
            ModelError: it was made for another base, or cannot be read.
        """
        from peft import PeftModel, get_peft_model_state_dict
        from peft.utils import load_peft_weights

        made_for, base_fingerprint = base_of(directory)
        if base_fingerprint is not None and base_fingerprint != self._fingerprint:
            raise ModelError(
                f"the adapter {directory} was made for {made_for}, and {self.base} is another model: use the model it was made for, "
                "or train the adapter again"
            )
        take_back(self._module, trained_whole(directory))
        with _as_model_error(f"the adapter {directory}, made for {made_for}, does not fit {self.base}"):
            if self._wrapped is None:
                self._wrapped = PeftModel.from_pretrained(self._module, str(directory), adapter_name=name, is_trainable=True)
            else:
                self._wrapped.load_adapter(str(directory), name, is_trainable=True)
            # peft loads the names it knows and only warns of the others. Embeddings as a whole may come along or not.
            needed, known = (get_peft_model_state_dict(self._wrapped, None, name, save_embedding_layers=saves) for saves in (False, True))
            stored = load_peft_weights(str(directory))
            if odd := (needed.keys() - stored.keys()) | (stored.keys() - known.keys()):
                raise ValueError(f"only one of them has {min(odd)}")
        self.activate(name)
        self._check_embeddings()

    def start_as(self, other: Adapters) -> bool:
        """Copy the values of another module's active adapter; return False and copy nothing if its matrices have other shapes."""
        mine, theirs = self._matrices(), other._matrices()
        if {name: p.shape for name, p in mine.items()} != {name: p.shape for name, p in theirs.items()}:
            return False
        with torch.no_grad():
            for name, p in mine.items():
                p.copy_(theirs[name])
        return True

    def _matrices(self) -> dict[str, Tensor]:
        """Return the backbone's adapter matrices by name."""
        return {name: p for name, p in self._module.base_model.named_parameters() if ".lora_" in name}

    def activate(self, name: str) -> None:
        """Make the module compute with this adapter and learn its matrices."""
        self._peft.set_adapter(name)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Turn the module into its base inside the context. Do not train there."""
        with self._peft.disable_adapter():
            yield

    def save(self, directory: str | Path) -> None:
        """Write every adapter in peft's format, with the base that it belongs to."""
        with _as_model_error(f"the adapter cannot be written to {directory}"):
            # peft would write tensors as they are; modules_to_save are saved anyway
            weights = on_cpu(self._peft, lambda name, x: not name.endswith(".base_layer.weight") and not is_shared_out(x))
            with writing_tensors(directory):
                self._peft.save_pretrained(str(directory), save_embedding_layers=False, state_dict=weights)
        for name in self._peft.peft_config:
            folder = Path(directory) / ("" if name == DEFAULT else name)
            settings = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
            settings["target_modules"] = sorted(settings["target_modules"])  # peft has a set; sorted, the same run writes the same bytes
            (folder / ADAPTER_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            (folder / BASE_FILE).write_text(json.dumps({"base": self._name_from(folder), "fingerprint": self._fingerprint}) + "\n")

    def merge(self) -> None:
        """Add the active adapter to the module's weights and remove all adapters, so the module is an ordinary one again.

        It replaces the weights and does not change them in place, because another model may share them (see `share_frozen`). Those of 4-bit
        layers are dequantised. To merge the adapter into the base as it was, save it and load the directory.
        """
        from peft.tuners.lora import Linear

        make_whole(self._module)
        for name, layer in four_bit_layers(self._module).items():
            parent = self._module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], layer.plain())
            if isinstance(parent, Linear):
                parent.fan_in_fan_out = layer.is_transposed
        for name, p in self._module.named_parameters():
            if ".base_layer." in name:
                p.data = p.data.clone()
        with _as_model_error(f"the adapter cannot be merged into {self.base}"):
            self._peft.merge_and_unload()
        self._module.requires_grad_(requires_grad=True)
        self._wrapped = None

    @property
    def _peft(self) -> PeftModel:
        assert self._wrapped is not None, "there is no adapter yet: call add or load first"
        return self._wrapped

    def _name_from(self, folder: Path) -> str:
        """Return the base relative to `folder`, so that both can move together; a hub name stays as it is."""
        return os.path.relpath(Path(self.base).resolve(), folder.resolve()) if Path(self.base).exists() else self.base

    def _check_embeddings(self) -> None:
        """Refuse adapters that the packed path or a merge would compute wrongly.

        Log-probabilities come from the head's own weight, which would silently ignore an adapter there. Tied embeddings are one weight in
        two places: trained in only one of them, they would differ in the merged model.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import AuxiliaryTrainingWrapper

        head, embeddings = self._module.get_output_embeddings(), self._module.get_input_embeddings()
        is_tied = self._module.config.get_text_config().tie_word_embeddings
        if is_tied and any(isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper) for layer in (head, embeddings)):
            raise ModelError(
                f"{self.base} ties its input and output embeddings, so neither can be trained beside an adapter: "
                "leave them out of target_modules and modules_to_save"
            )
        if isinstance(head, BaseTunerLayer):
            raise ModelError("target_modules names the output embeddings, which cannot carry an adapter: name them in modules_to_save")


def low_rank(layer: nn.Module) -> tuple[nn.Linear, list[tuple[Tensor, Tensor, float]]] | None:
    """Return a linear layer, and for each active adapter on it the inner matrix (r, d), the outer matrix (n, r) and the scale.

    Returns None where the layer computes anything but x W^T + b + sum(scale x A^T B^T), as with DoRA.
    """
    if isinstance(layer, nn.Linear) and type(layer) in PLAIN:
        return layer, []
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or type(layer.base_layer) not in PLAIN or layer.merged:  # Palate does not keep merged adapters on a layer
        return None
    base = cast("nn.Linear", layer.base_layer)
    lora: Any = layer
    names = [] if lora.disable_adapters else [name for name in lora.active_adapters if name in lora.lora_A]
    if any(name in lora.lora_variant or lora.lora_B[name].bias is not None for name in names):
        return None
    return base, [(lora.lora_A[name].weight, lora.lora_B[name].weight, float(lora.scaling[name])) for name in names]


def is_adapter(path: str | Path) -> bool:
    """Return whether a directory holds an adapter in place of a model."""
    directory = Path(path)
    return (directory / ADAPTER_FILE).is_file() and not (directory / "config.json").is_file()


def trained_whole(directory: str | Path) -> tuple[str, ...]:
    """Return the endings of the names of modules that an adapter brings as a whole."""
    settings = json.loads((Path(directory) / ADAPTER_FILE).read_text(encoding="utf-8"))
    return tuple(settings.get("modules_to_save") or ())


def base_of(directory: str | Path) -> tuple[str, str | None]:
    """Return the model that an adapter was made for, and its fingerprint if Palate made the adapter.

    Raises:
        ModelError: the adapter's files cannot be read, or its base is gone.
    """
    base_file, adapter_file = Path(directory) / BASE_FILE, Path(directory) / ADAPTER_FILE
    try:
        base = str(json.loads(adapter_file.read_text(encoding="utf-8"))["base_model_name_or_path"])
        if not base_file.is_file():
            return base, None
        record = json.loads(base_file.read_text(encoding="utf-8"))
        local_base = Path(directory) / record["base"]
        if not local_base.exists() and Path(base).is_absolute() and not Path(base).exists():
            raise ModelError(
                f"the adapter {directory} was made for {base}, which is gone: bring that model back, or train the adapter again"
            )
        return (str(local_base.resolve()) if local_base.exists() else base), record["fingerprint"]
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{directory}: the adapter does not name its base ({type(error).__name__}: {error})") from error


def read_by_peft(directory: str | Path, num_labels: int | None) -> Any:
    """Return the module that peft loads from an adapter's directory: a language model, or with `num_labels` one that scores."""
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification

    if num_labels is None:
        return AutoPeftModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return AutoPeftModelForSequenceClassification.from_pretrained(directory, num_labels=num_labels, dtype=torch.float32)


@contextmanager
def _as_model_error(what: str) -> Iterator[None]:
    """Turn errors of peft into a ModelError and ignore its warnings, which this file checks or which concern only transformers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{what} ({type(error).__name__}: {str(error).strip()[:400]})") from error
