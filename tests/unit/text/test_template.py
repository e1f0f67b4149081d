from __future__ import annotations

import pytest
from transformers import GenerationConfig, PreTrainedTokenizerFast

from palate.core import Demonstration, Message, ModelError
from palate.text.spans import Unusable, completion_ids, demonstration_tree, prompt_ids
from palate.text.template import end_ids, is_plain_text, opening_ids, render
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
            for text in (f"yes it is{written}", f"yes it is{written}{written}\n"):
                assert completion_ids(any_tokenizer, conversation, text) == ids


def test_the_terminator_is_what_the_template_writes_not_always_eos() -> None:
    tokenizer = bpe(chat_template=CHATML)
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert completion_ids(tokenizer, ASK, "yes")[-1] == closing
    assert completion_ids(tokenizer, (Message("text", "is it "),), "yes")[-1] == tokenizer.eos_token_id


def test_end_ids_are_the_union_of_tokenizer_generation_config_and_template() -> None:
    tokenizer = bpe(chat_template=CHATML)
    closing, user = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|user|>"])
    assert end_ids(tokenizer, GenerationConfig(eos_token_id=[user, 77])) == {tokenizer.eos_token_id, closing, user, 77}
    assert end_ids(tokenizer, GenerationConfig(eos_token_id=77)) == {tokenizer.eos_token_id, closing, 77}
    assert end_ids(tokenizer, GenerationConfig()) == end_ids(tokenizer) == {tokenizer.eos_token_id, closing}
    assert end_ids(bpe(chat_template=GLM)) == {tokenizer.eos_token_id}


def test_an_unknown_word_does_not_pass_for_a_terminator() -> None:
    tokenizer = words(chat_template="{% for m in messages %}<|{{m.role}}|> {{m.content}} {% endfor %}")
    assert tokenizer("a").input_ids == [tokenizer.unk_token_id]
    assert end_ids(tokenizer) == {tokenizer.eos_token_id}


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


def test_text_and_chat_roles_do_not_mix_and_nothing_is_no_conversation() -> None:
    assert is_plain_text((Message("text", "a"),))
    assert not is_plain_text(ASK)
    with pytest.raises(Unusable, match="mixed"):
        is_plain_text((*ASK, Message("text", "a")))
    with pytest.raises(Unusable, match="no message"):
        is_plain_text(())
    with pytest.raises(Unusable, match="no token"):
        prompt_ids(bpe(chat_template=None), (Message("text", ""),))
