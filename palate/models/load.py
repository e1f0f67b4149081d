"""Load models from directories and make new ones; every policy has its dropout off and its attention path chosen here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from palate.config.artifacts import absence_of, refuse_retired
from palate.core import ModelError
from palate.models.adapters import Adapters, base_of, is_adapter
from palate.models.causal import CausalPolicy
from palate.models.cpu import keep_few_kernels, keep_freed_memory, use_fast_products
from palate.models.devices import placed
from palate.models.encoders import require_decoder
from palate.models.four_bit import FourBit, quantised
from palate.models.model_files import load_module, read_by_transformers
from palate.models.paths import choose_path
from palate.models.precision import DType, dtype_of
from palate.models.shared_layers import share_out, whole_on_cpu
from palate.models.transformers_io import without_reports
from palate.text.ends import configured_ends, declare_ends

T = TypeVar("T")
_PLAIN_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_policy(path: str | Path, *, dtype: DType = "float32", four_bit: FourBit | None = None) -> CausalPolicy:
    """Return the policy in a local directory, or of that name on the hub; for an adapter's directory, its base with the adapter merged.

    With `four_bit` its linear layers are quantised and frozen, and the rest is float32.

    Raises:
        ConfigError: `four_bit` is given, and bitsandbytes is missing or too old.
        ModelError: no such directory, a file is missing or broken, model and tokenizer do not fit, or `four_bit` does not suit the model.
    """
    if four_bit is not None:
        return quantised(lambda: load_policy(path, dtype=stored_dtype(path)), four_bit)
    if is_adapter(path):
        with whole_on_cpu() as sharing:
            policy = base_policy(path)
            adapters = Adapters(policy.module, base_of(path)[0])
            adapters.load(path)
            adapters.merge()  # before weights are rounded: a narrow type would round most of a small change away
        share_out(policy.module, sharing, dtype_of(dtype))
        return policy
    config = load_config(path)
    require_decoder(config, path)
    return as_policy(load_module(AutoModelForCausalLM, path, config, dtype), load_tokenizer(path))


def stored_dtype(path: str | Path) -> DType:
    """Return the narrowest type that holds the weights at `path` as they are; merging an adapter needs float32."""
    return "bfloat16" if not is_adapter(path) and load_config(path).dtype == torch.bfloat16 else "float32"


def base_policy(path: str | Path, *, dtype: DType = "float32") -> CausalPolicy:
    """Return the base of the adapter at `path` as its users have it: with the adapter's own tokenizer, and a row for each of its ids.

    Raises:
        ModelError: as `load_policy`.
    """
    policy = load_policy(base_of(path)[0], dtype=dtype)
    if not has_tokenizer(path):
        return policy
    tokenizer = load_tokenizer(path)
    module, ids = policy.module, vocabulary_size(tokenizer)
    if ids > module.get_input_embeddings().num_embeddings:  # the adapter brings the new rows, so what they start from does not matter
        module.resize_token_embeddings(ids, mean_resizing=False)
    return CausalPolicy(module, tokenizer, policy.path)


def load_reference(path: str | Path, policy: CausalPolicy, tokens: int, *, dtype: DType = "float32") -> CausalPolicy:
    """Return the policy at `path`, which is to read the policy's token ids in sequences of up to `tokens`.

    Raises:
        ModelError: as `load_policy`, or its ids mean other tokens, or it takes fewer.
    """
    reference = load_policy(path, dtype=dtype)
    own, other = policy.tokenizer.get_vocab(), reference.tokenizer.get_vocab()
    if own != other:
        differing = sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name))
        raise ModelError(
            f"the reference {path} has another vocabulary than the policy: {len(differing)} tokens differ, such as {differing[0]!r}. "
            "Log-probabilities of the same tokens are compared, so use a reference with the policy's tokenizer"
        )
    if reference.max_tokens is not None and tokens > reference.max_tokens:
        raise ModelError(
            f"the reference {path} takes {reference.max_tokens} tokens, and sequences have up to {tokens}. Use shorter sequences "
            "(max_tokens, sampling.max_tokens), or a reference with a longer context"
        )
    return reference


@dataclass(frozen=True)
class Architecture:
    """A small decoder like Qwen3, which normalises queries and keys, so attention can become sharp early in training.

    Attributes:
        hidden_size: width of the residual stream.
        layers: transformer blocks.
        heads: attention heads for queries.
        kv_heads: attention heads for keys and values.
        intermediate_size: width inside the feed-forward part.
        max_positions: longest sequence, in tokens.
        rope_theta: base of the rotary positions; a small base suits short sequences.
        init_std: standard deviation of the initial weights; narrow models need more than the usual 0.02.
    """

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate_size: int = 384
    max_positions: int = 256
    rope_theta: float = 500.0
    init_std: float = 0.08

    def config(self, vocabulary: int) -> Qwen3Config:
        """Return the configuration of a model with so many tokens, whose output embeddings are tied to its input embeddings."""
        return Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.hidden_size // self.heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            initializer_range=self.init_std,
            tie_word_embeddings=True,
        )


def new_policy(tokenizer: PreTrainedTokenizerBase, architecture: Architecture, seed: int) -> CausalPolicy:
    """Return a policy with random weights for the tokenizer's vocabulary; the same seed gives the same weights.

    The global random state does not change.
    """
    config = architecture.config(vocabulary_size(tokenizer))
    config.bos_token_id, config.eos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    return as_policy(placed(built(Qwen3ForCausalLM, config, seed)), tokenizer)


def as_policy(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> CausalPolicy:
    """Return `module` as a policy; its config must have gone through `without_dropout`.

    Raises:
        ModelError: the tokenizer has more tokens than the model.
    """
    keep_freed_memory()
    keep_few_kernels()
    use_fast_products(module)
    check_vocabulary(module, tokenizer)
    return CausalPolicy(module.eval(), tokenizer, choose_path(module))


def built(make: Callable[[PretrainedConfig], T], config: PretrainedConfig, seed: int) -> T:
    """Return `make(config)` with weights drawn from `seed` on the CPU, alike for every device; no other random state changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(config)


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """Set every dropout probability to 0 and return `config`: log-probabilities of a text must not differ between two passes."""
    for part in {id(part): part for part in (config, config.get_text_config())}.values():  # a configuration may hold one of the text model
        for name, value in part.to_dict().items():
            if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
                setattr(part, name, 0.0)
    return config


def load_config(path: str | Path) -> PretrainedConfig:
    """Return the configuration at `path`, with dropout off; of an adapter, that of its base.

    Raises:
        ModelError: no such directory, or no usable config.json in it.
        RunError: the model lies in a run that is retired.
    """
    refuse_retired(path)
    if is_adapter(path):
        return load_config(base_of(path)[0])
    directory = Path(path)
    if directory.exists():
        if not (directory / "config.json").is_file():
            raise ModelError(f"{path} is not a model directory: it has no config.json. If it is a run, use the folder `model` in it")
    elif "/" in str(path) and (why := absence_of(str(path))) is not None:  # the base of an adapter may have a name without an owner
        raise ModelError(why)
    config: PretrainedConfig = read_by_transformers(path, "config.json", lambda: AutoConfig.from_pretrained(path, trust_remote_code=False))
    if config.is_encoder_decoder:
        raise ModelError(f"{path} is an encoder-decoder ({config.model_type}); a policy is a decoder that continues its prompt")
    packed = config.to_dict().get("quantization_config") or {}
    if packed.get("quant_method") == "bitsandbytes":  # optimizer steps, merges and fingerprints need plain weights
        raise ModelError(
            f"the weights of {path} are packed in {4 if packed.get('load_in_4bit') else 8} bits by bitsandbytes, which Palate cannot read. "
            "Use the model that they were made from; adapters.base_dtype: nf4 packs its weights in memory"
        )
    return without_dropout(config)


def has_tokenizer(path: str | Path) -> bool:
    """Return whether a directory has a tokenizer."""
    return any((Path(path) / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer at `path`; of an adapter without one, the tokenizer of its base.

    Where tokenizer_config.json names a plain tokenizer.json, this reads that file. For some kinds of model (qwen2 is one) `AutoTokenizer`
    would replace its way of splitting text by that of the kind.

    Raises:
        ModelError: there is none, or it cannot be read.
    """

    def read() -> PreTrainedTokenizerBase:
        settings = Path(path) / "tokenizer_config.json"
        if settings.is_file() and json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") in _PLAIN_TOKENIZERS:
            return PreTrainedTokenizerFast.from_pretrained(path)
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)

    if is_adapter(path) and not has_tokenizer(path):
        return load_tokenizer(base_of(path)[0])
    tokenizer = read_by_transformers(path, "tokenizer", read)
    declare_ends(tokenizer, configured_ends(generation_config_at(path)))
    return tokenizer


def generation_config_at(path: str | Path) -> GenerationConfig | None:
    """Return the generation config of a model as transformers would use it; None where the directory holds no model."""
    with without_reports():
        try:
            return GenerationConfig.from_pretrained(path)
        except (OSError, ValueError, TypeError):
            pass  # older models name their end in config.json alone
        try:
            return GenerationConfig.from_model_config(AutoConfig.from_pretrained(path, trust_remote_code=False))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a tokenizer alone; whatever is wrong with a model is reported where its weights are read


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the largest token id plus 1."""
    return max(tokenizer.get_vocab().values()) + 1


def check_vocabulary(module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError if the tokenizer has ids that the embedding does not have."""
    rows, ids = module.get_input_embeddings().num_embeddings, vocabulary_size(tokenizer)
    if ids > rows:
        raise ModelError(
            f"the tokenizer has {ids} ids, the embedding of {module.name_or_path or type(module).__name__} only {rows} rows. "
            "Use the model's own tokenizer, or enlarge the model with `resize_token_embeddings`"
        )
