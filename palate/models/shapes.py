"""Sizes of models, read from their config.json or a table of published ones, without any weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from palate.core import ConfigError, ModelError
from palate.models.encoders import is_encoder
from palate.models.load import Architecture, load_config
from palate.models.paths import longest_sequence
from palate.models.shared_layers import layers_of
from palate.models.transformers_io import without_reports

Sizes = tuple[str, int, int, int, int, int, int, int, bool, int]
"""Family, width, layers, heads, key heads, width of a head, inner width of the MLP, vocabulary, tied embeddings, positions."""

PUBLISHED: Mapping[str, Sizes] = {
    "Qwen2.5-0.5B": ("qwen2", 896, 24, 14, 2, 64, 4864, 151_936, True, 32_768),
    "Qwen2.5-1.5B": ("qwen2", 1536, 28, 12, 2, 128, 8960, 151_936, True, 32_768),
    "Qwen2.5-3B": ("qwen2", 2048, 36, 16, 2, 128, 11_008, 151_936, True, 32_768),
    "Qwen2.5-7B": ("qwen2", 3584, 28, 28, 4, 128, 18_944, 152_064, False, 32_768),
    "Qwen2.5-14B": ("qwen2", 5120, 48, 40, 8, 128, 13_824, 152_064, False, 32_768),
    "Qwen2.5-32B": ("qwen2", 5120, 64, 40, 8, 128, 27_648, 152_064, False, 32_768),
    "Qwen2.5-72B": ("qwen2", 8192, 80, 64, 8, 128, 29_568, 152_064, False, 32_768),
    "Qwen3-0.6B": ("qwen3", 1024, 28, 16, 8, 128, 3072, 151_936, True, 40_960),
    "Qwen3-1.7B": ("qwen3", 2048, 28, 16, 8, 128, 6144, 151_936, True, 40_960),
    "Qwen3-4B": ("qwen3", 2560, 36, 32, 8, 128, 9728, 151_936, True, 40_960),
    "Qwen3-8B": ("qwen3", 4096, 36, 32, 8, 128, 12_288, 151_936, False, 40_960),
    "Llama-3.2-1B": ("llama", 2048, 16, 32, 8, 64, 8192, 128_256, True, 131_072),
    "Llama-3.1-8B": ("llama", 4096, 32, 32, 8, 128, 14_336, 128_256, False, 131_072),
    "Llama-3.1-70B": ("llama", 8192, 80, 64, 8, 128, 28_672, 128_256, False, 131_072),
}
"""Sizes as their authors published them in config.json."""

SHORT_NAMES: Mapping[str, str] = {
    "0.5B": "Qwen2.5-0.5B",
    "0.6B": "Qwen3-0.6B",
    "1B": "Llama-3.2-1B",
    "1.5B": "Qwen2.5-1.5B",
    "1.7B": "Qwen3-1.7B",
    "3B": "Qwen2.5-3B",
    "4B": "Qwen3-4B",
    "7B": "Qwen2.5-7B",
    "8B": "Llama-3.1-8B",
    "14B": "Qwen2.5-14B",
    "32B": "Qwen2.5-32B",
    "70B": "Llama-3.1-70B",
    "72B": "Qwen2.5-72B",
}
"""What a size alone means."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a causal language model on which its memory and its time depend.

    Attributes:
        name: what to call it.
        hidden_size: width of the residual stream.
        layers: transformer blocks.
        heads: attention heads for queries.
        kv_heads: attention heads for keys and values.
        head_dim: width of an attention head.
        intermediate_size: width inside the feed-forward part.
        vocabulary: rows of the embeddings.
        positions: the most tokens of a sequence; None where the model has no limit.
        backbone: numbers below the output head.
        output_head: numbers of the output head; 0 where it is tied to the embeddings.
        layer_numbers: numbers of the transformer blocks, which ranks can share out.
        linear_numbers: numbers of the backbone's linear layers.
        linear_widths: inputs plus outputs of these layers, added up by the last part of their names.
        has_head_norms: whether queries and keys are normalised.
        is_gated: whether the feed-forward part multiplies by a gate.
    """

    name: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    positions: int | None
    backbone: int
    output_head: int
    layer_numbers: int
    linear_numbers: int
    linear_widths: Mapping[str, int]
    has_head_norms: bool
    is_gated: bool

    @property
    def parameters(self) -> int:
        """Return the numbers of the whole model."""
        return self.backbone + self.output_head

    def adapter(self, rank: int, targets: Sequence[str] = ()) -> int:
        """Return the numbers of an adapter of this rank on the layers that `targets` end in, or on all linear layers."""
        return rank * sum(self.linear_widths[name] for name in self.adapted(targets))

    def adapted(self, targets: Sequence[str] = ()) -> frozenset[str]:
        """Return the last parts of the names of layers that get an adapter."""
        wanted = {target.rpartition(".")[2] for target in targets} or set(self.linear_widths)
        return frozenset(wanted & set(self.linear_widths))


def find_shape(name: str) -> ModelShape:
    """Return the sizes of the model that `name` means: a directory, a published size such as `7B`, or a model in the hub's cache.

    Raises:
        ConfigError: there is no such size, directory or model.
        ModelError: a directory has no config.json, or cannot be read.
    """
    if Path(name).exists():
        return shape_of_config(load_config(name), Path(name).name)
    short = name.rpartition("/")[2]
    known = {key.lower(): value for key, value in (*SHORT_NAMES.items(), *((full, full) for full in PUBLISHED))}
    for candidate in (short, short.removesuffix("-Instruct"), short.removesuffix("-Base")):
        if candidate.lower() in known:
            return published_shape(known[candidate.lower()])
    try:
        with without_reports():
            config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no model {name!r}: it is not a directory, not in the hub's cache, and not a published size. "
            f"Give the path of a model, or one of {', '.join(SHORT_NAMES)}, {', '.join(PUBLISHED)}"
        ) from error
    return shape_of_config(config, short)


@cache
def published_shape(name: str) -> ModelShape:
    """Return the sizes of one of `PUBLISHED`."""
    return shape_of_config(published_config(name), name)


def published_config(name: str) -> PretrainedConfig:
    """Return a configuration with the sizes of one of `PUBLISHED`."""
    family, width, layers, heads, kv_heads, head_dim, inner, vocabulary, is_tied, positions = PUBLISHED[name]
    return AutoConfig.for_model(
        family,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=is_tied,
        max_position_embeddings=positions,
    )


def shape_of_architecture(architecture: Architecture, vocabulary: int, name: str) -> ModelShape:
    """Return the sizes of the model that stage `pretrain` makes."""
    return shape_of_config(architecture.config(vocabulary), name)


def shape_of_config(config: PretrainedConfig, name: str) -> ModelShape:
    """Return the sizes of the model of a configuration. The model is built without memory for its weights.

    Raises:
        ModelError: transformers cannot build a causal language model or an encoder from the configuration.
    """
    try:
        with torch.device("meta"), without_reports():
            module = (AutoModelForSequenceClassification if is_encoder(config) else AutoModelForCausalLM).from_config(config)
        return _shape_of(module, config, name)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{name}: its config.json does not describe a language model of transformers ({error})") from error


def _shape_of(module: PreTrainedModel, config: PretrainedConfig, name: str) -> ModelShape:
    text = config.get_text_config()
    settings = text.to_dict()
    backbone = sum(p.numel() for p in module.base_model.parameters())
    widths: dict[str, int] = {}
    numbers = 0
    for path, layer in module.base_model.named_modules():
        weight = dict(layer.named_parameters(recurse=False)).get("weight")
        if weight is not None and weight.ndim == 2 and not isinstance(layer, torch.nn.Embedding):
            last = path.rpartition(".")[2]
            widths[last] = widths.get(last, 0) + sum(weight.shape)
            numbers += weight.numel()
    heads = int(settings.get("num_attention_heads") or settings.get("n_head") or 1)
    return ModelShape(
        name=name,
        hidden_size=int(text.hidden_size),
        layers=int(text.num_hidden_layers),
        heads=heads,
        kv_heads=int(settings.get("num_key_value_heads") or heads),
        head_dim=int(settings.get("head_dim") or text.hidden_size // heads),
        intermediate_size=int(settings.get("intermediate_size") or settings.get("n_inner") or 4 * text.hidden_size),
        vocabulary=int(text.vocab_size),
        positions=longest_sequence(config),
        backbone=backbone,
        output_head=sum(p.numel() for p in module.parameters()) - backbone,  # a tied weight is one parameter
        layer_numbers=sum(p.numel() for _, weights in layers_of(module) for p in weights),
        linear_numbers=numbers,
        linear_widths=widths,
        has_head_norms=any(path.endswith("q_norm") for path, _ in module.named_modules()),
        is_gated=any("gate" in name for name in widths),
    )
