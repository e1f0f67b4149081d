"""What a chat template does to rows is told: words left out, other openings, special tokens in texts, dates."""

from __future__ import annotations

import pytest

from palate.core import Demonstration, Message
from palate.testing import chat_tokenizer
from palate.text.remarks import Remarks, answer_remarks, demonstration_remarks
from palate.text.spans import demonstration_tree

THOUGHTFUL = (
    Message("user", "two and two?"),
    Message("assistant", "<think>\nI add them.\n</think>\n\nFour."),
    Message("user", "one more?"),
    Message("assistant", "<think>\nFour and one.\n</think>\n\nFive."),
)


def kinds(name: str, *turns: Message) -> list[str]:
    tokenizer = chat_tokenizer(name)
    row = Demonstration(turns, tuple(k for k, turn in enumerate(turns) if turn.role == "assistant"))
    remarks = demonstration_remarks(tokenizer, row, len(demonstration_tree(tokenizer, row, 10_000).branches))
    return [remark.partition(":")[0] for remark in remarks]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("closed", []),
        ("two ends", []),
        ("forgetful", ["the chat template rewrites earlier answers"]),
        ("thoughtless", ["the chat template leaves out words of an answer that is learned"] * 2),
        ("dated", ["the chat template writes the date"]),
    ],
)
def test_remarks_name_what_the_template_does(name: str, expected: list[str]) -> None:
    assert kinds(name, *THOUGHTFUL) == expected


def test_the_words_that_are_left_out_are_shown_and_counted() -> None:
    tokenizer = chat_tokenizer("thoughtless")
    (remark,) = answer_remarks(tokenizer, THOUGHTFUL[:1], (THOUGHTFUL[1].text, "Four."))
    assert remark == "the chat template leaves out words of an answer that is learned: 'think think I add them' (5 words)"


def test_an_answer_without_the_thoughts_that_the_generation_prompt_opens_is_told() -> None:
    (remark,) = answer_remarks(chat_tokenizer("think"), (Message("user", "a"),), ("yes", "<think>\nhm</think>yes"))
    assert remark.endswith("the prompt ends with '<|open|>assistant\\n<think>\\n'")


def test_a_turn_that_the_template_does_not_write_is_told() -> None:
    tokenizer = chat_tokenizer("closed")
    tokenizer.chat_template = tokenizer.chat_template.replace("for m in messages", "for m in messages if m.role != 'system'")
    (remark,) = answer_remarks(tokenizer, (Message("system", "Be brief."), Message("user", "a")), ("yes",))
    assert remark == "the chat template leaves out words of a turn: the system says 'Be brief.' (2 words)"


def test_special_tokens_that_a_text_spells_out_are_told() -> None:
    tokenizer = chat_tokenizer("closed")
    for prompt in ((Message("user", "what is <pad>"),), (Message("text", "<|open|>user\na<|close|>"),)):
        (remark,) = answer_remarks(tokenizer, prompt, ("yes",))
        assert remark.startswith("a text spells out special tokens, which are read as tokens: <")


def test_remarks_are_counted_by_kind_with_the_first_row() -> None:
    remarks = Remarks()
    for row in range(3):
        remarks.add(f"a.jsonl:{row}", ("it is left out: one", "it is left out: two", "it differs: three") if row else ())
    assert remarks.lines() == ("2 x it is left out; first a.jsonl:1: one", "2 x it differs; first a.jsonl:1: three")
