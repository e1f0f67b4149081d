"""Encoders: models that read a whole text in both directions, such as BERT. They can score a completion and cannot write one.

Prompt and completion are the two texts of a pair, as `tokenizer(prompt, completion)` writes them for plain transformers.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import cast

from torch import Tensor
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from palate.core import ModelError
from palate.text.chat_text import Ids, encode

_PAIR_TEMPLATE = (
    "{{ %s }}{%% for m in messages %%}"
    "{%% if loop.last and m.role == 'assistant' %%}{{ %s + m.content + %s }}"
    "{%% else %%}{{ ('' if loop.first else '\\n\\n') + m.content }}{%% endif %%}"
    "{%% endfor %%}{%% if messages[-1].role != 'assistant' %%}{{ %s }}{%% endif %%}"
)
"""A pair of texts: all turns before the answer, joined by blank lines, and the answer."""


def is_encoder(config: PretrainedConfig) -> bool:
    """Return whether the model reads in both directions: its family fills gaps, and this one was not made a decoder."""
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not config.to_dict().get("is_decoder", False)


def require_decoder(config: PretrainedConfig, path: object) -> None:
    """Raise ModelError where a model is an encoder and has to write or to say how likely a text is."""
    if is_encoder(config):
        raise ModelError(
            f"{path} is an encoder ({config.model_type}): it reads whole texts and cannot continue one. Use a causal language model here; "
            "an encoder can be a reward model (`reward --model`, or `score` and `rewards` where it is one already)"
        )


def above_backbone(module: PreTrainedModel) -> set[str]:
    """Return the names of the weights that pretraining does not give a classifier: its own layers, and a pooler."""
    return {name for name, _ in module.named_parameters() if not name.startswith(f"{module.base_model_prefix}.") or ".pooler." in name}


def reads_pairs(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return an encoder's tokenizer, changed so that a conversation becomes a pair of texts and an answer ends with the last separator.

    A chat template that the tokenizer has already stays.

    Raises:
        ModelError: it has neither an end token nor a separator.
    """
    if tokenizer.eos_token_id is None:
        if tokenizer.sep_token_id is None:
            raise ModelError(
                f"the tokenizer {tokenizer.name_or_path} has no separator and no EOS token, so no answer could end. Set `sep_token` in its "
                "tokenizer_config.json"
            )
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.chat_template is None:
        opening, middle, _, _ = _pair(tokenizer)
        end = json.dumps(tokenizer.eos_token)
        before, between = (json.dumps("".join(cast("list[str]", tokenizer.convert_ids_to_tokens(list(ids))))) for ids in (opening, middle))
        between = between if middle else end
        tokenizer.chat_template = _PAIR_TEMPLATE % (before, between, end, between)
    return tokenizer


def pair_inputs(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, completion: Tensor) -> dict[str, Tensor]:
    """Return the inputs of an encoder beside ids and mask: the kind of each token, where tokenizer and model have kinds.

    Args:
        config: the model's.
        tokenizer: its own.
        completion: (b, w) True for tokens of the completion.
    """
    has_kinds = int(config.to_dict().get("type_vocab_size") or 0) > 1 and 1 in _pair(tokenizer)[3]
    return {"token_type_ids": completion.long()} if has_kinds else {}


@lru_cache(maxsize=16)
def _pair(tokenizer: PreTrainedTokenizerBase) -> tuple[Ids, Ids, Ids, Ids]:
    """Return what the tokenizer writes before, between and after the two texts of a pair, and the kinds of all tokens."""
    written = tokenizer("a", "b")
    ids, kinds = tuple(written["input_ids"]), tuple(written.get("token_type_ids", ()))
    first, second = encode(tokenizer, "a"), encode(tokenizer, "b")
    start = next((k for k in range(len(ids)) if ids[k : k + len(first)] == first), 0)
    middle = start + len(first)
    then = next((k for k in range(middle, len(ids)) if ids[k : k + len(second)] == second), middle)
    return ids[:start], ids[middle:then], ids[then + len(second) :], kinds
