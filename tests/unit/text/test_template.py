from __future__ import annotations

import time

import pytest
from transformers import GenerationConfig, PreTrainedTokenizerFast

from palate.core import Demonstration, Message, ModelError
from palate.testing import chat_tokenizer
from palate.text.chat_text import TODAY, opening_ids
from palate.text.ends import configured_ends, declare_ends, end_ids
from palate.text.spans import Unusable, demonstration_tree, prompt_ids
from palate.text.template import is_plain_text, render
from tests.support.completion_ids import completion_ids
from tests.unit.text.conftest import CHATML, GLM, LLAMA, bpe, words

ASK = (Message("user", "is it hot"),)


def test_bos_stands_once_at_the_head_where_the_tokenizer_or_the_template_writes_one(any_tokenizer: PreTrainedTokenizerFast) -> None:
    with_bos = bool(opening_ids(any_tokenizer)) or any_tokenizer.chat_template == LLAMA
    for conversation in (ASK, (*ASK, Message("assistant", "yes"), Message("user", "good"))):
        ids = prompt_ids(any_tokenizer, conversation)
        assert ids.count(any_tokenizer.bos_token_id) == (1 if with_bos else 0)
        assert (ids[0] == any_tokenizer.bos_token_id) == with_bos


def test_bos_is_not_doubled_when_the_text_or_the_template_brings_one() -> None:
    tokenizer = bpe(chat_template="{{ bos_token }}" + LLAMA, bos=True)
    assert prompt_ids(tokenizer, ASK).count(tokenizer.bos_token_id) == 1
    assert prompt_ids(tokenizer, (Message("text", "<s>hello"),)) == prompt_ids(tokenizer, (Message("text", "hello"),))


def test_a_tokenizer_that_appends_eos_to_every_text_does_not_end_a_prompt() -> None:
    from tokenizers import processors

    tokenizer = bpe(chat_template=None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert tokenizer("hello").input_ids[-1] == tokenizer.eos_token_id
    ids = prompt_ids(tokenizer, (Message("text", "hello"),))
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids


def test_a_completion_ends_with_exactly_one_terminator_also_when_its_text_ends_with_one(any_tokenizer: PreTrainedTokenizerFast) -> None:
    ends = end_ids(any_tokenizer)
    for conversation in (ASK, (Message("text", "is it hot "),)):
        ids = completion_ids(any_tokenizer, conversation, "yes it is")
        assert ids[-1] in ends
        assert sum(i in ends for i in ids) == 1
        for end in sorted(ends):
            written = any_tokenizer.convert_ids_to_tokens(end)
            # A plain text says itself with which token it ends. In a chat the template does.
            expected = ids if conversation is ASK else (*ids[:-1], end)
            for text in (f"yes it is{written}", f"yes it is{written}{written}\n"):
                assert completion_ids(any_tokenizer, conversation, text) == expected


def test_the_terminator_is_what_the_template_writes_not_always_eos() -> None:
    tokenizer = bpe(chat_template=CHATML)
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert completion_ids(tokenizer, ASK, "yes")[-1] == closing
    assert completion_ids(tokenizer, (Message("text", "is it "),), "yes")[-1] == tokenizer.eos_token_id


def test_end_ids_are_the_union_of_tokenizer_generation_config_and_template() -> None:
    for declared in ([3, 77], 77, None):
        tokenizer = bpe(chat_template=CHATML)
        closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
        declare_ends(tokenizer, configured_ends(GenerationConfig(eos_token_id=declared)))
        more = {declared} if isinstance(declared, int) else set(declared or ())
        assert end_ids(tokenizer) == {tokenizer.eos_token_id, closing} | more


def test_the_marker_of_the_next_turn_ends_an_answer_that_nothing_else_closes() -> None:
    tokenizer = bpe(chat_template=GLM)
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    assert end_ids(tokenizer) == {tokenizer.eos_token_id, user}
    assert completion_ids(tokenizer, ASK, "yes")[-1] == user


def test_an_answer_ends_with_the_first_token_that_closes_it_though_eos_closes_the_conversation() -> None:
    tokenizer = chat_tokenizer("two ends")
    closing = tokenizer.convert_tokens_to_ids("<|close|>")
    assert end_ids(tokenizer) == {tokenizer.eos_token_id, closing}
    assert completion_ids(tokenizer, ASK, "yes")[-1] == closing
    assert tokenizer.eos_token_id not in completion_ids(tokenizer, ASK, "yes")


def test_an_unknown_word_does_not_pass_for_a_terminator() -> None:
    tokenizer = words(chat_template="{% for m in messages %}<|{{m.role}}|> {{m.content}} {% endfor %}")
    assert tokenizer("a").input_ids == [tokenizer.unk_token_id]
    assert end_ids(tokenizer) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")}


def test_end_ids_follow_a_new_template_and_a_new_eos() -> None:
    tokenizer = bpe(chat_template=None)
    assert end_ids(tokenizer) == {tokenizer.convert_tokens_to_ids("</s>")}
    tokenizer.chat_template = CHATML
    assert end_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"]))
    tokenizer.eos_token = "<|user|>"
    assert end_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(["<|user|>", "<|im_end|>"]))


def test_a_tokenizer_without_eos_is_refused_with_the_remedy() -> None:
    tokenizer = bpe(chat_template=CHATML)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="tokenizer_config.json"):
        completion_ids(tokenizer, ASK, "yes")


@pytest.mark.parametrize("template", [CHATML.partition("{% if add")[0], GLM.partition("{% if add")[0]])
def test_a_template_that_cannot_open_an_answer_is_refused_with_the_remedy(template: str) -> None:
    tokenizer = bpe(chat_template=template)
    with pytest.raises(ModelError, match=r"no generation prompt: it opens answers with '<\|(im_start\|>)?assistant.*add_generation_prompt"):
        prompt_ids(tokenizer, ASK)
    with pytest.raises(ModelError, match="no generation prompt"):
        demonstration_tree(tokenizer, Demonstration((*ASK, Message("assistant", "yes")), (1,)), 100)
    assert prompt_ids(tokenizer, (Message("text", "is it hot"),))


def test_a_template_that_writes_nothing_before_an_answer_needs_no_generation_prompt() -> None:
    assert prompt_ids(bpe(chat_template=LLAMA), ASK)


def test_without_a_template_chat_roles_are_written_as_hh_transcripts() -> None:
    tokenizer = bpe(chat_template=None, bos=True)
    turns = (Message("system", "be kind"), Message("user", "hello"), Message("assistant", "hi"), Message("user", "hot?"))
    assert (
        tokenizer.decode(prompt_ids(tokenizer, turns))
        == "<s>\n\nSystem: be kind\n\nHuman: hello\n\nAssistant: hi</s>\n\nHuman: hot?\n\nAssistant:"
    )


def test_plain_text_is_tokenised_as_it_stands() -> None:
    tokenizer = bpe(chat_template=CHATML)
    texts = (Message("text", "hel"), Message("text", "lo there"))
    assert render(tokenizer, texts, generation_prompt=True) == tuple(tokenizer("hello there", add_special_tokens=False).input_ids)


def test_what_the_template_refuses_is_a_row_with_a_reason() -> None:
    with pytest.raises(Unusable, match="the chat template refuses the conversation: roles must alternate") as caught:
        prompt_ids(bpe(chat_template=LLAMA, bos=True), (*ASK, *ASK))
    assert caught.value.reason.partition(":")[0] == "the chat template refuses the conversation"


@pytest.mark.parametrize("name", ["closed", "endless", "two ends", "eos", "none"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_text_that_spells_out_a_token_of_the_template_is_refused_with_the_token(name: str, place: int) -> None:
    tokenizer = chat_tokenizer(name)
    (end, *_) = sorted(end_ids(tokenizer) - {tokenizer.eos_token_id} or {tokenizer.eos_token_id})
    word = tokenizer.convert_ids_to_tokens(end)
    texts = [f"a {word} b" if k == place else "a" for k in range(3)]
    turns = (Message("user", texts[0]), Message("assistant", texts[1]), Message("user", texts[2]))
    with pytest.raises(Unusable, match="a text holds a token of the chat template") as caught:
        prompt_ids(tokenizer, turns)
    assert word in caught.value.reason


def test_an_ordinary_token_that_is_an_end_is_an_ordinary_word() -> None:
    tokenizer = bpe(chat_template=CHATML)
    declare_ends(tokenizer, [tokenizer.convert_tokens_to_ids("a")])
    assert prompt_ids(tokenizer, (Message("user", "a"),))


def test_contents_are_handed_over_as_parts_where_the_template_reads_nothing_else() -> None:
    tokenizer = chat_tokenizer("parts")
    turns = (Message("user", "soup?"), Message("assistant", "yes"), Message("user", "hot?"))
    assert (
        tokenizer.decode(prompt_ids(tokenizer, turns)) == "User: soup?<|close|>\nAssistant: yes<|close|>\nUser: hot?<|close|>\nAssistant: "
    )


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_template_that_writes_nothing_of_what_is_said_is_refused(role: str) -> None:
    written = "{{ m.content if m.role != '" + role + "' else '' }}"
    tokenizer = bpe(chat_template="{% for m in messages %}" + written + "{{ eos_token }}{% endfor %}")
    with pytest.raises(ModelError, match=f"does not write what the {role} says, neither as text nor as a list of parts"):
        completion_ids(tokenizer, ASK, "yes")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_date_in_a_template_depends_neither_on_the_day_nor_on_the_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    tokenizer = chat_tokenizer("dated")
    assert f"{TODAY:%d %b %Y}" in tokenizer.decode(prompt_ids(tokenizer, ASK))
    monkeypatch.undo()
    time.tzset()


def test_text_and_chat_roles_do_not_mix_and_nothing_is_no_conversation() -> None:
    assert is_plain_text((Message("text", "a"),))
    assert not is_plain_text(ASK)
    with pytest.raises(Unusable, match="mixed"):
        is_plain_text((*ASK, Message("text", "a")))
    with pytest.raises(Unusable, match="no message"):
        is_plain_text(())
    with pytest.raises(Unusable, match="no token"):
        prompt_ids(bpe(chat_template=None), (Message("text", ""),))
