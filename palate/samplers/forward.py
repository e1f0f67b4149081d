"""From token ids to the logits of the next token: by the model's own code, or by a faster forward pass for Llama and similar models.

A decoding step of a small model consists of many small operations. `LlamaForward` computes the same numbers in a third of them: queries,
keys and values are one product, and so are gate and up; weights are packed (`palate.samplers.onednn`); rotary angles are looked up; the
last layer is finished only where logits are wanted. It has no gradient and no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from palate.models.adapters import low_rank
from palate.models.attention import Attends
from palate.models.causal import CausalPolicy
from palate.models.shared_layers import shards_of
from palate.samplers.onednn import Product, fill, filled

_NORMS = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)
_KNOWN = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
LARGEST_PACKED = 2 << 30
"""Size above which a model uses its own code: packed weights would take too much memory, and small operations cost little there."""


class Forward(Protocol):
    """One forward pass over packed tokens (1, t)."""

    @property
    def is_steady(self) -> bool:
        """Whether its weights stay where they are between passes, as a recorded pass needs."""
        ...

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        """Return logits (w, v) at the positions `wanted` (w,), or at all t; ids and positions are (1, t), and `tree` computes attention."""
        ...


class ModuleForward:
    """The forward pass of any model, by its own code."""

    def __init__(self, policy: CausalPolicy) -> None:
        self._policy = policy
        self._weight, self._bias = policy.head
        self.is_steady = not shards_of(policy.module)

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        """See `Forward.logits`."""
        hidden = self._policy.hidden(ids, positions, tree)
        return linear(hidden if wanted is None else hidden[wanted], self._weight, self._bias)


def forward_of(policy: CausalPolicy, longest: int) -> Forward:
    """Return the faster forward pass for this policy, for sequences of up to `longest` tokens; make a new one when weights change."""
    return LlamaForward.of(policy, longest) or ModuleForward(policy)


@dataclass(frozen=True)
class _Norm:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight.shape[-1:], self.weight, self.eps)


@dataclass(frozen=True)
class _Layer:
    """One transformer block; `head_norms` are those of queries and keys (H + KV, D) with their eps, where the model has them."""

    number: int
    heads: int
    kv_heads: int
    scaling: float
    before: _Norm
    qkv: Product
    head_norms: tuple[Tensor, float] | None
    out: Product
    after: _Norm
    gate_up: Product
    activation: nn.Module
    down: Product

    def attend(self, x: Tensor, angles: tuple[Tensor, Tensor], tokens: int, tree: Attends) -> Tensor:
        """Return the attention output (tokens, H * D) for the first `tokens` rows of x (b, d); `angles` are (tokens, 1, D)."""
        cos, sin = angles
        qkv = self.qkv(self.before(x))[:tokens].view(tokens, -1, cos.shape[-1])  # (tokens, H + 2 KV, D)
        rotated, value = qkv[:, : self.heads + self.kv_heads], qkv[:, self.heads + self.kv_heads :]
        if self.head_norms is not None:
            weight, eps = self.head_norms
            rotated = rms_norm(rotated, rotated.shape[-1:], None, eps) * weight
        rotated = torch.addcmul(rotated * cos, rotated.roll(cos.shape[-1] // 2, -1), sin)
        query, key, value = (part.transpose(0, 1)[None] for part in (rotated[:, : self.heads], rotated[:, self.heads :], value))
        return tree.attend(self.number, query, key, value, self.scaling).reshape(tokens, -1)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output (b, d) from its input (b, d) and its attention (b, H * D)."""
        x = x + self.out(attended)
        gate, up = self.gate_up(self.after(x)).chunk(2, -1)
        return x + self.down(self.activation(gate) * up)


class LlamaForward:
    """A `Forward` for Llama and similar models, with the policy's weights at the time it was made."""

    is_steady = True

    def __init__(self, policy: CausalPolicy, layers: Sequence[_Layer], longest: int) -> None:
        base: Any = policy.module.base_model
        weight, bias = policy.head
        self._embed = policy.module.get_input_embeddings()
        self._layers = layers
        self._norm = _norm(base.norm)
        self._head = Product.of([weight], [bias], [[]])
        cos, sin = base.rotary_emb(weight, torch.arange(longest, device=weight.device)[None])
        half = cos.shape[-1] // 2
        self._cos = cos[0][:, None]  # (longest, 1, D)
        self._sin = torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)[:, None]  # halves are exchanged, the first is negated

    @staticmethod
    def of(policy: CausalPolicy, longest: int) -> LlamaForward | None:
        """Return one for sequences of up to `longest` tokens; None where the model computes something else, or is too large."""
        module = policy.module
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        if (
            type(module) not in _KNOWN
            or not _has_plain_norms(module)
            or policy.path != "packed"
            or size > LARGEST_PACKED
            or shards_of(module)  # its weights are not there to be packed
            or _has_moving_angles(module)
        ):
            return None
        layers = [_layer(block) for block in module.base_model.layers]  # type: ignore[union-attr]
        known = [layer for layer in layers if layer is not None]
        return LlamaForward(policy, known, longest) if len(known) == len(layers) else None

    def logits(self, ids: Tensor, positions: Tensor, tree: Attends, wanted: Tensor | None = None) -> Tensor:
        """See `Forward.logits`."""
        tokens = ids.shape[1]
        x: Tensor = self._embed(ids[0])
        angles = self._cos[positions[0]], self._sin[positions[0]]
        x = fill(x, filled(tokens, x))
        for layer in self._layers[:-1]:
            x = layer.finish(x, fill(layer.attend(x, angles, tokens, tree), len(x)))
        last = self._layers[-1]
        attended = last.attend(x, angles, tokens, tree)
        if wanted is not None:
            x, attended, tokens = x[wanted], attended[wanted], len(wanted)
            x = fill(x, filled(tokens, x))
        x = last.finish(x, fill(attended, len(x)))
        return self._head(self._norm(x))[:tokens]


def _has_moving_angles(module: PreTrainedModel) -> bool:
    """Return whether the angles of a position depend on its sequence, or rotate only a part of a head."""
    settings = module.config.rope_parameters
    return settings["rope_type"] in ("dynamic", "longrope") or settings.get("partial_rotary_factor", 1.0) != 1.0


def _has_plain_norms(module: PreTrainedModel) -> bool:
    """Return whether no norm is wrapped, as peft wraps one that is trained beside an adapter."""
    base: Any = module.base_model
    norms = [base.norm, *(norm for block in base.layers for norm in (block.input_layernorm, block.post_attention_layernorm))]
    norms += [norm for name, norm in base.named_modules() if name.endswith(("q_norm", "k_norm"))]
    return all(type(norm) in _NORMS for norm in norms)


def _layer(block: Any) -> _Layer | None:
    """Return the block's parts, or None where one of its linear layers is of an unknown kind."""
    attention, mlp = block.self_attn, block.mlp
    products = [
        _product(*layers)
        for layers in (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
    ]
    qkv, out, gate_up, down = products
    if qkv is None or out is None or gate_up is None or down is None:
        return None
    dim, config = attention.head_dim, attention.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    norms = None
    if config.model_type == "qwen3":
        weights = attention.q_norm.weight.expand(heads, dim), attention.k_norm.weight.expand(kv_heads, dim)
        norms = torch.cat(weights), attention.q_norm.variance_epsilon
    return _Layer(
        attention.layer_idx, heads, kv_heads, attention.scaling, _norm(block.input_layernorm), qkv, norms, out,
        _norm(block.post_attention_layernorm), gate_up, mlp.act_fn, down,
    )  # fmt: skip


def _product(*layers: nn.Module) -> Product | None:
    parts = [low_rank(layer) for layer in layers]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Product.of([layer.weight for layer, _ in known], [layer.bias for layer, _ in known], [deltas for _, deltas in known])


def _norm(layer: Any) -> _Norm:
    return _Norm(layer.weight, layer.variance_epsilon)
