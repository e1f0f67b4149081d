"""The two paths of a batch through a model: packed trees, or right-padded rows for models whose attention trees cannot express.

`choose_path` first asks the model's configuration, and then compares one packed tree with plain sequences.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from palate.models.angles import short_angles
from palate.models.attention import NAME, PackedAttention
from palate.models.devices import moved, on_model
from palate.models.encoders import is_encoder, pair_inputs
from palate.text.pack import Branch, PackedBatch, Tree, pack

AttentionPath = Literal["packed", "padded", "single"]
"""How a model computes a batch: as packed trees, as one right-padded row per branch, or row by row without padding."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference allowed from the plain forward pass, relative to the largest hidden state or logit."""


NEIGHBOURS = "its numbers depend on the longest sequence of a batch"


class PaddedPathWarning(UserWarning):
    """A model takes the slower padded path."""


@dataclass(frozen=True)
class PaddedBatch:
    """One row per branch, with its trunk in front: b rows, w columns, n targets."""

    input_ids: Tensor
    """(b, w) token ids; attention never sees padding."""
    attention_mask: Tensor
    """(b, w) 1 for real tokens. It comes from lengths, so a tokenizer may use its eos for padding."""
    source: tuple[Tensor, Tensor]
    """Rows (n,) and columns (n,) of the states that predict the targets."""
    last: tuple[Tensor, Tensor]
    """Rows (b,) and columns (b,) of the last tokens of branches."""
    completion: Tensor
    """(b, w) True for the tokens of branches."""
    path: AttentionPath = "padded"
    """With "single" each row has a forward pass of its own."""

    def to(self, device: torch.device) -> PaddedBatch:
        """Return the rows on a device."""
        source, last = ((moved(a, device), moved(b, device)) for a, b in (self.source, self.last))
        ids, mask, completion = (moved(x, device) for x in (self.input_ids, self.attention_mask, self.completion))
        return PaddedBatch(ids, mask, source, last, completion, self.path)

    def run(self, module: PreTrainedModel) -> Tensor:
        """Return the output of `module` on the rows: hidden states (b, w, d) of a base model, or logits (b, w, v) of a whole model."""
        limit = short_angles(module)
        whole = self._run(module, self.input_ids, self.attention_mask)
        if limit is None or self.input_ids.shape[1] <= limit:
            return whole
        early = self._run(module, self.input_ids[:, :limit], self.attention_mask[:, :limit])
        return torch.cat([early, whole[:, limit:]], 1)

    def head_inputs(self, module: PreTrainedModel, head: torch.nn.Linear, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Return what the last layer `head` of an encoder for sequence classification reads (b, d): what the model makes of each row."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        inputs |= pair_inputs(module.config, tokenizer, self.completion)
        found: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, read: found.append(read[0]))
        try:
            if self.path != "single":
                module(**inputs)
            else:
                for k, real in enumerate(self.attention_mask.sum(1).tolist()):
                    module(**{name: x[k : k + 1, :real] for name, x in inputs.items()})
        finally:
            handle.remove()
        return torch.cat(found)

    def _run(self, module: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the output of one forward pass, or of one per row without its padding; columns of padding mean nothing."""
        if self.path != "single":
            output: Tensor = module(input_ids=ids, attention_mask=mask, use_cache=False)[0]
            return output
        rows = [row[: int(real.sum())][None] for row, real in zip(ids, mask, strict=True)]
        return pad_sequence([module(input_ids=row, use_cache=False)[0][0] for row in rows], batch_first=True)


def padded_rows(batch: PackedBatch, path: AttentionPath = "padded") -> PaddedBatch:
    """Return the rows of `batch`, branches in order."""
    trunks = [len(tree.trunk) for tree in batch.trees for _ in tree.branches]
    rows = [torch.tensor(tree.trunk + branch.ids) for tree in batch.trees for branch in tree.branches]
    trunk = torch.tensor(trunks)
    length = torch.tensor([len(row) for row in rows])
    input_ids = pad_sequence(rows, batch_first=True)
    column = torch.arange(input_ids.shape[1])
    is_source = (column >= trunk[:, None] - 1) & (column < length[:, None] - 1)
    row_of_target, column_of_target = is_source.nonzero(as_tuple=True)
    return PaddedBatch(
        input_ids=input_ids,
        attention_mask=(column < length[:, None]).long(),
        source=(row_of_target, column_of_target),
        last=(torch.arange(len(rows)), length - 1),
        completion=(column >= trunk[:, None]) & (column < length[:, None]),
        path=path,
    )


def choose_path(module: PreTrainedModel) -> AttentionPath:
    """Return "packed" and switch the module's attention to trees, or return another path with one warning that names the reason."""
    if is_encoder(module.config):
        return "single" if _depends_on_padding(module) else "padded"
    settings = module.config.get_text_config().to_dict()
    if settings.get("attn_logit_softcapping") is not None:
        module.set_attn_implementation("eager")  # the other attention functions of transformers cannot cap
    reason = _configured_reason(module) or _measured_reason(module)
    if reason is None:
        return "packed"
    path: AttentionPath = "single" if reason == NEIGHBOURS or _depends_on_padding(module) else "padded"
    how = "takes the padded path" if path == "padded" else "computes every sequence alone, because padding or longer neighbours change it"
    warnings.warn(f"{type(module).__name__} {how}, which is slower but gives the same numbers: {reason}", PaddedPathWarning, stacklevel=3)
    return path


def longest_sequence(config: PretrainedConfig) -> int | None:
    """Return the number of positions of the model, or None where its configuration names no limit."""
    settings = config.get_text_config().to_dict()
    limits = (settings.get("max_position_embeddings"), settings.get("n_positions"))
    return next((int(limit) for limit in limits if limit is not None), None)


def longest_input(module: PreTrainedModel) -> int | None:
    """Return the most tokens that a model takes. Models like RoBERTa count positions from the one after that of padding."""
    limit = longest_sequence(module.config)
    tables = [
        part for name, part in module.named_modules() if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding)
    ]
    unused = max((part.padding_idx + 1 for part in tables if part.padding_idx is not None), default=0)
    return None if limit is None else limit - unused


def _configured_reason(module: PreTrainedModel) -> str | None:
    """Return why trees cannot express this model's attention, as far as its configuration says; else None."""
    settings = module.config.get_text_config().to_dict()
    if not type(module)._supports_attention_backend:
        return "its attention cannot be replaced from outside"
    kinds = set(settings.get("layer_types") or ())
    other = kinds - {"full_attention", "sliding_attention"}
    if other:
        return f"it has layers of type {', '.join(sorted(other))}"
    window, limit = settings.get("sliding_window"), longest_sequence(module.config)
    slides = "sliding_attention" in kinds if kinds else window is not None and settings.get("use_sliding_window", True)
    if slides and (window is None or limit is None or window < limit):
        return f"its attention slides over a window of {window} tokens"
    caps = [name for name in ("attn_logit_softcapping", "final_logit_softcapping") if settings.get(name) is not None]
    return f"it caps its logits ({', '.join(caps)})" if caps else None


def _measured_reason(module: PreTrainedModel) -> str | None:
    """Return why packed and plain outputs of a two-branch tree differ, or switch the module's attention to trees and return None."""
    batch = on_model(_two_branches(module.get_input_embeddings().num_embeddings, longest_sequence(module.config) or 8), module.device)
    rows = padded_rows(batch).to(module.device)
    with torch.no_grad():
        plain = rows.run(module.base_model)[rows.source]
        return _head_reason(module, rows, plain) or _tree_reason(module, batch, plain)


def _two_branches(vocabulary: int, limit: int) -> PackedBatch:
    """Return a tree of at most `limit` tokens in a branch and its trunk."""
    ids = tuple((7 * place + 3) % vocabulary for place in range(11))
    cuts = (ids[:4], ids[4:8], ids[8:]) if limit >= 8 else (ids[:1], ids[1:2], ids[2:3])
    return pack([Tree(cuts[0], tuple(Branch(branch, (True,) * len(branch)) for branch in cuts[1:]))])


def _head_reason(module: PreTrainedModel, rows: PaddedBatch, plain: Tensor) -> str | None:
    """Return why logits are not just hidden states times the output embeddings; None if they are, or if there are no logits."""
    head = module.get_output_embeddings()
    if head is None:
        return None
    gap = _gap(head(plain), rows.run(module)[rows.source])
    return None if gap <= TOLERANCE[plain.dtype] else f"its logits are not hidden states times output embeddings (relative gap {gap:.2g})"


def head_reason(module: PreTrainedModel) -> str | None:
    """Return why a model's logits are not just hidden states times the output embeddings; None if they are."""
    if module.config.get_text_config().to_dict().get("final_logit_softcapping") is not None:
        return "it caps its logits (final_logit_softcapping)"
    batch = _two_branches(module.get_input_embeddings().num_embeddings, longest_sequence(module.config) or 8)
    rows = padded_rows(batch).to(module.device)
    with torch.no_grad():
        return _head_reason(module, rows, rows.run(module.base_model)[rows.source])


def _depends_on_padding(module: PreTrainedModel) -> bool:
    """Return whether a row's hidden states change when it is padded beside a longer row."""
    ids = _two_branches(module.get_input_embeddings().num_embeddings, longest_sequence(module.config) or 8).trees[0]
    trees = [Tree(ids.trunk[:1], (Branch(branch, (True,) * len(branch)),)) for branch in (ids.branches[0].ids[:1], ids.trunk)]
    batch = pack(trees)
    with torch.no_grad():
        both = (padded_rows(batch, path).to(module.device) for path in ("padded", "single"))
        beside, alone = (rows.run(module.base_model)[rows.source] for rows in both)
    return _gap(beside, alone) > TOLERANCE[alone.dtype]


def _tree_reason(module: PreTrainedModel, batch: PackedBatch, plain: Tensor) -> str | None:
    """Return why packed hidden states differ from `plain` ones; if they do not, leave attention on trees and return None."""
    before, limit = module.config._attn_implementation, short_angles(module) or longest_sequence(module.config)
    module.set_attn_implementation(NAME)
    try:
        # Beside a second tree whose last token stands at the end of the context, as if it were long: what holds there holds alone, too.
        more = Tree(batch.trees[0].trunk[:1], (Branch(batch.trees[0].trunk[:1], (True,)),))
        both = on_model(pack([*batch.trees, more]), module.device)
        far = both.position_ids.clone()
        far[-1] = far[-1] if limit is None else limit - 1
        beside = _tree_states(module, both, far)[: len(plain)]
        if _gap(beside, plain) <= TOLERANCE[plain.dtype]:
            return None
        gap = _gap(_tree_states(module, batch, batch.position_ids), plain)  # it tells which of two reasons is the right one
        reason = NEIGHBOURS if gap <= TOLERANCE[plain.dtype] else f"packed trees differ from plain sequences (relative gap {gap:.2g})"
    except Exception as error:  # noqa: BLE001  # whatever the model raises here, its own attention still works
        reason = f"packed trees fail in it ({type(error).__name__}: {error})"
    module.set_attn_implementation(before)
    return reason


def _tree_states(module: PreTrainedModel, batch: PackedBatch, positions: Tensor) -> Tensor:
    """Return the hidden states (n, d) that predict the targets of packed trees, in one forward pass."""
    tree = PackedAttention(batch.layout)
    states: Tensor = module.base_model(input_ids=batch.input_ids[None], position_ids=positions[None], tree=tree, use_cache=False)[0]
    return states[0, batch.sources]


def _gap(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite if any value is NaN."""
    gap = ((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp_min(1e-12)).item()
    return float("inf") if math.isnan(gap) else gap
