"""LoRA (Hu et al. 2021) by way of peft: small trainable matrices beside the frozen linear layers of a model.

peft replaces linear layers inside the module it is given. The module stays the Hugging Face model it was, so packed trees, the
sampler and the scalar heads meet it as before; only here is peft known.
"""

from __future__ import annotations

import hashlib
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

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FILE = "adapter_config.json"
"""What a directory with an adapter has instead of config.json."""
BASE_FILE = "base.json"
_WRAPPED = ".base_layer"
"""What peft inserts into the name of a weight that it puts an adapter beside."""
DEFAULT = "default"
"""peft's name for the adapter whose files lie at the top of a directory; others get a folder of their name."""
SAMPLED = 64
"""Values of each tensor that go into a fingerprint: enough to tell two models apart."""


@dataclass(frozen=True)
class LoRA:
    """Train small matrices beside frozen layers instead of the whole model.

    Attributes:
        rank: inner width of the matrices.
        alpha: the adapter's output is scaled by alpha / rank.
        target_modules: endings of the names of the layers that get them; none gives them to every linear layer but the head.
        modules_to_save: endings of the names of modules that are trained and saved as a whole beside them.
        merge: write `model/`, an ordinary model with the adapter worked in; false leaves `adapter/` alone, which is small.
    """

    kind: Literal["lora"] = "lora"
    rank: int = 16
    alpha: float = 32.0
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    merge: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ConfigError(f"an adapter needs a rank of 1 or more and an alpha above 0, got {self.rank} and {self.alpha}")


class Adapters:
    """The adapters on one module, by name. The module's own weights are frozen, and shared by all of them.

    An adapter starts as no change at all: the outer of its two matrices is 0.
    """

    def __init__(self, module: PreTrainedModel, base: str) -> None:
        """`base`: the path or hub name `module` was loaded from; it is written beside every adapter."""
        self._module = module
        self._module.name_or_path = str(Path(base).resolve()) if Path(base).exists() else base  # what peft writes into the adapter
        self._base = base
        self._fingerprint = fingerprint(module)
        self._wrapped: PeftModel | None = None

    def add(self, lora: LoRA, seed: int, name: str = DEFAULT) -> None:
        """A new adapter, its inner matrices drawn from `seed`; it is the active one.

        Raises:
            ModelError: the model has no such layers, or they cannot carry an adapter.
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
        with torch.random.fork_rng(devices=[]), _told(f"no adapter fits {self._base}"):
            torch.manual_seed(seed)
            if self._wrapped is None:
                self._wrapped = get_peft_model(self._module, config, adapter_name=name)  # type: ignore[assignment]
            else:
                self._wrapped.add_adapter(name, config)
        self.activate(name)
        self._check_embeddings()

    def load(self, directory: str | Path, name: str = DEFAULT) -> None:
        """The adapter in a directory, made for this very base; it is the active one.

        Raises:
            ModelError: it was made for another base, or cannot be read.
        """
        from peft import PeftModel, get_peft_model_state_dict
        from peft.utils import load_peft_weights

        made_for, print_of_base = base_of(directory)
        if print_of_base is not None and print_of_base != self._fingerprint:
            raise ModelError(
                f"the adapter {directory} was made for {made_for}, and {self._base} is another model: give the model it was made for, "
                "or train the adapter again"
            )
        with _told(f"the adapter {directory}, made for {made_for}, does not fit {self._base}"):
            if self._wrapped is None:
                self._wrapped = PeftModel.from_pretrained(self._module, str(directory), adapter_name=name, is_trainable=True)
            else:
                self._wrapped.load_adapter(str(directory), name, is_trainable=True)
            taken, given = get_peft_model_state_dict(self._wrapped, adapter_name=name), load_peft_weights(str(directory))
            if taken.keys() != given.keys():  # peft takes what it knows, and no more than warns of the rest
                raise ValueError(f"only one of them has {min(taken.keys() ^ given.keys())}")
        self.activate(name)

    def start_as(self, other: Adapters) -> bool:
        """Takes over the values of another module's active adapter; False, and nothing is done, where its matrices are of other shapes."""
        mine, theirs = self._matrices(), other._matrices()
        if {name: p.shape for name, p in mine.items()} != {name: p.shape for name, p in theirs.items()}:
            return False
        with torch.no_grad():
            for name, p in mine.items():
                p.copy_(theirs[name])
        return True

    def _matrices(self) -> dict[str, Tensor]:
        """The backbone's adapter matrices by name."""
        return {name: p for name, p in self._module.base_model.named_parameters() if ".lora_" in name}

    def activate(self, name: str) -> None:
        """From now on the module computes with this adapter, and its matrices are what learns."""
        self._peft.set_adapter(name)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the module is its base. Do not learn in it."""
        with self._peft.disable_adapter():
            yield

    def save(self, directory: str | Path) -> None:
        """Writes every adapter in peft's format, and which base it belongs to."""
        with _told(f"the adapter cannot be written to {directory}"):
            self._peft.save_pretrained(str(directory), save_embedding_layers=False)  # modules_to_save are saved all the same
        for name in self._peft.peft_config:
            folder = Path(directory) / ("" if name == DEFAULT else name)
            settings = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
            settings["target_modules"] = sorted(settings["target_modules"])  # a set to peft: the same run is to give the same bytes
            (folder / ADAPTER_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            (folder / BASE_FILE).write_text(json.dumps({"base": self._name_from(folder), "fingerprint": self._fingerprint}) + "\n")

    def merge(self) -> None:
        """Adds the active adapter to the module's weights and takes all adapters off: the module is an ordinary one again.

        The weights are replaced: another model may hold the former ones (see `share_frozen`).
        """
        for name, p in self._module.named_parameters():
            if ".base_layer." in name:
                p.data = p.data.clone()
        with _told(f"the adapter cannot be worked into {self._base}"):
            self._peft.merge_and_unload()
        self._module.requires_grad_(requires_grad=True)
        self._wrapped = None

    @property
    def _peft(self) -> PeftModel:
        assert self._wrapped is not None, "there is no adapter yet: call add or load first"
        return self._wrapped

    def _name_from(self, folder: Path) -> str:
        """The base as seen from `folder`, so that both can move together; a hub's name as it is."""
        return os.path.relpath(Path(self._base).resolve(), folder.resolve()) if Path(self._base).exists() else self._base

    def _check_embeddings(self) -> None:
        """Refuses adapters that the packed path or a merge would get wrong.

        Log-probabilities are formed from the head's own weight, so an adapter there would be passed over without a word. Tied embeddings
        are one weight in two places: trained in one of them, they would be another in the merged model.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import AuxiliaryTrainingWrapper

        head, embeddings = self._module.get_output_embeddings(), self._module.get_input_embeddings()
        is_tied = self._module.config.get_text_config().tie_word_embeddings
        if is_tied and any(isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper) for layer in (head, embeddings)):
            raise ModelError(
                f"{self._base} ties its input and output embeddings, so neither can be trained beside an adapter: "
                "leave them out of target_modules and modules_to_save"
            )
        if isinstance(head, BaseTunerLayer):
            raise ModelError("target_modules names the output embeddings, which cannot carry an adapter: name them in modules_to_save")


def low_rank(layer: nn.Module) -> tuple[nn.Linear, list[tuple[Tensor, Tensor, float]]] | None:
    """A linear layer's own weight and bias, and of each active adapter on it inner matrix (r, d), outer matrix (n, r) and scale.

    None where the layer computes anything but x W^T + b + sum(scale x A^T B^T), as with DoRA.
    """
    if isinstance(layer, nn.Linear) and type(layer) in PLAIN:
        return layer, []
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or type(layer.base_layer) not in PLAIN or layer.merged:  # no adapter of ours is merged and stays
        return None
    base = cast("nn.Linear", layer.base_layer)
    lora: Any = layer
    names = [] if lora.disable_adapters else [name for name in lora.active_adapters if name in lora.lora_A]
    if any(name in lora.lora_variant or lora.lora_B[name].bias is not None for name in names):
        return None
    return base, [(lora.lora_A[name].weight, lora.lora_B[name].weight, float(lora.scaling[name])) for name in names]


def is_adapter(path: str | Path) -> bool:
    """Whether a directory holds an adapter in place of a model."""
    place = Path(path)
    return (place / ADAPTER_FILE).is_file() and not (place / "config.json").is_file()


def base_of(directory: str | Path) -> tuple[str, str | None]:
    """The model an adapter was made for, and its fingerprint where the adapter is of Palate's making.

    Raises:
        ModelError: the adapter's files cannot be read, or its base is gone.
    """
    own, place = Path(directory) / BASE_FILE, Path(directory) / ADAPTER_FILE
    try:
        base = str(json.loads(place.read_text(encoding="utf-8"))["base_model_name_or_path"])
        if not own.is_file():
            return base, None
        found = json.loads(own.read_text(encoding="utf-8"))
        near = Path(directory) / found["base"]
        if not near.exists() and Path(base).is_absolute() and not Path(base).exists():
            raise ModelError(
                f"the adapter {directory} was made for {base}, which is gone: bring that model back, or train the adapter again"
            )
        return (str(near.resolve()) if near.exists() else base), found["fingerprint"]
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{directory}: the adapter does not tell its base ({type(error).__name__}: {error})") from error


def fingerprint(module: PreTrainedModel) -> str:
    """16 hex digits from names, shapes and some values of a backbone's weights, rounded to bfloat16: alike for either dtype."""
    digest = hashlib.sha256()
    for name, p in module.base_model.named_parameters():
        values: Tensor = p.detach().flatten()
        some = values[:: max(1, values.numel() // SAMPLED)].to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(p.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]


def share_frozen(*modules: PreTrainedModel) -> int:
    """Frozen weights of backbones that are equal become the same memory; returns the bytes so saved.

    Weights are equal when place, type, shape and every value are. Nobody may write to them from then on: merging an adapter replaces them.
    """
    kept: dict[str, list[Tensor]] = {}
    saved = 0
    for module in modules:
        for name, weight in _backbone(module):
            earlier = kept.setdefault(name, [])
            same = next((w for w in earlier if w.dtype == weight.dtype and torch.equal(w, weight)), None)
            if same is None:
                earlier.append(weight)
            elif same.data_ptr() != weight.data_ptr():
                weight.data = same.data
                saved += same.numel() * same.element_size()
    return saved


def _backbone(module: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Frozen weights below the head, by the names they have without adapters."""
    return ((name.replace(_WRAPPED, ""), p) for name, p in module.base_model.named_parameters() if not p.requires_grad)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What peft raises becomes a ModelError; what it warns of is checked here, or is between it and transformers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{what} ({type(error).__name__}: {str(error).strip()[:400]})") from error
