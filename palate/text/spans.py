"""Turn conversations into token trees, and say which tokens are prompt, completion and learned.

This is the only masking code. The prompt, and the prompt with its completion, are each tokenised whole. The completion begins at
the first token that differs, so a merge across the boundary or a `<think>` in the generation prompt falls on one side. Several
completions share the earliest such place. A turn ends with its first end token, which the model learns.

Every learned turn is tokenised as the last turn of its conversation, because that is where a model generates it. Turns that stay the
same when others follow share one branch. A template that writes earlier turns in another way (it forgets thoughts, or closes the last
turn differently) gives a branch for each such turn.

A sampled completion has token ids already. They follow the prompt as they are, and nothing of them is tokenised again. A completion that
was cut does not get an end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from palate.core import THOUGHT_FIELDS, Completion, Conversation, Demonstration, Message, Prompt
from palate.text.chat_text import Ids, Unusable, fields_of
from palate.text.ends import closing_id, end_ids, marked_end, written_end
from palate.text.pack import Branch, Tree
from palate.text.remarks import WORDS, left_out, squeezed, turn_text
from palate.text.template import is_plain_text, render
from palate.text.tokens import Answer, answer_of, known_ids, turn_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Answer",
    "Truncate",
    "Unusable",
    "answer_of",
    "demonstration_tree",
    "document_trees",
    "preference_tree",
    "prompt_ids",
    "split_ids",
    "whole_ids",
]

Span = tuple[int, int]

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


def split_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, completions: Sequence[Answer]) -> tuple[Ids, tuple[Ids, ...]]:
    """(shared ids, ids of each completion). Together they are the tokenised whole, cut where the prompt's tokens end in all of them.

    The shared ids are `prompt_ids`, or fewer if a completion changes the prompt's last tokens. At least one id is shared.

    Raises:
        Unusable: the tokenised wholes do not share a token, or the template rewrites earlier turns when a completion follows.
    """
    prompt = prompt_ids(tokenizer, conversation)
    written = [whole_ids(tokenizer, conversation, prompt, completion) for completion in completions]
    # A tokenizer without BOS may merge the whole prompt away. The trunk is then the first token, if all wholes share it.
    cut = max(min((start for _, start in written), default=0), 1)
    if len({whole[:cut] for whole, _ in written}) > 1:
        raise Unusable("no shared prompt token: the prompt merges with the completions, and the tokenizer adds no BOS")
    return written[0][0][:cut], tuple(whole[cut:] for whole, _ in written)


def whole_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, prompt: Ids, answer: Answer) -> tuple[Ids, int]:
    """Ids of a prompt and its completion, and the index at which the completion begins. `prompt` is `prompt_ids` of the conversation.

    Raises:
        Unusable: an end token stands inside the completion, or the template rewrites or leaves out what it should write.
    """
    role: Literal["text", "assistant"] = "text" if is_plain_text(conversation) else "assistant"
    if isinstance(answer, Completion) and answer.ids:
        ids = known_ids(tokenizer, prompt, answer, is_chat=role == "assistant")
        if ids:
            return prompt + ids, len(prompt)
    whole, start = (_text if role == "text" else _last_turn)(tokenizer, conversation, prompt, turn_of(answer, role))
    is_cut = isinstance(answer, Completion) and answer.is_cut
    return (whole[:-1] if is_cut else whole), start


def demonstration_tree(
    tokenizer: PreTrainedTokenizerBase, demonstration: Demonstration, max_tokens: int, *, truncate: Truncate = "drop"
) -> Tree:
    """The tree with a trunk up to the first learned token, and a branch up to the end of the last learned turn.

    The model learns the tokens of the turns in `learned`, each with its terminator. Turns after the last of them are left out. A turn
    that the template writes in another way when others follow has a branch of its own, which ends with it.

    Args:
        tokenizer: has the template and the terminators.
        demonstration: its `learned` turns must be assistant turns with a turn before them, or plain text.
        max_tokens: the most tokens of trunk and branch together.
        truncate: what to give up if there are more.

    Raises:
        Unusable: the tree is too long, no token is learned, or the tokens of a turn are not found.
    """
    if demonstration.sampled is not None:
        trunk, (ids,) = split_ids(tokenizer, demonstration.conversation[:-1], (demonstration.sampled,))
        return _fit(tokenizer, trunk, [Branch(ids, (True,) * len(ids))], max_tokens, truncate)
    conversation = demonstration.conversation[: max(demonstration.learned, default=-1) + 1]
    _check_learned(conversation, demonstration.learned)
    plain = is_plain_text(conversation)
    branches = (
        [_text_spans(tokenizer, conversation, demonstration.learned)] if plain else _turn_spans(tokenizer, conversation, demonstration)
    )
    cut = max(min(start for _, spans in branches for start, _ in spans), 1)
    if len({ids[:cut] for ids, _ in branches}) > 1:
        cut = min(_shared(branches[0][0], ids) for ids, _ in branches)
        if not cut:
            raise Unusable("no shared token: the chat template begins a conversation differently when turns follow")
    return _fit(tokenizer, branches[0][0][:cut], [_branch(ids, spans, cut) for ids, spans in branches], max_tokens, truncate)


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


def _text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, prompt: Ids, completion: Message) -> tuple[Ids, int]:
    """Ids of a plain prompt and its completion with the completion's own end or EOS, and the index at which the completion begins.

    Raises:
        Unusable: an end token stands inside the completion, so a model that learned it would stop there.
    """
    full = render(tokenizer, (*conversation, completion), generation_prompt=False)
    start = _shared(prompt, full)
    _check_one_end(tokenizer, full[start:])
    return (*full, written_end(tokenizer, completion.text)), start


def _text_spans(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, learned: Sequence[int]) -> tuple[Ids, list[Span]]:
    """Ids of the joined plain texts with an end, and the [start, end) of each learned text. The last one includes the end.

    A document, which has no prompt, may hold ends.
    """
    bare = render(tokenizer, conversation, generation_prompt=False)
    ids = (*bare, written_end(tokenizer, conversation[-1].text))
    # An empty text renders as what the tokenizer puts before every text (BOS).
    before = [(*conversation[:i], Message("text", "")) for i in range(len(conversation))]
    starts = [*(_shared(render(tokenizer, texts, generation_prompt=False), bare) for texts in before), len(ids)]
    spans = [(starts[i], starts[i + 1]) for i in sorted(learned)]
    for turn, (start, end) in zip(sorted(learned), spans, strict=True):
        if end <= start:
            raise Unusable(f"a turn to learn from has no token: turn {turn}")
        if turn:
            _check_one_end(tokenizer, ids[start : min(end, len(bare))])
    return ids, spans


def _check_one_end(tokenizer: PreTrainedTokenizerBase, completion: Ids) -> None:
    ends = end_ids(tokenizer)
    inside = next((token for token in completion if token in ends), None)
    if inside is not None:
        raise Unusable(f"an end token inside a completion: {tokenizer.decode([inside])!r}. Write it in another way, or cut the text there")


def _turn_spans(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, demonstration: Demonstration
) -> list[tuple[Ids, list[Span]]]:
    """The branches of a chat, shortest first: ids from the beginning, and the [start, end) of each learned turn with its terminator."""
    branches: list[tuple[Ids, list[Span]]] = []
    for turn in sorted(demonstration.learned, reverse=True):
        before = conversation[:turn]
        whole, start = _last_turn(tokenizer, before, prompt_ids(tokenizer, before), conversation[turn])
        same = next((spans for ids, spans in branches if ids[: len(whole)] == whole), None)
        if same is None:
            branches.append((whole, [(start, len(whole))]))
        else:
            same.append((start, len(whole)))
    return branches[::-1]


def _last_turn(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, prompt: Ids, turn: Message) -> tuple[Ids, int]:
    """Ids of a chat up to the end of its last turn, and the index at which that turn begins.

    Raises:
        Unusable: the template rewrites earlier turns when this one follows, or does not write its thoughts or its text.
    """
    full = render(tokenizer, (*conversation, turn), generation_prompt=False)
    start = _turn_start(tokenizer, prompt, full)
    _check_written(tokenizer, conversation, turn)
    return _closed(tokenizer, full, start, calls="tool_calls" in fields_of(turn)), start


def _check_written(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, turn: Message) -> None:
    """Check that the template writes the thoughts that an answer has in a field of their own, and something of its text."""
    thoughts = {name: value for name, value in fields_of(turn).items() if name in THOUGHT_FIELDS}
    written = squeezed(turn_text(tokenizer, conversation, turn)) if thoughts else ""
    for name, value in thoughts.items():
        if squeezed(value) not in written:
            raise Unusable(f"the chat template does not write `{name}` of an answer: use a tokenizer whose template does, or `content`")
    missing = left_out(tokenizer, conversation, turn)
    if missing and len(missing) == len(WORDS.findall(turn.text)):
        raise Unusable("the chat template does not write an answer: use a tokenizer whose template does")


def _branch(ids: Ids, spans: Sequence[Span], cut: int) -> Branch:
    """The branch behind the first `cut` ids; the ids in `spans` are learned."""
    learned = [False] * len(ids)
    for start, end in spans:
        learned[start:end] = [True] * (end - start)
    return Branch(ids[cut:], tuple(learned[cut:]))


def _turn_start(tokenizer: PreTrainedTokenizerBase, prompt: Ids, full: Ids) -> int:
    """The index in `full` at which the turn after `prompt` (with its generation prompt) begins."""
    start = _shared(prompt, full)
    # Only the generation prompt may differ. An end token after the shared part means that an earlier turn differs already.
    if not end_ids(tokenizer).isdisjoint(prompt[start:]):
        raise Unusable("the chat template rewrites earlier turns when a completion follows")
    return start


def _closed(tokenizer: PreTrainedTokenizerBase, full: Ids, start: int, *, calls: bool) -> Ids:
    """`full` up to and including the first end token from `start` on, or with an end appended if the template does not write one."""
    ends = end_ids(tokenizer)
    end = next((at + 1 for at in range(start, len(full)) if full[at] in ends), None)
    end = marked_end(tokenizer, full, start) if end is None else end
    return (*full, closing_id(tokenizer, calls=calls)) if end is None else full[:end]


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
