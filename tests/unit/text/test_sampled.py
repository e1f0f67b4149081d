"""Sampled tokens and their texts: nothing is lost between them, in any file and in any tree that is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palate.core import Completion, Conversation, Message, Preference, Prompt, UnpairedPreference
from palate.data.formats import (
    completion_row,
    preference_row,
    read_demonstrations,
    read_preferences,
    read_samples,
    read_unpaired,
    sample_row,
    unpaired_row,
)
from palate.data.jsonl import write_rows
from palate.testing import byte_tokenizer
from palate.text.sampled_texts import completions_of
from palate.text.spans import NO_LIMIT, demonstration_tree, preference_tree, prompt_ids, split_ids
from palate.text.template import end_ids
from palate.text.tokens import tokenizer_digest
from palate.training.comparisons import judged_prompts
from palate.training.unpaired import rated_prompts
from tests.unit.text.conftest import CHATML, TRIMMING, bpe, words

PLAIN = (Message("text", "Once upon a time there was a"),)
CHAT = (Message("user", "is it hot"),)


@dataclass(frozen=True)
class Drawn:
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    stop: str


def spaced() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama's: a space belongs to the word after it, and decoding drops the first space of what it gets."""
    known = ["<unk>", "<s>", "</s>", *"\u2581abcdeghilmnoprstuwyO<>/", "\u2581little", "\u2581a", "\u2581was", "<answer>"]
    tokenizer = Tokenizer(models.BPE({token: k for k, token in enumerate(known)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": ["<answer>"]})
    return fast


TOKENIZERS = {
    "words": words,
    "chatml": lambda: bpe(chat_template=CHATML, eos="<|im_end|>"),
    "no template, bos": lambda: bpe(chat_template=None, bos=True, pad_is_eos=True),
    "a template that trims": lambda: bpe(chat_template=TRIMMING, eos="<|im_end|>"),
    "bytes": byte_tokenizer,
    "spaces before words": spaced,
}
every = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Each of the tokenizers in turn."""
    made: PreTrainedTokenizerFast = TOKENIZERS[request.param]()
    return made


@st.composite
def draws(draw: st.DrawFn) -> tuple[list[int], bool]:
    """Numbers that stand for token ids, and whether an end follows them."""
    return draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=6)), draw(st.booleans())


def sampled(tokenizer: PreTrainedTokenizerFast, asked: Conversation, *drawn: tuple[list[int], bool]) -> tuple[Completion, ...]:
    """Completions of random tokens that are no ends; some are followed by one."""
    ends = end_ids(tokenizer)
    usable = [token for token in range(len(tokenizer)) if token not in ends]
    samples = []
    for numbers, is_ended in drawn:
        ids = tuple(usable[number % len(usable)] for number in numbers) + ((min(ends),) if is_ended else ())
        samples.append(Drawn(ids, (-1.0,) * len(ids), "eos" if is_ended else "length"))
    return completions_of(tokenizer, asked, prompt_ids(tokenizer, asked), samples)  # type: ignore[arg-type]


@given(first=draws(), second=draws(), is_chat=st.booleans())
@every
def test_ids_and_cuts_go_through_every_file_into_what_is_learned(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
    first: tuple[list[int], bool],
    second: tuple[list[int], bool],
    is_chat: bool,
) -> None:
    asked = CHAT if is_chat else PLAIN
    folder, prompt = tmp_path_factory.mktemp("rows"), Prompt("p", asked, {"prompt": "a user's", "completions": 3})
    completions = sampled(tokenizer, asked, first, second)
    (back,) = read_samples(written(folder / "samples.jsonl", sample_row(prompt, completions))).rows
    assert [(c.text, c.ids, c.stop, c.is_exact) for c in back[1]] == [(c.text, c.ids, c.stop, c.is_exact) for c in completions]
    assert (back[0].conversation, back[0].fields) == (asked, prompt.fields)
    one, other = back[1]
    if one.ids != other.ids:
        file = written(folder / "pairs.jsonl", preference_row(Preference(back[0], one, other)))
        (preference,) = read_preferences(file).rows
        ((judged,), _) = judged_prompts([preference], tokenizer, NO_LIMIT)
        assert [branch.ids for branch in judged.tree.branches] == [one.ids, other.ids]
        assert preference.prompt.fields == prompt.fields
    if one.text.strip():
        (demonstration,) = read_demonstrations(written(folder / "best.jsonl", completion_row(back[0], one))).rows
        tree = demonstration_tree(tokenizer, demonstration, NO_LIMIT)
        assert (tree.trunk, [branch.ids for branch in tree.branches]) == (prompt_ids(tokenizer, asked), [one.ids])
        assert all(tree.branches[0].learned)
        (unpaired,) = read_unpaired(
            written(folder / "one.jsonl", unpaired_row(UnpairedPreference(back[0], one, desirable=True, id="u")))
        ).rows
        ((rated,), _) = rated_prompts([unpaired], tokenizer, NO_LIMIT)
        assert rated.tree.branches[0].ids == one.ids


@given(drawn=draws(), is_chat=st.booleans())
@every
def test_a_text_gives_the_sampled_ids_again_or_says_that_it_does_not(
    tokenizer: PreTrainedTokenizerFast, drawn: tuple[list[int], bool], is_chat: bool
) -> None:
    asked = CHAT if is_chat else PLAIN
    (completion,) = sampled(tokenizer, asked, drawn)
    alone = Completion(completion.text, stop=completion.stop)
    if completion.is_exact:
        trunk, (branch,) = split_ids(tokenizer, asked, (alone,))
        assert trunk + branch == prompt_ids(tokenizer, asked) + completion.ids
    body = completion.ids[:-1] if completion.stop == "eos" else completion.ids
    window = list(prompt_ids(tokenizer, asked))
    whole = tokenizer.decode(window + list(body), clean_up_tokenization_spaces=False)
    assert "".join(whole.split()).endswith("".join(completion.text.split()))


def written(file: Path, *rows: object) -> Path:
    write_rows(file, rows)  # type: ignore[arg-type]
    return file


def test_the_space_before_a_completion_of_plain_text_stays() -> None:
    tokenizer = spaced()
    ids = tuple(tokenizer.convert_tokens_to_ids(["\u2581little", "g", "i", "r", "l", "</s>"]))
    (completion,) = completions_of(tokenizer, PLAIN, prompt_ids(tokenizer, PLAIN), [Drawn(ids, (0.0,) * 6, "eos")])  # type: ignore[list-item]
    assert completion.text == " littlegirl"


def test_special_tokens_that_were_sampled_are_in_the_text_and_the_end_is_not() -> None:
    tokenizer = bpe(chat_template=CHATML, eos="<|im_end|>")
    ids = tuple(tokenizer.convert_tokens_to_ids(["<|user|>", "h", "<pad>", "<|im_end|>"]))
    (completion,) = completions_of(tokenizer, CHAT, prompt_ids(tokenizer, CHAT), [Drawn(ids, (0.0,) * 4, "eos")])  # type: ignore[list-item]
    assert completion.text == "<|user|>h<pad>"


def test_white_space_that_the_template_writes_is_not_part_of_a_turn_and_sampled_white_space_is() -> None:
    tokenizer = bpe(chat_template=None, bos=True)
    trunk = prompt_ids(tokenizer, CHAT)
    for text, expected in ((" yes", "yes"), ("  yes ", " yes ")):
        ids = (*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id)
        (completion,) = completions_of(tokenizer, CHAT, trunk, [Drawn(ids, (0.0,) * len(ids), "eos")])  # type: ignore[list-item]
        assert completion.text == expected


def test_a_cut_completion_never_gets_an_end_whether_its_tokens_are_known_or_not() -> None:
    for tokenizer, asked in ((bpe(chat_template=CHATML, eos="<|im_end|>"), CHAT), (bpe(chat_template=None), PLAIN)):
        cut, whole = Completion("yes it", stop="length"), Completion("yes it")
        tree = preference_tree(tokenizer, asked, (cut, whole), NO_LIMIT)
        assert tree.branches[1].ids == (*tree.branches[0].ids, tokenizer.eos_token_id)


def test_ids_of_another_tokenizer_and_of_a_changed_text_are_not_used() -> None:
    tokenizer, other = bpe(chat_template=CHATML, eos="<|im_end|>"), bpe(chat_template=CHATML.replace("assistant", "model"))
    assert tokenizer_digest(tokenizer) != tokenizer_digest(other)
    ids = (*reversed(tokenizer("yes it", add_special_tokens=False).input_ids), tokenizer.eos_token_id)
    completion = Completion(tokenizer.decode(ids[:-1]), ids, stop="eos", tokenizer=tokenizer_digest(tokenizer))

    def learned(one: Completion, by: PreTrainedTokenizerFast) -> tuple[int, ...]:
        return preference_tree(by, CHAT, (one,), NO_LIMIT).branches[0].ids

    texts_ids = learned(Completion(completion.text), other)
    assert learned(completion, tokenizer) == ids
    assert learned(completion, other) == texts_ids
    edited = Completion("no", ids, stop="eos", tokenizer=completion.tokenizer)
    assert learned(edited, tokenizer) == learned(Completion("no"), tokenizer)
    assert learned(Completion(completion.text, ids, stop="eos"), tokenizer) == learned(Completion(completion.text), tokenizer)


def test_a_digest_survives_saving_and_sees_what_changes_ids(tmp_path: Path) -> None:
    tokenizer = bpe(chat_template=CHATML, eos="<|im_end|>")
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert tokenizer_digest(again) == tokenizer_digest(tokenizer)
    before = tokenizer_digest(again)
    again.add_tokens(["<more>"])
    assert tokenizer_digest(again) != before
    assert tokenizer_digest(bpe(chat_template=CHATML, bos=True, eos="<|im_end|>")) != before
