"""Reward models and value models: named scalar heads on a backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from palate.core import ModelError
from palate.models.adapters import Adapters, LoRA, base_of, is_adapter, trained_whole
from palate.models.answer_head import HeadStart, first_weights
from palate.models.attention import packed_states
from palate.models.causal import CausalPolicy
from palate.models.cpu import keep_few_kernels, keep_freed_memory, use_fast_products
from palate.models.devices import moved, on_model
from palate.models.encoders import is_encoder
from palate.models.four_bit import FourBit, quantised
from palate.models.heads import encoder_with_heads, headed, padding_at_ends, scoring_layer, scoring_tokenizer, with_padding
from palate.models.likelihood import NOTE_NAME, PREFIX, Likelihood, attach, attach_stored, likelihood_of, of_policy, state_columns
from palate.models.load import base_policy, check_vocabulary, load_config, load_policy, stored_dtype
from palate.models.mean_pooling import last_token_again, mean_of_branches, mean_of_rows, pool_mean, pools_mean, require_stored
from palate.models.model_files import load_module
from palate.models.parts import joined_parts
from palate.models.paths import AttentionPath, choose_path, longest_input, padded_rows
from palate.models.precision import DType, dtype_of
from palate.models.reward_file import REWARD_FILE, Normalisation, RewardFile
from palate.models.shared_layers import share_out, whole_on_cpu
from palate.models.transformers_io import save_pair, save_tokenizer
from palate.text.ends import end_ids
from palate.text.pack import PackedBatch
from palate.text.tokens import tokenizer_digest


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
        self.max_tokens = longest_input(module)
        """Number of tokens that the model takes in one sequence; None where it has no limit."""
        self.heads: tuple[str, ...] = tuple(module.config.id2label[k] for k in range(module.config.num_labels))
        """Names of the heads, in the order of their columns."""
        self.normalisation = Normalisation((1.0,) * len(self.heads), (0.0,) * len(self.heads))
        self.likelihood = likelihood_of(module)
        """What scores read beside the last token; None where they read only that."""
        self.is_encoder = is_encoder(module.config)
        """Whether the model reads in both directions, and pools a text in its own way."""

    def scores(self, batch: PackedBatch) -> Tensor:
        """Return raw scores (b, h), float32, of what the model reads of each branch: its last token or mean state, and its likelihood."""
        return joined_parts(batch, lambda part: self._scores(*self._read(part)))

    def last_token_scores(self, batch: PackedBatch) -> Tensor:
        """Return the part (b, h) of the raw scores that plain transformers computes."""
        return self._head(self._read(batch, pools=False)[0])

    def states(self, batch: PackedBatch) -> Tensor:
        """Return what the heads read, on the CPU: the state at the last token of each branch, or its mean state (b, d).

        Where the model reads the likelihood of the branch, that is one more column.
        """
        return joined_parts(batch, lambda part: state_columns(*self._read(part)))

    @property
    def head_weights(self) -> Tensor:
        """Return the weights (h, d) by which heads read `states`, float32 on the CPU; one more column for the likelihood."""
        weights = scoring_layer(self.module).weight.float().cpu()
        return weights if self.likelihood is None else torch.cat([weights, self.likelihood.coefficients.cpu()[:, None]], 1)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.module.device

    def _read(self, batch: PackedBatch, *, pools: bool = True) -> tuple[Tensor, Tensor | None]:
        """Return the state (b, d) of each branch on the device, at its last token unless it `pools`; and its likelihood if that counts."""
        if self.is_encoder:
            rows = padded_rows(batch, self.path).to(self.device)
            return rows.head_inputs(self.module, scoring_layer(self.module), self.tokenizer), None
        pools = pools and pools_mean(self.module.config)
        batch, padding = on_model(batch, self.device), moved(padding_at_ends(batch, self.module), self.device)
        reads = self.likelihood
        if self.path == "packed":
            states = packed_states(self.module, batch)
            last = mean_of_branches(states, batch) if pools else states.index_select(0, batch.last - padding)
            return last, None if reads is None else reads.of_packed(self.module, states, batch)
        rows = padded_rows(batch, self.path).to(self.device)
        numbers, columns = rows.last
        states = rows.run(self.module.base_model)
        last = mean_of_rows(states, rows) if pools else states[numbers, columns - padding]
        return last, None if reads is None else reads.of_rows(self.module, states, rows, batch)

    def _scores(self, last: Tensor, likelihood: Tensor | None) -> Tensor:
        scores = self._head(last)
        if self.likelihood is None or likelihood is None:
            return scores
        return scores + likelihood[:, None] * self.likelihood.coefficients.cpu()

    def values(self, batch: PackedBatch) -> Tensor:
        """Return raw values (n, h), float32, of the state before each target; a value model has no likelihood to read."""
        assert self.likelihood is None, "a value model reads states alone: make one with scalar_from"
        return joined_parts(batch, self._values)

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
        if self.is_encoder:
            raise ModelError(f"{base} is an encoder, and adapters are for decoders. Leave out adapters: an encoder learns whole")
        adapters = Adapters(self.module, base)
        adapters.add(lora, seed)
        if isinstance(self.likelihood, Likelihood):
            self.likelihood.raw.requires_grad_()
        return self._twin(adapters)

    def merged(self) -> ScalarModel:
        """Return the same module with its active adapter merged into its weights, without adapters."""
        if self.adapters is not None:
            self.adapters.merge()
        return self._twin(None)

    def save(self, directory: str | Path) -> None:
        """Write a Hugging Face directory with model, tokenizer and reward.json (head names, gain, bias, coefficients, tokenizer).

        Of a model with adapters, write these in peft's format in place of the model.
        """
        if self.adapters is None:
            save_pair(self.module, self.tokenizer, directory, without=PREFIX)
            if self.likelihood is not None:
                self.likelihood.save(directory)
        else:
            self.adapters.save(directory)
            save_tokenizer(self.tokenizer, directory)
        self.save_heads(directory)

    def save_heads(self, directory: str | Path) -> None:
        """Write reward.json to a directory that already has the model. It also says which tokenizer the heads were trained with."""
        coefficients = None if self.likelihood is None else self.likelihood.stored()
        digest, scale = tokenizer_digest(self.tokenizer), self.normalisation
        pooling = "mean" if pools_mean(self.module.config) else None
        RewardFile(self.heads, scale.gain, scale.bias, coefficients, digest, scale.members, pooling).write(directory)

    def _head(self, states: Tensor) -> Tensor:
        """Return scores in float32 whatever the backbone computes in, because differences within a pair are small; on the CPU."""
        head = scoring_layer(self.module)
        return functional.linear(states.float(), head.weight.float(), None if head.bias is None else head.bias.float()).cpu()

    def with_scale(self, stored: RewardFile, path: str | Path) -> ScalarModel:
        """Take the gain and bias of a reward.json, and return the model."""
        self.normalisation = stored.scale_of(self.heads, path)
        return self

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
        with whole_on_cpu(when=merge_adapter) as sharing:
            model = _with_adapter_at(Path(path), four_bit, merge=merge_adapter)
        share_out(model.module, sharing, dtype_of(dtype))
        return model
    module = load_module(AutoModelForSequenceClassification, path, load_config(path), dtype)
    tokenizer = scoring_tokenizer(module, path)
    check_vocabulary(module, tokenizer)
    keep_freed_memory()
    keep_few_kernels()
    path_taken = choose_path(module)
    stored = RewardFile.read(path)
    attach_stored(module, Path(path), None if stored is None else stored.likelihood)
    require_stored(module.config, path, is_mean=stored is not None and stored.pooling is not None)
    model = ScalarModel(module.eval(), tokenizer, path_taken)
    return model if stored is None else model.with_scale(stored, path)


def _with_adapter_at(path: Path, four_bit: FourBit | None, *, merge: bool) -> ScalarModel:
    """Return the model that an adapter directory describes, with the adapter merged or not."""
    stored = RewardFile.read(path)
    if stored is None:
        raise ModelError(f"{path} is an adapter without {REWARD_FILE}, which names the heads; use an adapter that a reward stage wrote")
    base = base_of(path)[0]

    def load(dtype: DType) -> ScalarModel:
        policy = base_policy(path, dtype=dtype)
        model = with_heads(policy, stored.heads, seed=0, takes=True, reads_likelihood=stored.likelihood is not None)
        require_stored(model.module.config, path, is_mean=stored.pooling is not None)
        if isinstance(model.likelihood, Likelihood) and stored.likelihood is not None:
            model.likelihood.restore(stored.likelihood)
        return model

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
    return model.with_scale(stored, path)


def scalar_from(
    source: CausalPolicy | ScalarModel | str | Path,
    heads: Sequence[str],
    seed: int,
    *,
    start: HeadStart = "random",
    four_bit: FourBit | None = None,
    reads_likelihood: bool = False,
    reads_mean: bool = False,
) -> ScalarModel:
    """Return a trainable scalar model with new heads on a copy of the source's backbone.

    Heads start as N(0, 1 / (d + 1)) (Stiennon et al. 2020), at zero, as value heads do, or as a policy's log-odds of one word against
    another as the next token. A path names a policy or an encoder. With `four_bit` the linear layers of the copy are quantised and frozen;
    the source must not be. With `reads_likelihood`, for which the source is a policy, scores also read the likelihood of the completion,
    with a coefficient that starts at 0. With `reads_mean` heads read the mean state of the completion.

    Raises:
        ConfigError: `four_bit` is given, and bitsandbytes is missing or too old; or as `first_weights`.
        ModelError: there is no head, a name stands twice, transformers has no scalar head for the family, its likelihood is more than
            hidden states times a head, or an encoder is to be quantised or read in another way than its own.
    """
    if not heads or len(set(heads)) < len(heads):
        raise ModelError(f"heads need one or more distinct names, got {list(heads)}")
    is_path = isinstance(source, str | Path)
    if isinstance(source, str | Path) and is_encoder(load_config(source)):
        is_plain = four_bit is None and not reads_likelihood and not reads_mean
        return ScalarModel(*encoder_with_heads(source, heads, seed, is_plain=is_plain))

    def make(dtype: DType) -> ScalarModel:
        policy = load_policy(source, dtype=dtype) if isinstance(source, str | Path) else source
        model = with_heads(policy, heads, seed, start=start, takes=is_path, reads_likelihood=reads_likelihood)
        if reads_mean:
            pool_mean(model.module.config)
        return model

    if four_bit is None:
        return make("float32")
    return quantised(lambda: make(stored_dtype(source) if isinstance(source, str | Path) else "float32"), four_bit)


def with_heads(
    source: CausalPolicy | ScalarModel,
    heads: Sequence[str],
    seed: int,
    *,
    start: HeadStart = "random",
    takes: bool = False,
    reads_likelihood: bool = False,
) -> ScalarModel:
    """As `scalar_from`; with `takes` the backbone is the source's own, which is not to be used any more."""
    ends = source.end_ids if isinstance(source, CausalPolicy) else end_ids(source.tokenizer)
    tokenizer = with_padding(source.tokenizer, ends)
    config = copy.deepcopy(source.module.config)
    config.__dict__.pop(NOTE_NAME, None)  # of a reward model that reads the likelihood, which new heads need not do
    last_token_again(config)
    config.get_text_config().pad_token_id = config.pad_token_id = tokenizer.pad_token_id
    weights = first_weights(source if isinstance(source, CausalPolicy) else None, start)
    module = headed(source.module, config, heads, seed, start=weights, takes=takes)
    if reads_likelihood:
        assert isinstance(source, CausalPolicy), "a scalar model has no language-model head"
        attach(module, of_policy(source, len(heads), takes=takes))
    return ScalarModel(module.eval(), tokenizer, source.path)
