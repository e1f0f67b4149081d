"""Bytes of one pass through a model: what the backward pass needs of the forward pass, and what passes.

The formulas count the tensors that autograd keeps in the blocks of Llama, Qwen2, Qwen3 and Mistral, with Palate's attention of packed
trees. `b` is the size of a number of the type that the model computes in; norms and the head's log-softmax work in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.models.shapes import ModelShape
from palate.objectives.logps import rows_at_once
from palate.text.attention_plan import BLOCK_AREA

WIDE = 4
"""Bytes of float32."""


@dataclass(frozen=True)
class PackedTrees:
    """The trees of a forward pass.

    Attributes:
        prompt: tokens of a trunk.
        completion: tokens of a branch.
        branches: branches of a tree.
        tokens: tokens of the pass.
        is_fused: whether a kernel computes attention without holding its weights, and without copies of a trunk's keys, as on a GPU.
    """

    prompt: int
    completion: int
    branches: int
    tokens: int
    is_fused: bool = False

    @staticmethod
    def within(prompt: int, completion: int, branches: int, limit: int, rows: int | None = None) -> PackedTrees:
        """Return the trees of the largest pass where `limit` is the setting `tokens_per_microbatch`, and a step has `rows` trees.

        A larger tree is one pass, or is cut if it has more than twice as many tokens and more than two branches (see `palate.text.pack`).
        """
        tree = prompt + branches * completion
        tokens = limit if tree <= limit or (tree > 2 * limit and branches > 2) else tree
        if rows is not None:
            tokens = min(tokens, rows * tree)
        return PackedTrees(prompt, completion, branches, tokens)

    @property
    def _trees(self) -> float:
        return self.tokens / (self.prompt + self.branches * self.completion)

    @property
    def keys(self) -> float:
        """Return key slots: a branch has its trunk's keys before its own."""
        if self.branches == 1 or self.is_fused:
            return float(self.tokens)
        return self._trees * (self.prompt + self.branches * (self.prompt + self.completion))

    @property
    def cells(self) -> float:
        """Return query-key cells per head that are held; of a kernel, one number per query."""
        if self.is_fused:
            return float(self.tokens)
        longest = self.prompt + self.completion
        if self.branches == 1:
            return self._trees * longest**2
        return self._trees * (self.prompt**2 + self.branches * self.completion * longest)

    @property
    def block_cells(self) -> float:
        """Return the cells per head of the largest batched product."""
        if self.is_fused:
            return 0.0
        longest = self.prompt + self.completion
        largest = longest**2 if self.branches == 1 else max(self.prompt**2, self.completion * longest)
        return max(largest, min(self.cells, BLOCK_AREA))

    @property
    def targets(self) -> float:
        """Return the tokens whose log-probabilities are computed, at most."""
        return self._trees * self.branches * self.completion


@dataclass(frozen=True)
class Trained:
    """How a model is trained.

    Attributes:
        shape: the model.
        width: bytes of a number of the type that it computes in.
        rank: rank of the adapter; None where all weights learn.
        targets: endings of the names of the layers with an adapter; none means all.
        is_checkpointing: whether only the inputs of layers are kept.
        is_packed: whether the frozen linear layers are held in 4 bits; then the weight of one at a time is unpacked.
    """

    shape: ModelShape
    width: int = WIDE
    rank: int | None = None
    targets: Sequence[str] = ()
    is_checkpointing: bool = False
    is_packed: bool = False

    @property
    def unpacked(self) -> float:
        """Return the bytes of the largest weight that is unpacked for a product."""
        return self.width * self.shape.hidden_size * self.shape.intermediate_size if self.is_packed else 0.0


def layer_bytes(model: Trained, trees: PackedTrees) -> float:
    """Return what the backward pass needs of one layer."""
    shape, b, t = model.shape, model.width, trees.tokens
    learns_all = model.rank is None
    adapted = shape.adapted(model.targets) if model.rank is not None else frozenset(shape.linear_widths)
    keeps = {
        "attention": learns_all or bool(adapted & {"q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value"}),
        "output": learns_all or bool(adapted & {"o_proj", "c_proj", "dense"}),
        "inner": learns_all or bool(adapted & {"gate_proj", "up_proj", "gate_up_proj", "c_fc"}),
        "down": learns_all or bool(adapted & {"down_proj", "c_proj"}),
    }
    d, inner, queries, keys = shape.hidden_size, shape.intermediate_size, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * d * WIDE + (2 * d * b if learns_all else 0) + d * b * (keeps["attention"] + keeps["inner"])
    heads = (queries + keys) * (WIDE + (b if learns_all else 0)) if shape.has_head_norms else 0
    attention = queries * b * t + 2 * keys * b * trees.keys + shape.heads * trees.cells * b + queries * b * t * keeps["output"]
    gates = (3 if shape.is_gated else 1) * inner * b + inner * b * keeps["down"]
    return t * (norms + heads + gates) + attention + _adapter_bytes(model, t)


def _adapter_bytes(model: Trained, tokens: int) -> float:
    """Return the inner products of one layer's adapters."""
    if model.rank is None:
        return 0.0
    return tokens * model.rank * model.width * len(model.shape.adapted(model.targets))


def kept_bytes(model: Trained, trees: PackedTrees) -> float:
    """Return what the backward pass needs of the whole forward pass, without the head; with checkpoints also of the layer at work."""
    shape, t = model.shape, trees.tokens
    last = t * shape.hidden_size * (WIDE + 2 * model.width) + trees.targets * shape.hidden_size * model.width
    one = layer_bytes(model, trees)
    if model.is_checkpointing:
        return shape.layers * t * shape.hidden_size * model.width + one + last
    return shape.layers * one + last


def backward_bytes(model: Trained, trees: PackedTrees) -> float:
    """Return the gradients that pass while one layer's backward pass is computed."""
    shape, b, t = model.shape, model.width, trees.tokens
    d, inner = shape.hidden_size, shape.intermediate_size
    feed_forward = t * b * (2 * d + 3 * inner) + (d * inner * b if model.rank is None else 0)
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = t * b * (2 * d + 3 * queries) + 4 * keys * b * trees.keys + 2 * shape.heads * trees.block_cells * b
    return max(feed_forward + model.unpacked, attention)


def forward_bytes(model: Trained, trees: PackedTrees) -> float:
    """Return what passes in a forward pass without gradients: the layer at work."""
    shape, b, t = model.shape, model.width, trees.tokens
    d, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    feed_forward = t * (2 * d * b + 2 * d * WIDE + (4 if shape.is_gated else 2) * inner * b)
    attention = t * (2 * d * b + 5 * queries * b) + 4 * keys * b * trees.keys + shape.heads * trees.block_cells * (2 * WIDE + b)
    return max(feed_forward + model.unpacked, attention)


def head_bytes(model: Trained, *, learns: bool, forms_early: bool = False) -> float:
    """Return what passes in the head: two blocks of logits, and the gradient of the head's weight where it learns.

    Args:
        model: the model.
        learns: whether the pass has gradients, and the head's weight gets one.
        forms_early: whether the forward pass forms the gradient, as cross-entropy does; then it is there twice at the end.
    """
    shape, b = model.shape, model.width
    blocks = 2 * rows_at_once(shape.vocabulary) * shape.vocabulary * WIDE
    if not learns or model.rank is not None:
        return blocks
    cells = shape.vocabulary * shape.hidden_size
    narrow = 0 if b == WIDE else cells * b
    formed = cells * WIDE + narrow + blocks
    return max(formed, 2 * cells * b) if forms_early else formed + narrow


def cache_bytes(shape: ModelShape, rows: int, columns: int, width: int) -> float:
    """Return the keys and values of `rows` requests of `columns` tokens (see `palate.samplers.cache`)."""
    rows, columns = -(-rows // 8) * 8, -(-columns // 16) * 16
    return 2.0 * shape.layers * rows * columns * shape.kv_heads * shape.head_dim * width
