"""Verifiable instructions: each check on a text that follows it and on one that hardly does not, strictly and loosely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.core import DataError
from palate.data.jsonl import write_rows
from palate.data.published import read_evals
from palate.data.published.instructions import CHECKS, Instruction, instructions_in

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Rice", "salt"]}, "salted rice", "rice alone"),
    ("keywords:frequency", {"keyword": "rice", "frequency": 2, "relation": "at least"}, "rice, Rice", "rice"),
    ("keywords:frequency", {"keyword": "rice ", "frequency": 2, "relation": "less than"}, "rice", "rice and ricey"),
    ("keywords:forbidden_words", {"forbidden_words": ["nut"]}, "nuts are here", "a Nut!"),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 2, "let_relation": "at least"}, "Tot", "ta"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "one two"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "one two three"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***a\n***\nb***", "a\n***\n***\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "So"},
        'a\n\n"so, b',
        "so\n\nb",
    ),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"}, "a\n\nb", "a\n\nb\n\nc"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [place]", "[name of place]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "so\nP. S. more", "so\nPS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p.s more", "p.s. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n** c", "* a\n- b\n- c"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no. So", "my answer is no."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part ", "num_sections": 2}, "Part 1 a Part 2 b", "Part 1 a part 2 b"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<a dish>>\nrice", "<< >> rice"),
    ("combination:two_responses", {}, "one ****** two", "one ****** one"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Make rice."}, "make rice. Yes", "Yes: make rice."),
    ("startend:end_checker", {"end_phrase": "Any other questions?"}, 'Yes. any other questions?"', "Any other questions? No."),
    ("startend:quotation", {}, ' "rice" ', '"rice'),
    ("change_case:english_capital", {}, "RICE 2", "RICe"),
    ("change_case:english_lowercase", {}, "rice 2", "rICE"),
    ("punctuation:no_comma", {}, "rice; salt", "rice, salt"),
]


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_a_check_tells_what_follows_from_what_hardly_does_not(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    (one,) = instructions_in({"instruction_id_list": [name], "kwargs": [{**arguments, "unused": None}]}, "row")
    assert one.strict(good) is True
    assert one.strict(bad) is False
    assert one.strict(" \n") is False


def test_every_check_has_a_case_and_ids_without_one_are_unknown_and_not_failed() -> None:
    assert {name for name, *_ in CASES} == set(CHECKS)
    (one,) = instructions_in({"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "fr"}]}, "row")
    assert (one.has_check, one.strict("oui"), one.loose("oui")) == (False, None, None)


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("Sure:\nrice", False, True),
        ("rice\nIs that good?", False, True),
        ("Sure:\nrice\nIs that good?", False, True),
        ("Sure:\nrice and SALT", False, False),
        ("*\n", False, False),
    ],
)
def test_loosely_the_first_and_the_last_line_and_asterisks_do_not_count(*, text: str, strict: bool, loose: bool) -> None:
    lower = Instruction("change_case:english_lowercase", {})
    assert (lower.strict(text), lower.loose(text)) == (strict, loose)
    quoted = Instruction("startend:quotation", {})
    assert (quoted.strict('**"rice"**'), quoted.loose('**"rice"**')) == (False, True)


ROW: dict[str, Any] = {
    "key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
    "kwargs": [{}, {"end_phrase": "Bye"}],
}  # fmt: skip


def test_a_published_row_is_a_question_of_its_number_of_instructions(tmp_path: Path) -> None:
    write_rows(tmp_path / "input_data.jsonl", [ROW, {**ROW, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}])
    two, one = read_evals(tmp_path / "input_data.jsonl", chat=True).questions
    assert two.text == "Write."
    assert (two.fields["eval"], two.fields["kind"], two.fields["benchmark"]) == ("ifeval", "instructions", "ifeval")
    assert (two.fields["by"], one.fields["by"]) == ("2 instructions", "1 instruction")
    assert [each.id for each in instructions_in(two.fields, "row")] == ROW["instruction_id_list"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kwargs": [{}]}, "an object of arguments for each of the 2 ids"),
        ({"instruction_id_list": []}, "a list of ids"),
        ({"kwargs": [{}, {}]}, "`end_phrase` of startend:end_checker is None; it needs a text"),
        (
            {"instruction_id_list": ["length_constraints:number_words"] * 2, "kwargs": [{"num_words": 3, "relation": "at most"}] * 2},
            "`relation` of length_constraints:number_words is 'at most'; known are less than, at least",
        ),
        ({"instruction_id_list": ["keywords:existence"] * 2, "kwargs": [{"keywords": "rice"}] * 2}, "it needs a list of texts"),
        (
            {"instruction_id_list": ["detectable_content:number_placeholders"] * 2, "kwargs": [{"num_placeholders": True}] * 2},
            "a whole number",
        ),
    ],
)
def test_a_row_whose_arguments_are_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "input_data.jsonl", [ROW, {**ROW, **change}])
    with pytest.raises(DataError, match=f"input_data.jsonl.*2.*{message}"):
        read_evals(tmp_path / "input_data.jsonl", chat=True)


def test_a_keyword_that_is_not_a_pattern_is_taken_as_it_stands() -> None:
    (one,) = instructions_in({"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["c++("]}]}, "row")
    assert one.strict("I like C++(") is True
