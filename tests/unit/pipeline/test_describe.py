"""Stages in words."""

from palate.pipeline.describe import attributes_of, options_of, reference, summary_of
from tests.support.toys import TOYS, Count


class Documented:
    """A summary.

    A second paragraph: with a colon.

    Attributes:
        first: one line.
        second (int): two
            lines, and: a colon.

    Examples:
        third: no attribute.
    """


def test_attributes_are_read_from_the_docstring() -> None:
    assert attributes_of(Documented) == {"first": "one line.", "second": "two lines, and: a colon."}
    assert summary_of(Documented) == "A summary.\n\nA second paragraph: with a colon."


def test_options_go_into_unions_with_the_defaults_of_the_default() -> None:
    found = {(option.name, option.of): (option.type_text, option.default, option.doc) for option in options_of(Count)}
    assert found[("data", "")] == ("path", "required", "the text.")
    assert found[("rule", "")] == ("plain or long", "plain", "what counts.")
    assert found[("rule.scale", "plain")] == ("number", "3.0", "what a word counts.")
    assert found[("rule.scale", "long")] == ("number", "2.0", "what a word counts.")
    assert found[("rule.letters", "long")] == ("whole number", "5", "fewest letters of a long word.")
    assert all(doc for _, _, doc in found.values())


def test_the_reference_holds_every_stage_and_setting() -> None:
    text = reference(TOYS)
    for name in TOYS:
        assert f"## {name}\n" in text
    assert "| `pace` | settings | as below | how fast. |\n| `pace.first_step` | whole number | 0 | where it begins. |" in text
    for option in options_of(Count):
        assert f"| `{option.name}`" in text
