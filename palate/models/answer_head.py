"""A scalar head that begins as what the language model itself would answer: the log-odds of one word against another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from palate.core import ConfigError
from palate.models.causal import CausalPolicy

HeadStart = tuple[str, str] | Literal["random", "zero"]
"""How heads start: two words as answers, drawn as N(0, 1 / (d + 1)), or at zero."""


def first_weights(policy: CausalPolicy | None, start: HeadStart) -> Tensor | None:
    """Return what the weights of every head start as, (1, d) or (1, 1); None where they are drawn.

    `policy` is the model under the heads; None where that has no language-model head, and so answers no question.

    Raises:
        ConfigError: as `answer_direction`.
    """
    if start == "random":
        return None
    if start == "zero":
        return torch.zeros(1, 1)
    assert policy is not None, "a scalar model answers no question"
    return answer_direction(policy, start)


def answer_direction(policy: CausalPolicy, answers: tuple[str, str]) -> Tensor:
    """Return the weights (1, d) that turn a hidden state into `log p(first) - log p(second)` of the next token, in nats.

    They are the difference of two rows of the language-model head. A bias of that head is left out. Of a word with several tokens the
    first counts.

    Args:
        policy: has the head and the tokenizer.
        answers: two words, such as yes and no, as the model writes them where a turn begins.

    Raises:
        ConfigError: the tokenizer does not know a word, or both begin with the same token.
    """
    first, second = (_first_token(policy, word) for word in answers)
    if first == second:
        raise ConfigError(
            f"answers: {answers[0]!r} and {answers[1]!r} begin with the same token of {policy.module.name_or_path or 'the model'}, so the "
            "model cannot be asked which it would say. Use two words that begin differently"
        )
    weight = policy.head[0].detach()
    return (weight[first].to(torch.float32) - weight[second].to(torch.float32))[None]


def _first_token(policy: CausalPolicy, word: str) -> int:
    ids: list[int] = policy.tokenizer.encode(word, add_special_tokens=False)
    if not ids or ids[0] == policy.tokenizer.unk_token_id:
        raise ConfigError(
            f"answers: the tokenizer of {policy.module.name_or_path or 'the model'} does not know the word {word!r}. Use words that the "
            "model answers with, or leave out answers"
        )
    return ids[0]
