"""How likely a model finds each option of a question: the options are branches of one packed tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from palate.core import Completion, Conversation, DataError, Message, Prompt
from palate.distributed.sharing import microbatches, shared
from palate.models.causal import CausalPolicy
from palate.text.chat_text import opening_ids
from palate.text.ends import eos_id
from palate.text.pack import Branch, Tree, longest_of, pack
from palate.text.spans import split_ids
from palate.text.template import Unusable, render

GRADE_BY = ("best", "mass")
"""How a `choice` row is graded: whether the likeliest option is right, or the probability of the right options among all."""


@dataclass(frozen=True, slots=True)
class OptionScores:
    """The log-probability of each option in nats, summed over its tokens, and the number of its tokens. The end token is not among them.

    For other texts it counts the tokens that are learned.
    """

    logps: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Return the probability of each option given that it is one of them: the softmax of the summed log-probabilities."""
        weights = np.exp(np.array(self.logps) - max(self.logps))
        return tuple((weights / weights.sum()).tolist())


def picked_options(logps: Sequence[float]) -> list[float]:
    """Return 1 for the likeliest option and 0 for the others; options that are equally likely share the 1."""
    best = np.array(logps) == max(logps)
    return list((best / best.sum()).tolist())


def options_of(prompt: Prompt) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the options of a `choice` row and those that are right.

    Raises:
        DataError: there are not two different options, one is empty, none or all are right, or a right one is not an option.
    """
    where, fields = prompt.source or prompt.id, prompt.fields
    options, answer = fields.get("options"), fields.get("answer")
    right = [answer] if isinstance(answer, str) else answer
    if not _are_texts(options) or len(set(options)) != len(options) or len(options) < 2:
        raise DataError(
            f"{where}: an eval row of kind choice needs `options`, two or more different texts that are not empty, got {options!r}"
        )
    if not _are_texts(right) or not set(right) <= set(options):
        raise DataError(
            f"{where}: an eval row of kind choice needs in `answer` the option that is right, or a list of them, got {answer!r}"
        )
    if set(right) == set(options):
        raise DataError(f"{where}: every option is right, so the row measures nothing. Give a wrong option too")
    if fields.get("grade_by", "best") not in GRADE_BY:
        raise DataError(f"{where}: `grade_by` is {fields['grade_by']!r}; known are {' and '.join(GRADE_BY)}")
    return tuple(options), frozenset(right)


def choice_grade(prompt: Prompt, scores: OptionScores, *, per_token: bool = False) -> float:
    """Return the grade of a `choice` row from 0 to 1, by the row's `grade_by`; `per_token` finds the likeliest by means and not by sums."""
    options, right = options_of(prompt)
    logps = np.array(scores.logps) / (scores.tokens if per_token else 1)
    values = scores.probabilities if prompt.fields.get("grade_by") == "mass" else picked_options(logps.tolist())
    return float(sum(value for option, value in zip(options, values, strict=True) if option in right))


def option_scores(policy: CausalPolicy, prompts: Sequence[Prompt], tokens_per_microbatch: int) -> list[OptionScores | None]:
    """Return the scores of the options of each prompt; None where the model does not take a text of this length, or cannot read it.

    Prompts with one conversation are one tree, so an option that stands in several of them is computed once. A prompt without text is
    for whole texts as options: these follow the tokenizer's BOS, or EOS where it does not put one before texts.
    """
    asked = AskedOptions(policy, prompts)
    return asked.scores(branch_scores(policy, asked.trees, tokens_per_microbatch))


class AskedOptions:
    """The options of some prompts as trees, which can be scored more than once and together with others."""

    def __init__(self, policy: CausalPolicy, prompts: Sequence[Prompt]) -> None:
        self._prompts = prompts
        self._options: dict[Conversation, list[str]] = {}
        for prompt in prompts:
            known = self._options.setdefault(prompt.conversation, [])
            known += [option for option in options_of(prompt)[0] if option not in known]
        trees: dict[Conversation, Tree] = {}
        for conversation, options in self._options.items():
            try:
                tree = _tree(policy, conversation, options)
            except Unusable:
                continue
            if policy.max_tokens is None or longest_of([tree]) <= policy.max_tokens:
                trees[conversation] = tree
        self._order = list(trees)
        self.trees = list(trees.values())
        """One for each conversation that the model takes."""

    def scores(self, scores: Sequence[OptionScores]) -> list[OptionScores | None]:
        """Return the scores of each prompt's options from those of the trees; None where the model does not take the prompt."""
        by_conversation = dict(zip(self._order, scores, strict=True))
        return [self._of(prompt, by_conversation.get(prompt.conversation)) for prompt in self._prompts]

    def _of(self, prompt: Prompt, scores: OptionScores | None) -> OptionScores | None:
        if scores is None:
            return None
        options = self._options[prompt.conversation]
        at = [options.index(option) for option in options_of(prompt)[0]]
        return OptionScores(tuple(scores.logps[k] for k in at), tuple(scores.tokens[k] for k in at))


def _tree(policy: CausalPolicy, conversation: Conversation, options: Sequence[str]) -> Tree:
    if any(message.text for message in conversation):
        trunk, branches = split_ids(policy.tokenizer, conversation, [Completion(option, stop="length") for option in options])
    else:
        opening = opening_ids(policy.tokenizer)
        wholes = [render(policy.tokenizer, (Message("text", option),), generation_prompt=False) for option in options]
        trunk, branches = opening or (eos_id(policy.tokenizer),), tuple(whole[len(opening) :] for whole in wholes)
    if not all(branches):
        raise Unusable("an option has no token")
    return Tree(trunk, tuple(Branch(ids, (True,) * len(ids)) for ids in branches))


def branch_scores(policy: CausalPolicy, trees: Sequence[Tree], tokens_per_microbatch: int) -> list[OptionScores]:
    """Return of each tree the log-probabilities of its branches, summed over their learned tokens, and how many these are."""

    def measured(part: list[int]) -> Tensor:
        batch = pack([trees[k] for k in part], tokens_per_microbatch)
        with torch.no_grad():
            logps = policy.logps(batch).logps.double().masked_fill(~batch.learned, 0.0)
            return torch.zeros(len(batch.last), dtype=torch.float64).index_add(0, batch.branch, logps)

    parts = microbatches(trees, tokens_per_microbatch) if trees else []
    found: dict[int, OptionScores] = {}
    for part, sums in zip(parts, shared(parts, measured), strict=True):
        counts = [tuple(sum(branch.learned) for branch in trees[k].branches) for k in part]
        ends = np.cumsum([len(one) for one in counts])
        for k, tokens, end in zip(part, counts, ends.tolist(), strict=True):
            found[k] = OptionScores(tuple(sums[end - len(tokens) : end].tolist()), tokens)
    return [found[k] for k in range(len(trees))]


def _are_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)
