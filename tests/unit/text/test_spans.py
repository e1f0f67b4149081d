from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from palate.core import Conversation, Demonstration, Message, Prompt
from palate.testing import TEMPLATES, chat_tokenizer
from palate.text.chat_text import FALLBACK_TEMPLATE, opening_ids
from palate.text.ends import end_ids
from palate.text.pack import Tree
from palate.text.spans import (
    Truncate,
    Unusable,
    demonstration_tree,
    document_trees,
    preference_tree,
    prompt_ids,
    split_ids,
)
from tests.support.completion_ids import completion_ids
from tests.unit.text.conftest import CHATML, LLAMA, QWEN3, REWRITING, THINK, bpe, words

LONG = 10_000
ASK = (Message("user", "is it hot"),)
MANY = (
    Message("system", "be good"),
    Message("user", "is it hot"),
    Message("assistant", "yes it is"),
    Message("user", "is soup good"),
    Message("assistant", "very good"),
    Message("user", "the stew"),
    Message("assistant", "no"),
    Message("user", "what"),
)
FEW = MANY[1:]

same_tokenizer = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
said = st.text(st.sampled_from("helo \n.aésI[]"), min_size=1, max_size=12)


def whole(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> tuple[int, ...]:
    """The conversation as transformers alone tokenises it."""
    if conversation[0].role == "text":
        return tuple(tokenizer("".join(turn.text for turn in conversation)).input_ids)
    turns = [{"role": turn.role, "content": turn.text} for turn in conversation]
    ids = tokenizer.apply_chat_template(turns, chat_template=tokenizer.chat_template or FALLBACK_TEMPLATE, return_dict=False)
    return (*(opening_ids(tokenizer) if tokenizer.chat_template is None else ()), *ids)


def learned_text(tokenizer: PreTrainedTokenizerFast, tree: Tree) -> list[str]:
    """The text of each run of learned tokens, branch by branch."""
    runs: list[list[int]] = [[]]
    for branch in tree.branches:
        runs.append([])
        for token, is_learned in zip(branch.ids, branch.learned, strict=True):
            if is_learned:
                runs[-1].append(token)
            elif runs[-1]:
                runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


@given(ask=said, answer=said, role=st.sampled_from(["user", "text"]))
@same_tokenizer
def test_prompt_and_completion_are_the_tokenised_whole(any_tokenizer: PreTrainedTokenizerFast, ask: str, answer: str, role: str) -> None:
    assume(ask.strip() or role == "user")  # a tokenizer of words has no token for white space, so such a prompt would be empty
    prompt = (Message("text" if role == "text" else "user", ask),)
    full = whole(any_tokenizer, (*prompt, Message("text" if role == "text" else "assistant", answer)))
    shared, (completion,) = split_ids(any_tokenizer, prompt, (answer,))
    joined, ends = shared + completion, end_ids(any_tokenizer)
    # The whole ends with the terminator: after it the template may write white space; when it writes none, one is added.
    assert joined == full[: len(joined)] or joined[:-1] == full
    assert not any_tokenizer.decode(full[len(joined) :]).strip()
    assert completion[-1] in ends
    assert shared == prompt_ids(any_tokenizer, prompt)[: len(shared)] or len(shared) == 1
    assert completion == completion_ids(any_tokenizer, prompt, answer)


@given(ask=said, one=said, other=said)
@same_tokenizer
def test_both_sides_of_a_pair_are_cut_at_the_same_place(any_tokenizer: PreTrainedTokenizerFast, ask: str, one: str, other: str) -> None:
    prompt = (Message("user", ask),)
    shared, sides = split_ids(any_tokenizer, prompt, (one, other))
    for text, side in zip((one, other), sides, strict=True):
        alone, (completion,) = split_ids(any_tokenizer, prompt, (text,))
        assert shared + side == alone + completion
        assert len(shared) <= len(alone)
    assert len(shared) == min(len(split_ids(any_tokenizer, prompt, (text,))[0]) for text in (one, other))


def test_a_merge_across_the_boundary_belongs_to_the_completion_of_both_sides() -> None:
    tokenizer = bpe(chat_template=None, bos=True)
    prompt = (Message("text", "hello there, hel"),)
    separate = prompt_ids(tokenizer, prompt)
    merged, (side,) = split_ids(tokenizer, prompt, ("lo",))
    assert len(merged) < len(separate)  # "hel" became part of "hello"
    unmerged, _ = split_ids(tokenizer, prompt, ("9",))
    assert unmerged == separate
    tree = preference_tree(tokenizer, prompt, ("9", "lo"), LONG)
    assert tree.trunk == merged
    assert tree.branches[1].ids == side
    one, other = (tokenizer.decode(branch.ids) for branch in tree.branches)
    assert one.removesuffix("9</s>") == other.removesuffix("lo</s>") == " hel"  # the same characters count on both sides
    assert all(tree.branches[0].learned)


def test_without_bos_a_prompt_that_merges_away_leaves_the_first_token_as_trunk_if_it_is_shared() -> None:
    tokenizer = bpe(chat_template=None)
    tree = preference_tree(tokenizer, (Message("text", "hel"),), ("lo there", "lo you"), LONG)
    assert tokenizer.decode(tree.trunk).startswith("hello")
    with pytest.raises(Unusable, match="no shared prompt token"):
        preference_tree(tokenizer, (Message("text", "h"),), ("ello there", "umble"), LONG)


def test_a_think_block_opened_by_the_generation_prompt_is_shared_only_with_completions_that_have_it() -> None:
    tokenizer = bpe(chat_template=THINK)
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert think in prompt_ids(tokenizer, ASK)
    thoughtful, (rest,) = split_ids(tokenizer, ASK, ("<think>\nhm</think>yes",))
    assert thoughtful == prompt_ids(tokenizer, ASK)
    assert tokenizer.decode(rest) == "hm</think>yes<|im_end|>"
    plain, (answer,) = split_ids(tokenizer, ASK, ("yes",))
    assert think not in plain + answer
    tree = preference_tree(tokenizer, ASK, ("<think>\nhm</think>yes", "yes"), LONG)
    assert tree.trunk == plain
    assert tree.branches[0].ids[0] == think


@pytest.mark.parametrize("learned", [(1,), (3,), (1, 3), (1, 3, 5), (3, 5), (5, 1)])
def test_learned_are_the_named_turns_each_with_its_terminator(any_tokenizer: PreTrainedTokenizerFast, learned: tuple[int, ...]) -> None:
    tree = demonstration_tree(any_tokenizer, Demonstration(FEW, learned), LONG)
    texts = learned_text(any_tokenizer, tree)
    ends = any_tokenizer.convert_ids_to_tokens(sorted(end_ids(any_tokenizer)))
    assert len(texts) == len(learned)
    for turn, text in zip(sorted(learned), texts, strict=True):
        assert text.endswith(tuple(ends)), "a model that does not learn the terminator never stops"
        assert FEW[turn].text in text
        assert not any(other.text in text for other in FEW if other.role == "user")
    joined = tree.trunk + tree.branches[-1].ids
    last = FEW[: max(learned) + 1]
    assert joined == whole(any_tokenizer, last)[: len(joined)] or joined[:-1] == whole(any_tokenizer, last)


def test_exact_tokens_of_a_demonstration_with_many_turns(word_tokenizer: PreTrainedTokenizerFast) -> None:
    tree = demonstration_tree(word_tokenizer, Demonstration(MANY, (2, 6)), LONG)
    assert word_tokenizer.decode(tree.trunk) == "<|system|> <unk> good <|end|> <|user|> is it hot <|end|> <|assistant|>"
    branch = list(zip(word_tokenizer.convert_ids_to_tokens(tree.branches[0].ids), tree.branches[0].learned, strict=True))
    assert branch[:4] == [("yes", True), ("it", True), ("is", True), ("<|end|>", True)]
    assert not any(is_learned for _, is_learned in branch[4:-2])
    between = "<|user|> is soup good <|end|> <|assistant|> very good <|end|> <|user|> the stew <|end|> <|assistant|>"
    assert " ".join(word for word, _ in branch[4:-2]) == between
    assert branch[-2:] == [("no", True), ("<|end|>", True)]


def test_padding_equal_to_eos_changes_nothing() -> None:
    for template in (CHATML, None):
        same, distinct = (bpe(chat_template=template, pad_is_eos=pad, eos="<|im_end|>") for pad in (True, False))
        demonstration = Demonstration(FEW, (1, 5))
        tree = demonstration_tree(same, demonstration, LONG)
        assert same.pad_token_id == same.eos_token_id != distinct.pad_token_id
        assert tree == demonstration_tree(distinct, demonstration, LONG)
        assert tree.branches[0].ids[-1] == same.eos_token_id
        assert tree.branches[0].learned[-1]


def test_every_answer_is_learned_as_the_last_one_also_where_the_template_writes_earlier_ones_in_another_way() -> None:
    tokenizer = bpe(chat_template=QWEN3)
    tree = demonstration_tree(tokenizer, Demonstration(FEW, (1, 3)), LONG)
    empty = "<think>\n\n</think>\n\n"
    assert learned_text(tokenizer, tree) == [f"{empty}yes it is<|im_end|>", f"{empty}very good<|im_end|>"]
    first, second = (tokenizer.decode(tree.trunk + branch.ids) for branch in tree.branches)
    assert first.endswith(f"assistant\n{empty}yes it is<|im_end|>")
    assert "assistant\nyes it is<|im_end|>\n" in second


THOUGHTFUL = (
    Message("user", "two and two?"),
    Message("assistant", "<think>\nI add them.\n</think>\n\nFour."),
    Message("user", "one more?"),
    Message("assistant", "<think>\nFour and one.\n</think>\n\nFive."),
)


@pytest.mark.parametrize(("name", "close"), [("forgetful", "<|close|>"), ("other last end", "<eos>"), ("two ends", "<|close|>")])
def test_thoughts_that_a_template_forgets_later_are_learned_where_they_are_the_last(name: str, close: str) -> None:
    tokenizer = chat_tokenizer(name)
    tree = demonstration_tree(tokenizer, Demonstration(THOUGHTFUL, (1, 3)), LONG)
    assert learned_text(tokenizer, tree) == [THOUGHTFUL[1].text + close, THOUGHTFUL[3].text + close]
    assert len(tree.branches) == (1 if name == "two ends" else 2)
    last = tokenizer.decode(tree.trunk + tree.branches[-1].ids)
    assert ("I add them." in last) == (name != "forgetful")


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_learned_of_a_turn_is_what_is_learned_of_it_alone(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    both = demonstration_tree(tokenizer, Demonstration(FEW, (1, 3)), LONG)
    alone = [demonstration_tree(tokenizer, Demonstration(FEW[: turn + 1], (turn,)), LONG) for turn in (1, 3)]
    assert learned_text(tokenizer, both) == [text for tree in alone for text in learned_text(tokenizer, tree)]
    for turn, tree in zip((1, 3), alone, strict=True):
        assert tree.trunk == prompt_ids(tokenizer, FEW[:turn])[: len(tree.trunk)]
        assert tree.branches[0].ids[-1] in end_ids(tokenizer)
        assert end_ids(tokenizer).isdisjoint(tree.branches[0].ids[:-1])


def test_thoughts_in_a_field_of_their_own_are_learned_or_the_row_says_why_not() -> None:
    turns = (Message("user", "two and two?"), Message("assistant", "Four.", '{"reasoning_content": "I add them."}'))
    tree = demonstration_tree(chat_tokenizer("reasoning"), Demonstration(turns, (1,)), LONG)
    assert learned_text(chat_tokenizer("reasoning"), tree) == ["<think>I add them.</think>Four.<|close|>"]
    with pytest.raises(Unusable, match="does not write `reasoning_content` of an answer"):
        demonstration_tree(chat_tokenizer("closed"), Demonstration(turns, (1,)), LONG)


def test_an_answer_of_which_nothing_is_written_is_no_row() -> None:
    turns = (Message("user", "two and two?"), Message("assistant", "<think>I add them.</think>"))
    with pytest.raises(Unusable, match="does not write an answer"):
        demonstration_tree(chat_tokenizer("thoughtless"), Demonstration(turns, (1,)), LONG)


def test_a_plain_completion_keeps_its_own_end_and_may_not_hold_another() -> None:
    tokenizer = bpe(chat_template=CHATML)
    prompt = (Message("text", "<|im_start|>user\nhot?<|im_end|>\n<|im_start|>assistant\n"),)
    assert tokenizer.decode(completion_ids(tokenizer, prompt, "yes<|im_end|>\n")) == "yes<|im_end|>"
    assert tokenizer.decode(completion_ids(tokenizer, prompt, "yes")) == "yes</s>"
    for make in (
        lambda: completion_ids(tokenizer, prompt, "yes</s> no"),
        lambda: demonstration_tree(tokenizer, Demonstration((*prompt, Message("text", "yes<|im_end|> no")), (1,)), LONG),
    ):
        with pytest.raises(Unusable, match="an end token inside a completion"):
            make()
    document = Demonstration((Message("text", "one</s>two"),), (0,))
    assert tokenizer.decode(demonstration_tree(tokenizer, document, LONG).branches[0].ids).endswith("</s>two</s>")


def test_a_template_that_rewrites_earlier_turns_is_refused_rather_than_mislearned() -> None:
    tokenizer = bpe(chat_template=REWRITING)
    with pytest.raises(Unusable, match="rewrites earlier turns"):
        split_ids(tokenizer, ASK, ("yes",))
    with pytest.raises(Unusable, match="rewrites earlier turns"):
        demonstration_tree(tokenizer, Demonstration(FEW, (1, 3)), LONG)


@pytest.mark.parametrize(
    ("turns", "learned", "reason"),
    [
        (FEW, (), "no turn to learn from"),
        (FEW, (0,), "only assistant turns"),
        (FEW, (9,), "no such turn"),
        (FEW[1:], (0,), "no turn before"),
    ],
)
def test_turns_that_cannot_be_learned_are_named(turns: Conversation, learned: tuple[int, ...], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        demonstration_tree(bpe(chat_template=CHATML), Demonstration(turns, learned), LONG)


def test_plain_prompt_and_completion_learn_the_completion_and_eos() -> None:
    tokenizer = bpe(chat_template=CHATML, bos=True)
    tree = demonstration_tree(tokenizer, Demonstration((Message("text", "it is"), Message("text", " hot 9")), (1,)), LONG)
    assert learned_text(tokenizer, tree) == [tokenizer.decode(tree.branches[0].ids)]
    assert tokenizer.decode(tree.trunk + tree.branches[0].ids) == "<s>it is hot 9</s>"
    first = demonstration_tree(tokenizer, Demonstration((Message("text", "9"), Message("text", "8")), (0,)), LONG)
    assert first == demonstration_tree(tokenizer, Demonstration((Message("text", "9"),), (0,)), LONG)


def test_equal_completions_are_scored_as_any_others() -> None:
    tree = preference_tree(words(), ASK, ("yes", "no", "yes"), LONG)
    assert tree.branches[0] == tree.branches[2] != tree.branches[1]


def test_too_long_rows_are_dropped_with_their_length() -> None:
    tokenizer = words()
    tree = preference_tree(tokenizer, ASK, ("yes", "no it is"), LONG)
    needed = len(tree.trunk) + 4
    assert preference_tree(tokenizer, ASK, ("yes", "no it is"), needed) == tree
    with pytest.raises(Unusable, match=f"too long: {needed} tokens, {needed - 1} allowed"):
        preference_tree(tokenizer, ASK, ("yes", "no it is"), needed - 1)


def test_a_prompt_is_cut_from_the_left_keeps_its_bos_and_leaves_completions_whole() -> None:
    tokenizer = bpe(chat_template=LLAMA, bos=True)
    tree = preference_tree(tokenizer, (Message("user", "hello " * 30),), ("9 8 7", "9"), LONG)
    cut = preference_tree(tokenizer, (Message("user", "hello " * 30),), ("9 8 7", "9"), 20, truncate="prompt")
    assert cut.branches == tree.branches
    assert len(cut.trunk) + max(len(branch.ids) for branch in cut.branches) == 20
    assert cut.trunk[0] == tokenizer.bos_token_id
    assert cut.trunk[1:] == tree.trunk[1 - len(cut.trunk) :]
    longest = max(len(branch.ids) for branch in tree.branches)
    assert len(preference_tree(tokenizer, (Message("user", "hello " * 30),), ("9 8 7", "9"), longest + 2, truncate="prompt").trunk) == 2
    with pytest.raises(Unusable, match="no room for the prompt"):
        preference_tree(tokenizer, (Message("user", "hello " * 30),), ("9 8 7", "9"), longest + 1, truncate="prompt")


def test_a_cut_completion_has_no_terminator_and_a_completion_cut_to_nothing_is_no_row() -> None:
    tokenizer = words()
    demonstration = Demonstration((*ASK, Message("assistant", "yes it is very hot")), (1,))
    tree = demonstration_tree(tokenizer, demonstration, LONG)
    cut = demonstration_tree(tokenizer, demonstration, len(tree.trunk) + 3, truncate="completion")
    assert tokenizer.decode(cut.branches[0].ids) == "yes it is"
    for max_tokens in (len(tree.trunk), len(tree.trunk) - 1, 1):
        with pytest.raises(Unusable, match="no token to learn from"):
            demonstration_tree(tokenizer, demonstration, max_tokens, truncate="completion")


@given(
    max_tokens=st.integers(1, 60),
    truncate=st.sampled_from(["drop", "prompt", "completion"]),
    learned=st.sets(st.sampled_from([1, 3, 5]), min_size=1),
)
@same_tokenizer
def test_no_tree_is_too_long_or_without_a_learned_token(
    any_tokenizer: PreTrainedTokenizerFast, max_tokens: int, truncate: Truncate, learned: set[int]
) -> None:
    trees, kinds = [], set()
    for make in (
        lambda: demonstration_tree(any_tokenizer, Demonstration(FEW, tuple(learned)), max_tokens, truncate=truncate),
        lambda: preference_tree(any_tokenizer, FEW[:3], ("yes it", "no"), max_tokens, truncate=truncate),
    ):
        try:
            trees.append(make())
        except Unusable as unusable:
            kinds.add(unusable.kind)
    assert kinds <= {"too long", "no token to learn from"}
    for tree in trees:
        assert all(len(tree.trunk) + len(branch.ids) <= max_tokens for branch in tree.branches)
        assert all(any(branch.learned) for branch in tree.branches)


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 1000])
def test_windows_of_a_document_learn_every_token_but_the_first_once(max_tokens: int) -> None:
    for tokenizer in (bpe(chat_template=None, bos=True), bpe(chat_template=CHATML)):
        text = "hello there, the soup is good today; 1 2 3"
        trees = document_trees(tokenizer, Demonstration((Message("text", text),), (0,)), max_tokens)
        ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
        assert tuple(i for tree in trees for i in tree.branches[0].ids) == ids[1:]
        assert trees[0].trunk == ids[:1]
        assert all(tree.trunk == before.branches[0].ids[-1:] for before, tree in pairwise(trees))
        assert all(all(tree.branches[0].learned) for tree in trees)
        assert all(1 + len(tree.branches[0].ids) <= max(max_tokens, 2) for tree in trees)


def test_a_prompt_object_and_its_conversation_have_the_same_ids(any_tokenizer: PreTrainedTokenizerFast) -> None:
    assert prompt_ids(any_tokenizer, Prompt("1", ASK)) == prompt_ids(any_tokenizer, ASK)
