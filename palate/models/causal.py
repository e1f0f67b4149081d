"""A causal language model with its tokenizer: log-probabilities of packed trees, and the hidden states that the sampler needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from palate.models.adapters import Adapters, LoRA
from palate.models.attention import Attends, packed_states
from palate.models.cpu import linear
from palate.models.devices import moved, on_model
from palate.models.head_logps import head_logps, rounded_up
from palate.models.parts import in_parts
from palate.models.paths import AttentionPath, longest_sequence, padded_rows
from palate.models.transformers_io import save_pair, save_tokenizer
from palate.objectives.logps import summed_nll
from palate.text.ends import configured_ends, declare_ends, end_ids
from palate.text.pack import Branch, PackedBatch, Tree, pack

LOGITS = 2**24
"""Logits that are held at once where only the likeliest token is asked for."""


@dataclass(frozen=True)
class TokenOutputs:
    """Log-probability of each target and entropy (detached) of its distribution, both (n,), nats, float32.

    `states` (n, d) are the hidden states that predict the targets, in the model's type and on its device; None on the padded path.
    """

    logps: Tensor
    entropy: Tensor
    states: Tensor | None = None


class CausalPolicy:
    """A causal language model whose batches are packed trees.

    `path` is "packed" where the model takes trees, and "padded" where it does not; then each branch is a row, with the same numbers.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        path: AttentionPath,
        adapters: Adapters | None = None,
        under: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Hold a module whose dropout is off; `palate.models.load` makes policies and chooses `path`.

        `adapters` are those on the module. The policy computes log-probabilities and samples inside `under()`, for example with adapters
        off.
        """
        self.module = module
        self.tokenizer = tokenizer
        self.path = path
        self.adapters = adapters
        self.under = under
        self.max_tokens = longest_sequence(module.config)
        """Number of tokens that the model takes in one sequence; None where it has no limit."""
        declare_ends(tokenizer, configured_ends(module.generation_config))
        self.end_ids = end_ids(tokenizer)
        """Token ids that end a completion."""

    def logps(self, batch: PackedBatch, *, temperature: float = 1.0) -> TokenOutputs:
        """Return log-probability and entropy of every target of `batch`, whether it is learned or not."""
        outputs = in_parts(batch, lambda part: self._logps(part, temperature))
        if len(outputs) == 1:
            return outputs[0]
        states = [output.states for output in outputs if output.states is not None]
        logps, entropy = (torch.cat([getattr(output, name) for output in outputs]) for name in ("logps", "entropy"))
        return TokenOutputs(logps, entropy, torch.cat(states) if states else None)

    def _logps(self, batch: PackedBatch, temperature: float) -> TokenOutputs:
        with self.under():
            batch = on_model(batch, self.device)
            if self.path == "packed":
                logps, entropy, states = head_logps(packed_states(self.module, batch), batch, *self.head, temperature=temperature)
                return TokenOutputs(logps.cpu(), entropy.cpu(), states)
            logps = torch.log_softmax(self._padded_logits(batch).float() / temperature, -1)
        entropy = -(logps.exp() * logps.clamp_min(torch.finfo(logps.dtype).min)).sum(-1)
        return TokenOutputs(logps.gather(-1, batch.targets[:, None])[:, 0].cpu(), entropy.detach().cpu())

    def next_logps(self, ids: Sequence[int], *, temperature: float = 1.0) -> Tensor:
        """Return the log-probability (v,) of every token after `ids`, nats, float32, on the CPU. Nothing is differentiated."""
        batch = on_model(pack([Tree(tuple(ids), (Branch((ids[0],), (False,)),))]), self.device)
        with torch.no_grad(), self.under():
            if self.path == "packed":
                weight, bias = self.head
                logits = torch.nn.functional.linear(packed_states(self.module, batch)[batch.sources], weight, bias)
            else:
                logits = self._padded_logits(batch)
        return torch.log_softmax(logits[0].float() / temperature, -1).cpu()

    def likeliest(self, batch: PackedBatch, states: Tensor | None) -> Tensor:
        """Return the id (n,) of the likeliest token in the place of every target, on the CPU. Nothing is differentiated.

        `states` are those of `logps`; where they are None, as on the padded path, another forward pass is made.
        """
        with torch.no_grad():
            if states is None:
                with self.under():
                    return torch.cat([self._padded_logits(on_model(part, self.device)).argmax(-1) for part in batch.parts()]).cpu()
            weight, bias = self.head
            rows = max(1, LOGITS // len(weight))
            parts = [torch.nn.functional.linear(part, weight, bias).argmax(-1) for part in states.split(rows)]
            return torch.cat(parts).cpu()

    def nll(self, batch: PackedBatch, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return `sum -w logp` (0-d) and the log-probabilities (n,), detached; `weights` (n,) are those of the targets."""
        if self.path == "packed" and len(batch.parts()) == 1:
            with self.under():
                weight, bias = self.head
                batch, weights = on_model(batch, self.device), moved(weights, self.device)
                states = packed_states(self.module, batch)
                sources, targets, weights = rounded_up(states, weight, batch.sources, batch.targets, weights)
                states = states.index_select(0, sources)
                total, logps = summed_nll(states, weight, targets, weights, bias=bias, linear=linear)
                return total.cpu(), logps[: len(batch.targets)].cpu()
        logps = self.logps(batch).logps
        return -(weights * logps)[weights != 0].sum(), logps.detach()

    def hidden(self, input_ids: Tensor, position_ids: Tensor, tree: Attends) -> Tensor:
        """Return hidden states (t, d) of input_ids (1, t) at position_ids (1, t), with attention computed by `tree` and without a cache."""
        states: Tensor = self.module.base_model(input_ids=input_ids, position_ids=position_ids, tree=tree, use_cache=False)[0]
        return states[0]

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.module.device

    @property
    def head(self) -> tuple[Tensor, Tensor | None]:
        """Return weight (v, d) and bias (v,) or None of the output embeddings."""
        layer = self.module.get_output_embeddings()
        return layer.weight, layer.bias

    def parameters(self) -> Iterator[Parameter]:
        """Return the parameters, each once (tied ones too)."""
        return self.module.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the module's weights by name."""
        return self.module.state_dict()

    def load_state_dict(self, weights: Mapping[str, Any]) -> None:
        """Load weights of the same names and shapes."""
        self.module.load_state_dict(weights)

    def with_adapter(self, lora: LoRA, base: str, seed: int) -> CausalPolicy:
        """Return the same module with frozen weights and a new adapter that changes nothing yet; `base` says where the module came from."""
        adapters = Adapters(self.module, base)
        adapters.add(lora, seed)
        return CausalPolicy(self.module, self.tokenizer, self.path, adapters)

    def merged(self) -> CausalPolicy:
        """Return the same module with its active adapter merged into its weights, without adapters."""
        if self.adapters is not None:
            self.adapters.merge()
        return CausalPolicy(self.module, self.tokenizer, self.path)

    def reference(self) -> CausalPolicy:
        """Return this policy as a fixed reference: the same module without its adapters, or else an independent copy."""
        if self.adapters is not None:
            return CausalPolicy(self.module, self.tokenizer, self.path, under=self.adapters.off)
        return CausalPolicy(copy.deepcopy(self.module).requires_grad_(requires_grad=False), self.tokenizer, self.path)

    def save(self, directory: str | Path) -> None:
        """Write model and tokenizer as an ordinary Hugging Face directory; of a policy with adapters, write these in peft's format."""
        if self.adapters is None:
            save_pair(self.module, self.tokenizer, directory)
        else:
            self.adapters.save(directory)
            save_tokenizer(self.tokenizer, directory)

    def _padded_logits(self, batch: PackedBatch) -> Tensor:
        """Return logits (n, v) that predict the targets, by the model's own forward, which may do more than multiply by the head."""
        rows = padded_rows(batch, self.path).to(self.device)
        return rows.run(self.module)[rows.source]
