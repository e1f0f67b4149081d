"""Frozen linear layers in 4 bits (QLoRA, Dettmers et al. 2023): a base that needs a quarter of the memory of bfloat16.

bitsandbytes quantises and dequantises: normal floats of 4 bits (nf4) in blocks of 64, whose scales are quantised to 8 bits in their turn
(double quantisation), 0.52 bytes per weight in all. The products are torch's, on the dequantised weight of one layer at a time.
bitsandbytes has products of its own, but chooses among kernels that round differently with and without a gradient, and rearranges weights
in place. Then sampler and learner, or policy and reference, would disagree, and models could not share weights.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from palate.core import ConfigError, ModelError
from palate.core.process import computing_on
from palate.models.cpu import PLAIN, linear
from palate.models.devices import current_device, placed
from palate.models.shared_layers import readable, share_out, whole_on_cpu

OLDEST = (0, 50)
"""The first release of bitsandbytes that does everything on a CPU too, where this is tested."""
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that Palate does not use; peft imports it too
INSTALL = "pip install 'palate[quant]'"
SAMPLED = 64
"""Number of values of each weight from which a model's fingerprint is made, which is enough to distinguish two models."""


class HasModule(Protocol):
    """A model that wraps a module of transformers."""

    @property
    def module(self) -> PreTrainedModel:
        """Return the module."""
        ...


P = TypeVar("P", bound=HasModule)


@dataclass(frozen=True)
class FourBit:
    """Quantise the linear layers of a backbone when it is loaded, except those inside modules whose names end with one of `keep`."""

    keep: tuple[str, ...] = ()


def bitsandbytes(setting: str) -> Any:
    """Return the package, for the setting that needs it.

    Raises:
        ConfigError: it is missing, too old or broken; the message has the setting and the command that installs it.
    """
    try:
        package = importlib.import_module("bitsandbytes")
    except ImportError as error:
        reason = "which is not installed" if error.name == "bitsandbytes" else f"which cannot be imported ({error})"
        raise ConfigError(f"{setting} needs bitsandbytes, {reason}: {INSTALL}") from error
    found = re.match(r"(\d+)\.(\d+)", package.__version__)
    if found is None or tuple(map(int, found.groups())) < OLDEST:
        raise ConfigError(
            f"{setting} needs bitsandbytes {'.'.join(map(str, OLDEST))} or newer, and {package.__version__} is installed: "
            f"{INSTALL} --upgrade"
        )
    return package


class FourBitLinear(nn.Linear):
    """A linear layer whose weight is frozen in 4 bits. It computes in the type of its input."""

    weight: nn.Parameter
    """The packed weight, (n * d / 2, 1) in bytes."""

    def __init__(self, layer: nn.Linear | Conv1D, device: torch.device) -> None:
        """Quantise the weight of `layer` on `device`, and move its bias there."""
        nn.Module.__init__(self)  # that of a linear layer would make a float32 weight
        self.is_transposed = isinstance(layer, Conv1D)
        """Whether the model's files hold the weight as (d, n)."""
        original = layer.weight.detach()
        self.original_shape = tuple(original.shape)
        """The shape of the weight in the model's files."""
        self.sample = sampled(original)
        weight = (original.T if self.is_transposed else original).to(device, torch.float32).contiguous()
        self.out_features, self.in_features = weight.shape
        functional = bitsandbytes("base_dtype nf4").functional
        packed, self._scales = functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
        self._dequantise = functional.dequantize_4bit
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().to(device, torch.float32), requires_grad=False)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Return `x @ weight.T + bias` (..., n) of x (..., d)."""
        product: Tensor = _Product.apply(x, self.bias, self)  # type: ignore[no-untyped-call]
        return product

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """Return the weight (n, d) that the layer computes with."""
        scales = copy.copy(self._scales)
        scales.dtype = dtype
        weight: Tensor = self._dequantise(self.weight.detach(), scales)
        return weight

    def plain(self) -> nn.Linear | Conv1D:
        """Return a layer of the kind that was quantised, with the weight that this one computes with."""
        width, is_biased = (self.out_features, self.in_features), self.bias is not None
        with torch.device("meta"):
            made = Conv1D(*width) if self.is_transposed else nn.Linear(self.in_features, self.out_features, is_biased)
        weight = self.dequantised(torch.float32)
        made.weight = nn.Parameter(weight.T.contiguous() if self.is_transposed else weight, requires_grad=False)
        made.bias = self.bias
        return made

    def is_equal(self, other: FourBitLinear) -> bool:
        """Return whether the other layer has the same weight, on the same device."""
        if self.weight.device != other.weight.device or self.original_shape != other.original_shape:
            return False
        pairs = zip(self._tensors(), other._tensors(), strict=True)
        return all(one is two or torch.equal(one, two) for one, two in pairs)

    def share(self, other: FourBitLinear) -> None:
        """Hold the other layer's weight, which must be equal, in place of one's own."""
        self.weight.data, self._scales = other.weight.data, other._scales

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of the weight with its scales."""
        return sum(x.numel() * x.element_size() for x in self._tensors())

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.weight.data, self._scales.absmax, self._scales.offset, self._scales.state2.absmax

    def _apply(self, fn: Any, recurse: bool = True) -> FourBitLinear:  # noqa: FBT001, FBT002  # torch's own signature
        """Move the layer as torch moves modules. No change of type reaches the packed weight and its scales."""
        super()._apply(fn, recurse)
        if self._scales.absmax.device != self.weight.device:
            self._scales = copy.deepcopy(self._scales)
            self._scales.to(self.weight.device)
        return self


class _Product(torch.autograd.Function):
    """A product with a frozen 4-bit weight. It keeps neither its input nor a dequantised weight for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: FourBitLinear) -> Tensor:
        """Return x (..., d) times the transposed weight, plus the bias."""
        ctx.layer = layer
        return linear(x, layer.dequantised(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        """Return the gradient of the input."""
        gradient = grads[0]
        return (gradient @ ctx.layer.dequantised(gradient.dtype) if ctx.needs_input_grad[0] else None), None, None


def quantised(load: Callable[[], P], four_bit: FourBit) -> P:
    """Load a model on the CPU, and return it with 4-bit linear layers on the process's device.

    Where ranks share it out, each packs all of it before, because the scales of a weight cannot be cut into slices.

    Raises:
        ConfigError: bitsandbytes is missing or too old.
        ModelError: the model cannot be loaded or quantised.
    """
    bitsandbytes("base_dtype nf4")  # before the model is read, which takes longer
    with whole_on_cpu() as sharing, computing_on("cpu"):
        model = load()
    quantise(model.module, four_bit)
    share_out(model.module, sharing)
    return model


def quantise(module: PreTrainedModel, how: FourBit) -> None:
    """Turn the linear layers of a model's backbone into 4-bit ones, on the process's device; all else moves there in float32.

    Embeddings, the output embeddings and the heads of scalar models stay as they are. The model's layers may be on the CPU: each is moved,
    quantised and freed before the next, so a device never holds the whole model in another type.

    Raises:
        ConfigError: bitsandbytes is missing or too old.
        ModelError: a part of the backbone that is neither a linear layer nor an embedding holds matrices, such as experts do.
    """
    bitsandbytes("base_dtype nf4")
    layers = _linear_layers(module, how.keep)
    _require_known(module, [layer for _, _, layer in layers], how.keep)
    device, made = current_device(), dict[int, FourBitLinear]()
    for parent, name, layer in layers:
        made[id(layer)] = made.get(id(layer)) or FourBitLinear(layer, device)
        setattr(parent, name, made[id(layer)])
    del layers
    for p in module.parameters():
        if p.is_floating_point():
            p.data = p.data.float()
    placed(module, device)


def four_bit_layers(module: nn.Module) -> dict[str, FourBitLinear]:
    """Return the 4-bit layers of a module by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, FourBitLinear)}


def sampled(weight: Tensor) -> Tensor:
    """Return some values of a weight as integers that are equal where the weights are equal after rounding to bfloat16."""
    values = weight.detach().flatten()
    return values[:: max(1, values.numel() // SAMPLED)].to("cpu", torch.bfloat16).view(torch.int16).clone()


def fingerprint(module: PreTrainedModel) -> str:
    """Return 16 hex digits from names, shapes and some values of a backbone's weights; rounding to bfloat16 makes both dtypes equal.

    A quantised layer has its values from before.
    """
    digest = hashlib.sha256()
    packed = {id(layer.weight): layer for layer in four_bit_layers(module).values()}
    for name, p in module.base_model.named_parameters():
        layer = packed.get(id(p))
        shape, sample = (tuple(p.shape), sampled(readable(p))) if layer is None else (layer.original_shape, layer.sample)
        digest.update(f"{name} {shape}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _linear_layers(module: PreTrainedModel, keep: Sequence[str]) -> list[tuple[nn.Module, str, nn.Linear | Conv1D]]:
    """Return the layers to quantise, each with its parent and its name there."""
    head = module.get_output_embeddings()
    found: list[tuple[nn.Module, str, nn.Linear | Conv1D]] = []
    for path, parent in module.base_model.named_modules():
        for name, layer in parent.named_children():
            is_linear = isinstance(layer, Conv1D) or type(layer) in PLAIN
            if is_linear and layer is not head and not _is_kept(f"{path}.{name}", keep):
                found.append((parent, name, cast("nn.Linear | Conv1D", layer)))
    return found


def _is_kept(path: str, keep: Sequence[str]) -> bool:
    """Return whether a module, or one that it lies in, has a name with one of these endings."""
    names = path.split(".")
    return any(".".join(names[: k + 1]).endswith(end) for k in range(len(names)) for end in keep)


def _require_known(module: PreTrainedModel, layers: Sequence[nn.Module], keep: Sequence[str]) -> None:
    """Raise ModelError where matrices of the backbone are neither quantised, nor embeddings or convolutions, nor kept on purpose.

    They may be most of the model, as experts are; or the layer may compute with the weights of linear layers inside it by itself.
    """
    known = {id(p) for layer in layers for p in layer.parameters()}
    small = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    known |= {id(p) for layer in module.modules() if isinstance(layer, small) for p in layer.parameters()}
    head = module.get_output_embeddings()
    known |= set() if head is None else {id(p) for p in head.parameters()}
    for path, layer in module.base_model.named_modules():
        for name, p in layer.named_parameters(recurse=False):
            if p.ndim >= 2 and id(p) not in known and not _is_kept(path, keep):
                raise ModelError(
                    f"base_dtype nf4 quantises linear layers, and {path}.{name} of {module.name_or_path or type(module).__name__} belongs "
                    f"to a layer of another kind ({type(layer).__name__}). Leave base_dtype out, or use a model of linear layers"
                )
    if not layers:
        raise ModelError(f"base_dtype nf4 finds no linear layer in {module.name_or_path or type(module).__name__}: leave base_dtype out")
