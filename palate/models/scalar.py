"""Reward models and value models: named scalar heads on a backbone."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from palate.core import ModelError
from palate.models.adapters import Adapters, LoRA, base_of, is_adapter, trained_whole
from palate.models.attention import packed_states
from palate.models.causal import CausalPolicy
from palate.models.cpu import keep_few_kernels, keep_freed_memory, use_fast_products
from palate.models.devices import moved, on_model
from palate.models.four_bit import FourBit, quantised
from palate.models.heads import head_of, on_backbone, with_padding
from palate.models.load import base_policy, check_vocabulary, load_config, load_module, load_policy, load_tokenizer, stored_dtype
from palate.models.parts import in_parts
from palate.models.paths import AttentionPath, choose_path, longest_sequence, padded_rows
from palate.models.precision import DType, cast_parameters, dtype_of
from palate.models.transformers_io import save_pair, save_tokenizer
from palate.text.ends import end_ids
from palate.text.pack import PackedBatch
from palate.text.tokens import tokenizer_digest

REWARD_FILE = "reward.json"


@dataclass(frozen=True)
class Normalisation:
    """Gain and bias per head: `gain * score + bias` has mean 0 and standard deviation 1 on reference samples (Ziegler et al. 2019)."""

    gain: tuple[float, ...]
    bias: tuple[float, ...]


class ScalarModel:
    """A backbone with named linear heads, in a directory that `AutoModelForSequenceClassification` reads."""

    def __init__(
        self, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: AttentionPath, adapters: Adapters | None = None
    ) -> None:
        """Hold a module whose dropout is off; scores stay raw until `normalisation` is set."""
        use_fast_products(module)
        self.module = module
        self.tokenizer = tokenizer
        self.path = path
        self.adapters = adapters
        self.max_tokens = longest_sequence(module.config)
        """Number of tokens that the model takes in one sequence; None where it has no limit."""
        self.heads: tuple[str, ...] = tuple(module.config.id2label[k] for k in range(module.config.num_labels))
        """Names of the heads, in the order of their columns."""
        self.normalisation = Normalisation((1.0,) * len(self.heads), (0.0,) * len(self.heads))

    def scores(self, batch: PackedBatch) -> Tensor:
        """Return raw scores (b, h), float32, at the last token of each branch."""
        parts = in_parts(batch, lambda part: self._head(self._states(part)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def states(self, batch: PackedBatch) -> Tensor:
        """Return what the heads read (b, d): the final hidden state at the last token of each branch."""
        parts = in_parts(batch, lambda part: self._states(part).cpu())
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.module.device

    def _states(self, batch: PackedBatch) -> Tensor:
        batch, padding = on_model(batch, self.device), moved(self._padding(batch), self.device)
        if self.path == "packed":
            return packed_states(self.module, batch).index_select(0, batch.last - padding)
        rows = padded_rows(batch, self.path).to(self.device)
        numbers, columns = rows.last
        return rows.run(self.module.base_model)[numbers, columns - padding]

    def values(self, batch: PackedBatch) -> Tensor:
        """Return raw values (n, h), float32, of the state before each target."""
        parts = in_parts(batch, self._values)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _values(self, batch: PackedBatch) -> Tensor:
        batch = on_model(batch, self.device)
        if self.path == "packed":
            return self._head(packed_states(self.module, batch).index_select(0, batch.sources))
        rows = padded_rows(batch, self.path).to(self.device)
        return self._head(rows.run(self.module.base_model)[rows.source])

    def normalised(self, scores: Tensor) -> Tensor:
        """Return scores (..., h) after the gain and bias of each head."""
        return scores * scores.new_tensor(self.normalisation.gain) + scores.new_tensor(self.normalisation.bias)

    def parameters(self) -> Iterator[Parameter]:
        """Return the parameters, each once."""
        return self.module.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the module's weights by name."""
        return self.module.state_dict()

    def load_state_dict(self, weights: Mapping[str, Any]) -> None:
        """Load weights of the same names and shapes."""
        self.module.load_state_dict(weights)

    def copy(self) -> ScalarModel:
        """Return an independent copy, heads included, whose parameters do not require gradients."""
        twin = ScalarModel(copy.deepcopy(self.module).requires_grad_(requires_grad=False), self.tokenizer, self.path)
        twin.normalisation = self.normalisation
        return twin

    def with_adapter(self, lora: LoRA, base: str, seed: int) -> ScalarModel:
        """Return the same module with a frozen backbone and a new adapter that changes nothing yet; heads learn as a whole.

        `base` says where the backbone came from.
        """
        adapters = Adapters(self.module, base)
        adapters.add(lora, seed)
        return self._twin(adapters)

    def merged(self) -> ScalarModel:
        """Return the same module with its active adapter merged into its weights, without adapters."""
        if self.adapters is not None:
            self.adapters.merge()
        return self._twin(None)

    def save(self, directory: str | Path) -> None:
        """Write a Hugging Face directory with model, tokenizer and reward.json (head names, gain, bias, tokenizer).

        Of a model with adapters, write these in peft's format in place of the model.
        """
        if self.adapters is None:
            save_pair(self.module, self.tokenizer, directory)
        else:
            self.adapters.save(directory)
            save_tokenizer(self.tokenizer, directory)
        self.save_heads(directory)

    def save_heads(self, directory: str | Path) -> None:
        """Write reward.json to a directory that already has the model. It also says which tokenizer the heads were trained with."""
        content = {"heads": self.heads, **asdict(self.normalisation), "tokenizer": tokenizer_digest(self.tokenizer)}
        (Path(directory) / REWARD_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _padding(self, batch: PackedBatch) -> Tensor:
        """Return how many tokens of padding each branch ends with (b,): transformers scores the token before them, so these are not read.

        Models that Palate trains never end a sequence with padding (see `with_padding`); others may pad with the end of a turn.
        """
        pad = self.module.config.get_text_config().pad_token_id
        counts = [0 if branch.ids[-1] != pad else _count_at_end(branch.ids, pad) for tree in batch.trees for branch in tree.branches]
        return torch.tensor(counts)

    def _head(self, states: Tensor) -> Tensor:
        """Return scores in float32 whatever the backbone computes in, because differences within a pair are small; on the CPU."""
        head = self.module.get_submodule("score")
        return functional.linear(states.float(), head.weight.float(), None if head.bias is None else head.bias.float()).cpu()

    def _twin(self, adapters: Adapters | None) -> ScalarModel:
        twin = ScalarModel(self.module, self.tokenizer, self.path, adapters)
        twin.normalisation = self.normalisation
        return twin


def load_scalar(path: str | Path, *, dtype: DType = "float32", merge_adapter: bool = True, four_bit: FourBit | None = None) -> ScalarModel:
    """Return the scalar model in a directory; without a reward.json its scores stay raw.

    With `merge_adapter` an adapter is merged into its base; otherwise it stays beside it, and `four_bit` quantises that base.

    Raises:
        ConfigError: `four_bit` is given, and bitsandbytes is missing or too old.
        ModelError: as `load_policy`, or there is no scalar head, or reward.json does not fit.
    """
    if is_adapter(path):
        model = _with_adapter_at(Path(path), four_bit, merge=merge_adapter)
        cast_parameters(model.module, dtype_of(dtype))
        return model
    module = load_module(AutoModelForSequenceClassification, path, load_config(path), dtype)
    tokenizer = load_tokenizer(path)
    head_of(module)
    check_vocabulary(module, tokenizer)
    keep_freed_memory()
    keep_few_kernels()
    model = ScalarModel(module.eval(), tokenizer, choose_path(module))
    model.normalisation = _read_normalisation(Path(path) / REWARD_FILE, model.heads) or model.normalisation
    return model


def _with_adapter_at(path: Path, four_bit: FourBit | None, *, merge: bool) -> ScalarModel:
    """Return the model that an adapter directory describes, with the adapter merged or not."""
    if not (path / REWARD_FILE).is_file():
        raise ModelError(f"{path} is an adapter without {REWARD_FILE}, which names the heads; use an adapter that a reward stage wrote")
    heads, base = _read_heads(path / REWARD_FILE)[0], base_of(path)[0]

    def load(dtype: DType) -> ScalarModel:
        return with_heads(base_policy(path, dtype=dtype), heads, seed=0, takes=True)

    if four_bit is None or merge:
        model = load("float32")
    else:
        model = quantised(partial(load, stored_dtype(base)), FourBit(keep=(*four_bit.keep, *trained_whole(path))))
    adapters = Adapters(model.module, base)
    adapters.load(path)
    if merge:
        adapters.merge()
    else:
        model = ScalarModel(model.module, model.tokenizer, model.path, adapters)
    model.normalisation = _read_normalisation(path / REWARD_FILE, model.heads) or model.normalisation
    return model


def scalar_from(
    source: CausalPolicy | ScalarModel | str | Path,
    heads: Sequence[str],
    seed: int,
    *,
    zero: bool = False,
    four_bit: FourBit | None = None,
) -> ScalarModel:
    """Return a trainable scalar model with new heads on a copy of the source's backbone.

    Heads start as N(0, 1 / (d + 1)) (Stiennon et al. 2020), or as 0 with `zero`, as value heads do. A path names a policy. With `four_bit`
    the linear layers of the copy are quantised and frozen; the source must not be.

    Raises:
        ConfigError: `four_bit` is given, and bitsandbytes is missing or too old.
        ModelError: there is no head, a name stands twice, or transformers has no scalar head for the family.
    """
    if not heads or len(set(heads)) < len(heads):
        raise ModelError(f"heads need one or more distinct names, got {list(heads)}")
    if four_bit is not None:
        dtype = stored_dtype(source) if isinstance(source, str | Path) else "float32"
        return quantised(lambda: _scalar_on(source, heads, seed, dtype, zero=zero), four_bit)
    return _scalar_on(source, heads, seed, "float32", zero=zero)


def _scalar_on(
    source: CausalPolicy | ScalarModel | str | Path, heads: Sequence[str], seed: int, dtype: DType, *, zero: bool
) -> ScalarModel:
    """Return new heads on the backbone of a policy that is read in `dtype`, or on a copy of another model's."""
    is_path = isinstance(source, str | Path)
    return with_heads(load_policy(source, dtype=dtype) if isinstance(source, str | Path) else source, heads, seed, zero=zero, takes=is_path)


def with_heads(
    source: CausalPolicy | ScalarModel, heads: Sequence[str], seed: int, *, zero: bool = False, takes: bool = False
) -> ScalarModel:
    """As `scalar_from`; with `takes` the backbone is the source's own, which is not to be used any more."""
    ends = source.end_ids if isinstance(source, CausalPolicy) else end_ids(source.tokenizer)
    tokenizer = with_padding(source.tokenizer, ends)
    config = copy.deepcopy(source.module.config)
    config.num_labels = len(heads)
    config.id2label, config.label2id = dict(enumerate(heads)), {name: k for k, name in enumerate(heads)}
    config.get_text_config().pad_token_id = config.pad_token_id = tokenizer.pad_token_id
    module = on_backbone(source.module, config, seed, takes=takes)
    head = head_of(module)
    spread = 0.0 if zero else (head.in_features + 1) ** -0.5
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed)) * spread)
        if head.bias is not None:
            head.bias.zero_()
    module.set_attn_implementation(source.module.config._attn_implementation)
    return ScalarModel(module.eval(), tokenizer, source.path)


def _count_at_end(ids: Sequence[int], token: int) -> int:
    """Return how often `token` stands at the end, at most one time less than there are ids."""
    return next((count for count, one in enumerate(reversed(ids)) if one != token), len(ids) - 1)


def _read_normalisation(path: Path, heads: tuple[str, ...]) -> Normalisation | None:
    if not path.exists():
        return None
    names, gain, bias = _read_heads(path)
    if names != heads or len(gain) != len(heads) or len(bias) != len(heads):
        raise ModelError(f"{path} has heads {list(names)}, {len(gain)} gains and {len(bias)} biases; the model has heads {list(heads)}")
    return Normalisation(gain, bias)


def _read_heads(path: Path) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Return names, gains and biases from a reward.json."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return tuple(content["heads"]), tuple(content["gain"]), tuple(content["bias"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}: {error}); it needs heads, gain and bias") from error
