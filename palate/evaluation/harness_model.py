"""A policy in memory as a model of lm-evaluation-harness: it scores packed trees and writes with the sampler of this process.

The harness decides what is read: its rules for tokens, for truncation from the left and for stop texts are those of its own `hf` model. So
the numbers are those that `lm_eval --model hf` gives for the saved directory, up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs, postprocess_generated_text, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from palate.core import ConfigError, Sampling, derive_seed
from palate.distributed.sharing import microbatches, shared
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.text.ends import eos_id
from palate.text.pack import Branch, Tree, pack

LONGEST = 2048
"""Tokens that a model without a limit takes, as the harness has it."""

LONGEST_ANSWER = 256
"""Tokens of an answer, at most, where a task does not say it, as the harness has it."""

Ids = tuple[int, ...]


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A policy that answers the requests of the harness."""

    def __init__(self, policy: CausalPolicy, tokens_per_microbatch: int, seed: int) -> None:
        super().__init__()
        self.tokenizer = policy.tokenizer
        self._policy, self._tokens_per_microbatch, self._seed = policy, tokens_per_microbatch, seed
        longest = resolve_max_length(policy.module.config, policy.tokenizer, default=LONGEST)
        self._longest = longest if policy.max_tokens is None else min(longest, policy.max_tokens)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return eos_id(self.tokenizer)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without a context: BOS, or else EOS."""
        return self.eot_token_id if self.tokenizer.bos_token_id is None else int(self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """A name for caches of the harness."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: FBT001, FBT002
        """Return the conversation as the tokenizer's template writes it."""
        going_on = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, **going_on))

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_others: object) -> list[int]:  # noqa: FBT001
        """Return the ids of a text. A text that begins with BOS does not get another one."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        given = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **given))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:  # noqa: FBT001, FBT002
        """Return the log-probability of each continuation in nats, and whether it is what the model would write greedily."""
        return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002, FBT001, FBT002
        """Return the log-probability of each text in nats: that of its windows, where it is longer than the model takes."""
        windows: list[tuple[int, Ids, Ids]] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            # One token shorter than those of `hf`, which does not feed the last token of a window; a packed pass does.
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self._longest - 1, 1):
                before, own = make_disjoint_window(window)
                windows.append((number, tuple(before), tuple(own)))
        totals = [0.0] * len(requests)
        for (number, _, _), (logp, _) in zip(windows, self._scores([(before, own) for _, before, own in windows]), strict=True):
            totals[number] += logp
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:  # noqa: ARG002, FBT001, FBT002
        """Return the answers, without their stop texts."""
        groups: dict[str, list[int]] = {}
        for k, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(k)
        answers = [""] * len(requests)
        for number, places in enumerate(groups.values()):
            settings = requests[places[0]].args[1]
            texts = self._written([requests[k].args[0] for k in places], settings, derive_seed(self._seed, "harness", number))
            for k, text in zip(places, texts, strict=True):
                answers[k] = text
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, Sequence[int], Sequence[int]]], **_others: object
    ) -> list[tuple[float, bool]]:
        return self._scores([(tuple(context), tuple(own)) for _, context, own in requests])

    def _scores(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[tuple[float, bool]]:
        """Return log-probability and greediness of the second ids of each pair after the first; equal first ids are computed once."""
        trees: dict[Ids, dict[Ids, None]] = {}
        cut = [self._cut(*pair) for pair in pairs]
        for before, own in cut:
            trees.setdefault(before, {})[own] = None
        packed = [Tree(before, tuple(Branch(own, (True,) * len(own)) for own in branches)) for before, branches in trees.items()]
        found: dict[tuple[Ids, Ids], tuple[float, bool]] = {}
        parts = microbatches(packed, self._tokens_per_microbatch) if packed else []
        for part, sums in zip(parts, shared(parts, lambda part: self._measured([packed[k] for k in part])), strict=True):
            keys = [(packed[k].trunk, branch.ids) for k in part for branch in packed[k].branches]
            for key, (logp, misses) in zip(keys, sums.tolist(), strict=True):
                found[key] = (logp, misses == 0)
        return [found[pair] for pair in cut]

    def _cut(self, before: Ids, own: Ids) -> tuple[Ids, Ids]:
        """Return the pair without what is too much on its left."""
        if len(own) >= self._longest:
            raise ConfigError(
                f"lm_eval: an answer of {len(own)} tokens is longer than the model takes ({self._longest}). Leave its task out"
            )
        return before[-(self._longest - len(own)) :], own

    def _measured(self, trees: Sequence[Tree]) -> Tensor:
        """Return for each branch (b, 2) the sum of its log-probabilities, and how many of its tokens are not the likeliest."""
        batch = pack(trees, self._tokens_per_microbatch)
        with torch.no_grad():
            outputs = self._policy.logps(batch)
            misses = self._policy.likeliest(batch, outputs.states) != batch.targets
        both = torch.stack([outputs.logps.double(), misses.double()], dim=1)
        return torch.zeros(len(batch.last), 2, dtype=torch.float64).index_add(0, batch.branch, both)

    def _written(self, contexts: Sequence[str], settings: Mapping[str, Any], seed: int) -> list[str]:
        given = dict(normalize_gen_kwargs(dict(settings), LONGEST_ANSWER))
        until = handle_stop_sequences(given.pop("until"), self.tokenizer.decode(self.eot_token_id))
        most, is_drawn = given.pop("max_gen_toks"), given.pop("do_sample")
        temperature = given.pop("temperature", 1.0 if is_drawn else 0.0)
        cuts = {name: given.pop(name) for name in ("top_p", "top_k", "min_p") if name in given}
        if given:
            raise ConfigError(
                f"lm_eval: a task asks for {', '.join(given)} when answers are written, which Palate does not do. Leave it out"
            )
        room = self._longest - most
        if room < 1:
            raise ConfigError(f"lm_eval: a task asks for answers of {most} tokens, and the model takes {self._longest}. Leave it out")
        sampling = Sampling(temperature=temperature if is_drawn else 0.0, max_tokens=most, **cuts)
        prompts = [self.tok_encode(context)[-room:] for context in contexts]
        samples = LocalSampler(self._policy).sample(prompts, 1, sampling, seed)
        texts = (self.tokenizer.decode(one.ids, skip_special_tokens=True) for (one,) in samples)
        return [postprocess_generated_text(text, until, None) for text in texts]
