"""Turn conversations into token trees, and say which tokens are prompt, completion and learned.

This is the only masking code. The prompt, and the prompt with its completion, are each tokenised whole. The completion begins at
the first token that differs, so a merge across the boundary or a `<think>` in the generation prompt falls on one side. Several
completions share the earliest such place. A turn ends with its first end token, which the model learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from palate.core import Completion, Conversation, Demonstration, Message, Prompt
from palate.text.pack import Branch, Tree
from palate.text.template import Ids, Unusable, end_ids, eos_id, is_plain_text, marker_ids, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Answer",
    "Truncate",
    "Unusable",
    "answer_of",
    "completion_ids",
    "demonstration_tree",
    "document_trees",
    "preference_tree",
    "prompt_ids",
    "split_ids",
]

Span = tuple[int, int]

Answer = str | Message
"""A completion: its text, or an assistant turn that calls tools."""

Truncate = Literal["drop", "prompt", "completion"]
"""What to give up if a path through a tree is too long: the row, the left side of the prompt, or the ends of the completions."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt | Conversation) -> Ids:
    """Ids that a sampler continues: the conversation with the generation prompt, or plain text. Never empty.

    Raises:
        Unusable: the prompt has no token, or the template refuses the conversation.
    """
    conversation = prompt.conversation if isinstance(prompt, Prompt) else prompt
    ids = render(tokenizer, conversation, generation_prompt=True)
    if not ids:
        raise Unusable("the prompt has no token")
    return ids


def completion_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, completion_text: str) -> Ids:
    """Ids of the completion of `conversation` with exactly one terminator at the end: the second part of `split_ids`."""
    return split_ids(tokenizer, conversation, (completion_text,))[1][0]


def answer_of(completion: Completion) -> Answer:
    """The part of a completion that goes through the template: its text, or a turn with its calls."""
    return Message("assistant", completion.text, completion.tool_fields) if completion.tool_fields else completion.text


def split_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, completions: Sequence[Answer]) -> tuple[Ids, tuple[Ids, ...]]:
    """(shared ids, ids of each completion). Together they are the tokenised whole, cut where the prompt's tokens end in all of them.

    The shared ids are `prompt_ids`, or fewer if a completion changes the prompt's last tokens. At least one id is shared.

    Raises:
        Unusable: the tokenised wholes do not share a token, or the template rewrites earlier turns when a completion follows.
    """
    prompt = prompt_ids(tokenizer, conversation)
    role: Literal["text", "assistant"] = "text" if is_plain_text(conversation) else "assistant"
    wholes = []
    cuts = []
    for completion in completions:
        turn = completion if isinstance(completion, Message) else Message(role, completion)
        full = render(tokenizer, (*conversation, turn), generation_prompt=False)
        start = _turn_start(tokenizer, prompt, full) if role == "assistant" else _shared(prompt, full)
        whole = (*full, eos_id(tokenizer)) if role == "text" else _closed(tokenizer, full, start)
        wholes.append(whole)
        cuts.append(start)
    # A tokenizer without BOS may merge the whole prompt away. The trunk is then the first token, if all wholes share it.
    cut = max(min(cuts), 1)
    if len({whole[:cut] for whole in wholes}) > 1:
        raise Unusable("no shared prompt token: the prompt merges with the completions, and the tokenizer adds no BOS")
    return wholes[0][:cut], tuple(whole[cut:] for whole in wholes)


def demonstration_tree(
    tokenizer: PreTrainedTokenizerBase, demonstration: Demonstration, max_tokens: int, *, truncate: Truncate = "drop"
) -> Tree:
    """The tree with a trunk up to the first learned token and one branch up to the end of the last learned turn.

    The model learns the tokens of the turns in `learned`, each with its terminator. Turns after the last of them are left out.

    Args:
        tokenizer: has the template and the terminators.
        demonstration: its `learned` turns must be assistant turns with a turn before them, or plain text.
        max_tokens: the most tokens of trunk and branch together.
        truncate: what to give up if there are more.

    Raises:
        Unusable: the tree is too long, no token is learned, or the tokens of a turn are not found.
    """
    conversation = demonstration.conversation[: max(demonstration.learned, default=-1) + 1]
    _check_learned(conversation, demonstration.learned)
    if is_plain_text(conversation):
        ids, spans = _text_spans(tokenizer, conversation, demonstration.learned)
    else:
        ids, spans = _turn_spans(tokenizer, conversation, demonstration.learned)
    learned = [False] * len(ids)
    for turn, (start, end) in zip(sorted(demonstration.learned), spans, strict=True):
        if end <= start:
            raise Unusable(f"a turn to learn from has no token: turn {turn}")
        learned[start:end] = [True] * (end - start)
    cut = max(spans[0][0], 1)
    return _fit(tokenizer, ids[:cut], [Branch(ids[cut:], tuple(learned[cut:]))] if ids[cut:] else [], max_tokens, truncate)


def preference_tree(
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
    completions: Sequence[Answer],
    max_tokens: int,
    *,
    truncate: Truncate = "drop",
) -> Tree:
    """The tree with the prompt as trunk and one branch per completion, in order. Every branch token is learned.

    Different texts can have the same tokens (unknown words). The caller must check whether branches are equal.

    Args:
        tokenizer: has the template and the terminators.
        conversation: the prompt.
        completions: two or more for a comparison; one is allowed.
        max_tokens: the most tokens of trunk and longest branch together.
        truncate: what to give up if there are more.

    Raises:
        Unusable: the tree is too long, or the branches share no prompt token.
    """
    trunk, branches = split_ids(tokenizer, conversation, completions)
    return _fit(tokenizer, trunk, [Branch(ids, (True,) * len(ids)) for ids in branches], max_tokens, truncate)


def document_trees(tokenizer: PreTrainedTokenizerBase, document: Demonstration, max_tokens: int) -> tuple[Tree, ...]:
    """The trees of a pretraining text of any length: windows of at most `max_tokens` tokens. Each token but the first is learned once.

    A window's trunk is the last token of the window before it.

    Raises:
        Unusable: the text has no token to learn.
    """
    whole = demonstration_tree(tokenizer, document, max_tokens=NO_LIMIT)
    (branch,) = whole.branches
    ids, learned = whole.trunk[-1:] + branch.ids, (False, *branch.learned)
    step = max(max_tokens - 1, 1)
    windows = [(at, slice(at + 1, at + 1 + step)) for at in range(0, len(ids) - 1, step)]
    return tuple(Tree(ids[at : at + 1], (Branch(ids[rest], learned[rest]),)) for at, rest in windows if any(learned[rest]))


NO_LIMIT = 1 << 30
"""The `max_tokens` of a sequence without a limit."""


def _check_learned(conversation: Conversation, learned: Sequence[int]) -> None:
    if not learned:
        raise Unusable("no turn to learn from")
    for turn in learned:
        if not 0 <= turn < len(conversation):
            raise Unusable(f"no such turn to learn from: {turn}")
        if conversation[turn].role not in ("assistant", "text"):
            raise Unusable(f"only assistant turns are learned: turn {turn} is a {conversation[turn].role} turn")
        if turn == 0 and conversation[turn].role == "assistant":
            raise Unusable("no turn before the assistant turn to learn from")


def _text_spans(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, learned: Sequence[int]) -> tuple[Ids, list[Span]]:
    """Ids of the joined plain texts with EOS at the end, and the [start, end) of each learned text. The last one includes EOS."""
    bare = render(tokenizer, conversation, generation_prompt=False)
    ids = (*bare, eos_id(tokenizer))
    # An empty text renders as what the tokenizer puts before every text (BOS).
    before = [(*conversation[:i], Message("text", "")) for i in range(len(conversation))]
    starts = [*(_shared(render(tokenizer, texts, generation_prompt=False), bare) for texts in before), len(ids)]
    return ids, [(starts[i], starts[i + 1]) for i in sorted(learned)]


def _turn_spans(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, learned: Sequence[int]) -> tuple[Ids, list[Span]]:
    """Ids of a chat that ends with a learned turn, and the [start, end) of each learned turn with its terminator."""
    full = render(tokenizer, conversation, generation_prompt=False)
    turns = sorted(learned)
    starts = [_turn_start(tokenizer, render(tokenizer, conversation[:i], generation_prompt=True), full) for i in turns]
    whole = _closed(tokenizer, full, starts[-1])
    middle = [(start, _turn_end(tokenizer, conversation, turn, full, start)) for turn, start in zip(turns[:-1], starts[:-1], strict=True)]
    return whole, [*middle, (starts[-1], len(whole))]


def _turn_start(tokenizer: PreTrainedTokenizerBase, prompt: Ids, full: Ids) -> int:
    """The index in `full` at which the turn after `prompt` (with its generation prompt) begins."""
    start = _shared(prompt, full)
    # Only the generation prompt may differ. An end token after the shared part means that an earlier turn differs already.
    if not end_ids(tokenizer).isdisjoint(prompt[start:]):
        raise Unusable("the chat template rewrites earlier turns when a completion follows")
    return start


def _turn_end(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, turn: int, full: Ids, start: int) -> int:
    """The index in `full` at which a turn before others ends: after its first end token, or the marker that opens the next turn."""
    bound = _shared(render(tokenizer, conversation[: turn + 1], generation_prompt=False), full)
    if bound <= start:  # the template writes a last turn differently, so the next turn's beginning is the bound
        later = next(i for i in range(turn + 1, len(conversation)) if conversation[i].role == "assistant")
        bound = _shared(render(tokenizer, conversation[:later], generation_prompt=True), full)
    ends = end_ids(tokenizer)
    end = next((at for at in range(start, bound) if full[at] in ends), None)
    if end is not None:
        return end + 1
    if (marked := _marked_end(tokenizer, full, start, bound)) is not None:
        return marked
    # Some templates close a turn with the next role's marker (GLM), or with another token than at the very end (gpt-oss).
    return bound + 1 if bound < len(full) and full[bound] in marker_ids(tokenizer) else bound


def _closed(tokenizer: PreTrainedTokenizerBase, full: Ids, start: int) -> Ids:
    """`full` up to and including the first end token from `start` on, or with EOS appended if the template does not write one."""
    ends = end_ids(tokenizer)
    end = next((at + 1 for at in range(start, len(full)) if full[at] in ends), _marked_end(tokenizer, full, start, len(full)))
    return (*full, eos_id(tokenizer)) if end is None else full[:end]


def _marked_end(tokenizer: PreTrainedTokenizerBase, full: Ids, start: int, bound: int) -> int | None:
    """The index after the special token that closes [start, bound), ignoring white space after it; None if a word closes it.

    A turn that calls tools may end with a special marker (gpt-oss: `<|call|>`, Llama 3.1: `<|eom_id|>`).
    """
    markers = marker_ids(tokenizer)
    for at in range(bound - 1, start - 1, -1):
        if full[at] in markers:
            return at + 1
        if str(tokenizer.decode([full[at]])).strip():
            return None
    return None


def _shared(one: Ids, other: Ids) -> int:
    """Length of the common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _fit(tokenizer: PreTrainedTokenizerBase, trunk: Ids, branches: Sequence[Branch], max_tokens: int, truncate: Truncate) -> Tree:
    """The tree within `max_tokens`. Raises Unusable if it does not fit, or if no token to learn is left."""
    longest = max((len(branch.ids) for branch in branches), default=0)
    if len(trunk) + longest > max_tokens:
        if truncate == "drop":
            raise Unusable(f"too long: {len(trunk) + longest} tokens, {max_tokens} allowed")
        if truncate == "prompt":
            trunk = _left_cut(tokenizer, trunk, max_tokens - longest)
        else:
            room = max(max_tokens - len(trunk), 0)
            branches = [Branch(branch.ids[:room], branch.learned[:room]) for branch in branches] if room else []
    if not branches or not all(any(branch.learned) for branch in branches):
        raise Unusable("no token to learn from")
    return Tree(trunk, tuple(branches))


def _left_cut(tokenizer: PreTrainedTokenizerBase, trunk: Ids, room: int) -> Ids:
    """The trunk's last `room` tokens; the first of them is the BOS, if the trunk has one."""
    head = trunk[:1] if trunk[0] == tokenizer.bos_token_id else ()
    keep = room - len(head)
    if keep < 1:
        raise Unusable("too long: the completion leaves no room for the prompt")
    return head + trunk[len(trunk) - keep :]
