"""What a model reads to say whether a rule is broken: the conversation, the completion, and then a question about it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from palate.core import Completion, Conversation, Message
from palate.text.chat_text import Unusable
from palate.text.pack import Branch, Tree
from palate.text.template import is_plain_text, render
from palate.text.tokens import turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rule_tree(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, completion: Completion, questions: Sequence[str], max_tokens: int
) -> Tree:
    """Return a tree with the completion in its trunk, and a branch per question, in their order.

    The question is a turn of the user after the completion, and the branch ends where the model would begin to answer it. In plain text
    it is a paragraph after the completion. The completion is written as a turn that ended, also where it was cut off. Equal questions
    have equal branches.

    Args:
        tokenizer: has the template.
        conversation: what the completion answers.
        completion: only its text and calls are read.
        questions: one or more.
        max_tokens: the most tokens of trunk and longest branch together.

    Raises:
        Unusable: it is too long, or the template refuses the conversation.
    """
    plain = is_plain_text(conversation)
    turn = turn_of(Completion(completion.text, tool_fields=completion.tool_fields), "text" if plain else "assistant")
    wholes = [
        render(
            tokenizer,
            (*conversation, turn, Message("text", f"\n\n{question}") if plain else Message("user", question)),
            generation_prompt=not plain,
        )
        for question in questions
    ]
    # The trunk ends before the question, also where all questions begin alike: what is read of it must not depend on the other questions.
    shown = render(tokenizer, (*conversation, turn), generation_prompt=False)
    alike = takewhile(lambda ids: len(set(ids)) == 1, zip(shown, *wholes, strict=False))
    shared = min(min(map(len, wholes)) - 1, sum(1 for _ in alike))
    if shared < 1:
        raise Unusable("no shared token: the template begins the conversation differently for each question")
    if max(map(len, wholes)) > max_tokens:
        raise Unusable(f"too long: {max(map(len, wholes))} tokens with the question, {max_tokens} allowed")
    return Tree(wholes[0][:shared], tuple(Branch(ids[shared:], (True,) * len(ids[shared:])) for ids in wholes))
