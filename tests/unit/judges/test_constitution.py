"""Constitution files: Palate's own, what is drawn from one, and every fault of a bad one in one message."""

import random
from pathlib import Path

import pytest

from palate.core import ConfigError
from palate.judges.constitution import Constitution, Principle, drawn_by_weight, load_constitution

GOOD = """\
name: two
principles:
  - {id: safe, dimension: harmless, text: the safer one, critique: What is unsafe, revision: Make it safe., weight: 3}
  - {id: 'true', dimension: honest, text: the true one, critique: What is false, revision: Make it true.}
examples:
  - {principle: safe, prompt: Fire, completion: Burn it., critique: That burns., revision: "No."}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "constitution.yaml"
    path.write_text(text)
    return path


def test_palates_own_constitution_has_short_principles_of_every_dimension() -> None:
    own = load_constitution("default", ("helpful", "honest", "harmless"))
    assert own.name == "default"
    assert 10 <= len(own.principles) <= 16
    assert own.dimensions == ("helpful", "honest", "harmless")
    assert all(principle.text.startswith("Which answer") and principle.text.endswith("?") for principle in own.principles)
    assert all(len(text.split()) <= 30 for each in own.principles for text in (each.text, each.critique, each.revision))
    assert {example.principle for example in own.examples} <= {principle.id for principle in own.principles}
    assert own == load_constitution()


def test_principles_are_drawn_by_seed_and_weight(tmp_path: Path) -> None:
    constitution = load_constitution(written(tmp_path, GOOD))
    drawn = [constitution.draw(seed).id for seed in range(400)]
    assert drawn == [constitution.draw(seed).id for seed in range(400)]
    assert 0.68 < drawn.count("safe") / 400 < 0.82
    assert constitution.principle("safe").dimension == "harmless"


def test_different_members_of_a_pool_are_drawn_by_their_weights() -> None:
    rng = random.Random(0)
    pool = [("rare", 1.0), ("usual", 6.0), ("rare too", 1.0)]
    drawn = [drawn_by_weight(pool, 2, rng) for _ in range(400)]
    assert all(len(set(pair)) == 2 for pair in drawn)
    assert 0.68 < [first for first, _ in drawn].count("usual") / 400 < 0.82
    assert sorted(drawn_by_weight(pool, 3, rng)) == ["rare", "rare too", "usual"]


def test_any_word_changes_the_version_and_a_comment_does_not(tmp_path: Path) -> None:
    changed = (GOOD, GOOD + "# a remark\n", GOOD.replace("safer", "better"), GOOD.replace("That", "It"), GOOD + "turns: text\n")
    versions = [load_constitution(written(tmp_path, text)).version for text in changed]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4
    assert all(len(version) == 12 for version in versions)


def test_a_message_names_every_fault_with_its_line_and_its_remedy(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
principels: []
principles:
  - id: a b
    dimension: harmles
    text: Which answer?
    critique: ''
    revison: Again.
  - {id: safe, dimension: harmless, text: Which, critique: What, revision: Again.}
  - {id: safe, dimension: harmless, text: Which, critique: What, revision: Again., weight: 0}
examples:
  - {principle: save, prompt: p, completion: c, critique: x}
turns: {kind: text, user: hallo}
""",
    )
    with pytest.raises(ConfigError) as caught:
        load_constitution(path, ("helpful", "honest", "harmless"))
    lines = str(caught.value).splitlines()
    assert {line.removeprefix(f"{path}:").partition(": ")[0] for line in lines} == {"1", "3", "4", "6", "7", "9", "11", "12"}
    for said in (
        "Constitution has no 'principels'. Did you mean 'principles'?",
        "Principle has no 'revison'. Did you mean 'revision'?",
        "Principle needs 'revision'. Give it a value.",
        "principles.2.weight: Input should be greater than 0",
        "RevisionExample needs 'revision'. Give it a value.",
        "turns.user must have {text} once",
        "the id 'a b' stands in raters' names. Write it without spaces, # and @.",
        "there is no dimension 'harmles' here. Did you mean 'harmless'?",
        f"the id 'safe' is given twice (first at {path}:8). Rename one.",
        "there is no principle 'save'. Did you mean 'safe'?",
        "critique is empty. Write its text.",
    ):
        assert said in str(caught.value)
    assert len(lines) == 11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold `key: value` lines"),
        ("- a\n", "must hold `key: value` lines"),
        ("principles:\n", ":1: principles is empty"),
        ("principles: []\n", ":1: there are no principles. Write at least one."),
        ("name: x\n", "Constitution needs 'principles'"),
        ("principles: [a]\n", ":1: principles.0 must hold `key: value` lines, got 'a'"),
        (GOOD.replace("'true'", "true"), ":4: principles.1.id must not be true (YAML reads"),
        (GOOD + "name: again\n", ":7: name is given twice"),
        ("principles: [\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_constitution_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"constitution\.yaml") as caught:
        load_constitution(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read"):
        load_constitution(tmp_path / "nothing.yaml")


def test_any_dimension_is_taken_where_none_are_given() -> None:
    assert Constitution((Principle("a", "tasty", "t", "c", "r"),)).dimensions == ("tasty",)
