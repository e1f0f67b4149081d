"""Instructions: those that Palate ships are whole, texts are filled in one pass, and a file that is wrong says how."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import Completion, ConfigError, Message, Prompt
from palate.judges.instruction_files import SHIPPED, Instructions, filled, load_instructions

PROMPT = Prompt("p", (Message("user", "a {first} question"), Message("assistant", "{options}"), Message("user", "and now?")))

GOOD = """id: mine
scale: pairwise
user: "{prompt} {first} {second}"
answer: "Answer with {options}."
reason: "Reason, then {options}."
verdict: "{options}?"
options: [A, B]
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_instructions_show_everything(name: str) -> None:
    one = load_instructions(name)
    assert one.id == name
    assert one.takes_principle == (one.dimension is None)
    shown = {"pairwise": ("left", "right"), "pointwise": ("alone",), "ranking": ("left", "right", "middle", "{label}")}[one.scale]
    completions = [Completion(text) for text in shown]
    for reasons_first, mode in ((False, "written"), (False, "options"), (True, "options")):
        asked = one.question(PROMPT, completions, "be kind", reasons_first=reasons_first, mode=mode)
        text = "\n".join(turn.text for turn in asked)
        assert [turn.role for turn in asked] == ["system", "user"]
        assert all(completion.text in text for completion in completions)
        assert "user: a {first} question\n\nassistant: {options}\n\nuser: and now?" in text
        assert ("be kind" in text) == one.takes_principle
        left = text.replace("a {first} question", "").replace("assistant: {options}", "").replace("{label}", "")
        assert "{" not in left
    follow_up = one.verdict_question(asked, "because", "be kind", len(shown))
    assert [turn.role for turn in follow_up] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize("dimension", ["helpful", "honest", "harmless", "instruction-following", "overall"])
def test_each_dimension_has_all_scales(dimension: str) -> None:
    for name, scale in ((dimension, "pairwise"), (f"{dimension}-pointwise", "pointwise"), (f"{dimension}-ranking", "ranking")):
        one = load_instructions(name)
        assert (one.scale, one.dimension) == (scale, dimension)


def test_a_ranking_shows_as_many_labels_as_completions() -> None:
    one = load_instructions("helpful-ranking")
    asked = one.question(PROMPT, [Completion(f"text {k}", stop="length") for k in range(3)], "", reasons_first=False)[-1].text
    assert [f"Answer {label}, between" in asked for label in "ABCD"] == [True, True, True, False]
    assert asked.count("cut off here") == 3
    assert "(A, B, C)" in asked
    best = one.question(PROMPT, [Completion(f"text {k}") for k in range(3)], "", reasons_first=False, mode="options")[-1].text
    assert best.endswith("Answer with A, B or C alone.")
    assert one.version("options", reasons_first=False) != one.version("written", reasons_first=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"each": None}, "each is how one completion of a ranking stands among the others; give it"),
        ({"each": "{label}"}, "each must hold {label} and {completion}"),
        ({"options": ("A", "B")}, "labels, 3 or more different words, got 'A', 'B'"),
        ({"options": ("A", "a", "B")}, "labels, 3 or more different words"),
        ({"options": ("A", "B", "C>D")}, "labels, 3 or more different words"),
        ({"user": "{prompt}"}, "user lacks {completions}"),
    ],
)
def test_instructions_for_rankings_that_are_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(load_instructions("helpful-ranking"), **change)
    with pytest.raises(ConfigError, match="leave it out"):
        replace(load_instructions("helpful"), each="{label} {completion}")


def test_placeholders_are_filled_in_one_pass() -> None:
    assert filled("{first}{second} {x} {principle}", {"first": "{second}", "second": "{first}"}) == "{second}{first} {x} {principle}"


def test_a_version_changes_with_what_is_asked_and_nothing_else(tmp_path: Path) -> None:
    def version(text: str, mode: str = "options", *, reasons_first: bool = False) -> str:
        (tmp_path / "mine.yaml").write_text(text)
        return load_instructions(str(tmp_path / "mine.yaml")).version(mode, reasons_first=reasons_first)

    first = version(GOOD)
    assert len(first) == 8
    assert version(GOOD + "# a comment\n") == first
    assert version(GOOD.replace("Reason, then", "Think, then")) == first  # it is not asked to
    changed = [
        version(GOOD, "written"),
        version(GOOD, reasons_first=True),
        version(GOOD.replace("Answer with", "Say")),
        version(GOOD.replace("[A, B]", "[A, B, C]")),
    ]
    assert len({first, *changed}) == 5


def test_a_cut_completion_and_calls_of_tools_are_shown() -> None:
    one = load_instructions("helpful-pointwise")
    (_, turn) = one.question(PROMPT, [Completion("so", stop="length", tool_fields='{"tool_calls": []}')], "", reasons_first=False)
    assert 'so\n{"tool_calls": []} [the answer was cut off here]' in turn.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{first} ", "", "user lacks {first}"),
        ("[A, B]", "[A, A]", "different words"),
        ("[A, B]", "[A]", "the first, the second and perhaps a tie, got 1"),
        ("id: mine", "id: my own", "id must be a word"),
        ("scale: pairwise", "scale: pair", "Did you mean 'pairwise'"),
        ("answer:", "anser:", "Instructions has no 'anser'. Did you mean 'answer'"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        load_instructions(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(error.value)


def test_a_name_that_is_not_shipped() -> None:
    with pytest.raises(ConfigError, match="no instructions 'helpfull'. Did you mean 'helpful'"):
        load_instructions("helpfull")


def test_marks_are_numbers_in_order() -> None:
    with pytest.raises(ConfigError, match="marks from the lowest to the highest"):
        Instructions(id="a", scale="pointwise", user="{prompt}{completion}", answer="", reason="", verdict="", options=("good", "bad"))
