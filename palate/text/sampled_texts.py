"""Make completions of sampled tokens: the text that stands for them, and whether it gives the same tokens again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from palate.core import Completion, Conversation, StopReason
from palate.text.chat_text import Ids, Unusable
from palate.text.spans import whole_ids
from palate.text.template import is_plain_text
from palate.text.tokens import decoded, possible_texts, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class DrawnTokens(Protocol):
    """Sampled tokens, with the end token if `stop` is "eos"."""

    @property
    def ids(self) -> Ids:
        """The tokens."""
        ...

    @property
    def logps(self) -> tuple[float, ...]:
        """The log-probability of each, nats."""
        ...

    @property
    def stop(self) -> StopReason:
        """Why sampling stopped."""
        ...


def completions_of(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, trunk: Ids, samples: Sequence[DrawnTokens], *, policy: str = ""
) -> tuple[Completion, ...]:
    """The completions of one prompt, whose ids are `trunk`; `policy` says who wrote them.

    A text holds everything that was sampled, special tokens included, but for the end token. After a chat prompt it lacks the white space
    that the template writes itself. Among the texts that could stand for the tokens, the first that gives them again is taken.
    """
    digest, is_chat = tokenizer_digest(tokenizer), not is_plain_text(conversation)
    bodies = [sample.ids[:-1] if sample.stop == "eos" else sample.ids for sample in samples]
    completions = []
    for sample, written in zip(samples, decoded(tokenizer, trunk, bodies), strict=True):
        completion = Completion(written, sample.ids, sample.logps, sample.stop, policy, tokenizer=digest, is_exact=False)
        for text in possible_texts(written, is_chat=is_chat):
            if _gives(tokenizer, conversation, trunk, sample, text):
                completion = Completion(text, sample.ids, sample.logps, sample.stop, policy, tokenizer=digest)
                break
        completions.append(completion)
    return tuple(completions)


def _gives(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, trunk: Ids, sample: DrawnTokens, text: str) -> bool:
    """Whether the text after the conversation has the ids that were sampled."""
    try:
        whole, _ = whole_ids(tokenizer, conversation, trunk, Completion(text, stop=sample.stop))
    except Unusable:
        return False
    return whole == trunk + sample.ids


def completion_of_text(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, trunk: Ids, text: str, stop: StopReason
) -> Completion:
    """The completion of a sampler that gives text alone, marked as not exact: its ids are those of the text, which may not be those drawn.

    The ids are () where the text after the prompt, whose ids are `trunk`, cannot be written as tokens. There are no log-probabilities.
    """
    text, *_ = possible_texts(text, is_chat=not is_plain_text(conversation))
    try:
        whole, _ = whole_ids(tokenizer, conversation, trunk, Completion(text, stop=stop))
    except Unusable:
        whole = ()
    ids = whole[len(trunk) :] if whole[: len(trunk)] == trunk else ()
    return Completion(text, ids, stop=stop, tokenizer=tokenizer_digest(tokenizer) if ids else "", is_exact=False)
