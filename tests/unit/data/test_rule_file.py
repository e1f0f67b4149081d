"""Files of rules: what is read, every fault with its line, and the questions that raters get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import ConfigError, DataError, Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, Vote, rule_questions
from palate.data.rule_file import RuleFile, WrittenRule, guideline, normal
from tests.support.rule_files import RULES, rule_file

GOOD = """
rules:
  - id: threats
    group: harm
    text: Do not threaten anybody.
    question: Does the answer threaten somebody?
    paraphrases: ["Is somebody threatened?"]
    held_out: ["Is there a threat in it?"]
    broken: [I will find you.]
    kept: [Good morning.]
    program: checks:threats
  - id: 7
    text: Do not guess.
    question: Do not guess.
"""


def test_a_rule_has_all_its_words(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(GOOD)
    first, second = RuleFile.read(tmp_path / "rules.yaml").rules
    assert first == WrittenRule(
        "threats", "Do not threaten anybody.", "Does the answer threaten somebody?", "harm", ("Is somebody threatened?",),
        ("Is there a threat in it?",), ("I will find you.",), ("Good morning.",), "checks:threats",
    )  # fmt: skip
    assert first.phrasings == ("Does the answer threaten somebody?", "Is somebody threatened?"), "held-out wordings are not learned"
    assert second == WrittenRule("7", "Do not guess.", "Do not guess."), "a question may repeat the text"


BAD = """
rule: 3
rules:
  - id: a b
    text: " "
    question: Is it so?
  - id: two
    text: same
    question: "is it  SO?"
    qestion: x
  - text: no id
    question: other
    program: nothing
    paraphrases: [one, One]
  - 7
  - id: two
    text: t4
    question: q4
    held_out: q5
  - id: five
    text: t5
    held_out: ["is it so?"]
"""


def test_one_message_names_every_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(BAD)
    with pytest.raises(DataError) as caught:
        RuleFile.read(path)
    told = str(caught.value)
    for line, part in (
        (2, "there is no 'rule'. Did you mean 'rules'?"),
        (4, "rule 1: `id` must be one word"),
        (5, "rule 1: empty `text`"),
        (10, "there is no 'qestion' in a rule. Did you mean 'question'?"),
        (11, "rule 3: has no id"),
        (13, "rule 3: `program` 'nothing' does not name a function"),
        (15, "rule 4: `rule` is not an object: 7"),
        (19, "rule 5: `held_out` is not a list: 'q5'"),
        (20, "rule 6: has no question"),
        (9, f"question 'is it  SO?' stands twice (first at {path}:6)"),
        (14, f"paraphrases 'One' stands twice (first at {path}:14)"),
        (16, f"id 'two' stands twice (first at {path}:7)"),
    ):
        assert f"{path}:{line}: {part}" in told, (line, part, told)
    assert "and 1 more" in told, "the last of thirteen"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rules: []", "`rules` holds 0; a file has 1 to 200"),
        ("rules: x", "`rules` is not a list"),
        ("other: 1", "no `rules`"),
        ("- 1", "must hold `key: value` lines"),
        ("rules: [", "is not YAML"),
        ("rules:\n  - {id: a, text: t, text: u, question: q}", "text is given twice"),
        ("rules:\n  - {id: a, text: t, question: " + "q" * 2001 + "}", "`question` has 2001 characters; 2000 are the most"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        RuleFile.read(tmp_path / "rules.yaml")
    assert part in str(caught.value)
    assert str(tmp_path / "rules.yaml") in str(caught.value)


def test_a_missing_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        RuleFile.read(tmp_path / "none.yaml")


def test_rules_are_chosen_by_id_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = RuleFile.read(rule_file(tmp_path))
    assert [rule.id for rule in file.selected(())] == ["rice", "salt"]
    assert [rule.id for rule in file.selected(("salt", "rice"))] == ["rice", "salt"]
    assert [rule.id for rule in file.selected(("salt",))] == ["salt"]
    with pytest.raises(ConfigError, match="no rule 'sallt'. Did you mean 'salt'"):
        file.selected(("sallt",))


def test_every_wording_names_the_rule(tmp_path: Path) -> None:
    file = RuleFile.read(rule_file(tmp_path))
    for words in ("rice", "no rice", "the cook has rice", "what has  RICE", "so the cook has rice"):
        assert file.by_words[normal(words)].id == "rice"


def item(identity: str, **fields: object) -> ExchangeItem:
    return ExchangeItem(identity, (Message("user", "hello"),), (Candidate("rice"),), "rule", fields=fields)


def test_items_become_questions_about_one_rule_or_about_each(tmp_path: Path) -> None:
    file = RuleFile.read(rule_file(tmp_path))
    asked = rule_questions(Exchange((item("a", more=1), item("b", rule="salt"))), file, "Rules", overlap=3)
    assert [(one.id, one.fields) for one in asked.items] == [
        ("a/rice", {"more": 1, "rule": "the cook has rice"}),
        ("a/salt", {"more": 1, "rule": "the cook has salt"}),
        ("b", {"rule": "the cook has salt"}),
    ]
    assert asked.project is not None
    assert (asked.project.task.kind, asked.project.task.rules, asked.project.overlap) == (
        "rule", ("the cook has rice", "the cook has salt"), 3,
    )  # fmt: skip
    assert asked.guidelines[0].text == guideline(file.rules)


def test_judgments_keep_their_items_and_get_the_words_of_the_question(tmp_path: Path) -> None:
    file = RuleFile.read(rule_file(tmp_path))
    vote = Vote(Judgment("b", "ann", ()), is_broken=True, rule="no salt")
    asked = rule_questions(Exchange((item("b", rule="no salt"),), (vote,)), file, "Rules")
    assert asked.votes == (replace(vote, rule="the cook has salt"),)
    with pytest.raises(DataError, match="item 'b': the item has judgments and does not name its rule"):
        rule_questions(Exchange((item("b"),), (vote,)), file, "Rules")


def test_items_that_ask_something_else_are_refused(tmp_path: Path) -> None:
    file = RuleFile.read(rule_file(tmp_path))
    two = replace(item("a"), candidates=(Candidate("x"), Candidate("y")), task="compare")
    with pytest.raises(DataError, match="item 'a': the item is to compare, and --rules asks about rules"):
        rule_questions(Exchange((two,)), file, "Rules")
    with pytest.raises(DataError, match="has no rule 'sallt'. Did you mean 'salt'"):
        rule_questions(Exchange((item("a", rule="sallt"),)), file, "Rules")
    probe = replace(item("p"), candidates=(), task="probe")
    assert rule_questions(Exchange((probe,)), file, "Rules").project.task.kind == "probe"  # type: ignore[union-attr]
    with pytest.raises(DataError, match="some items are to rule, others to probe"):
        rule_questions(Exchange((item("a"), probe)), file, "Rules")


def test_guidelines_hold_every_rule_with_its_examples(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(GOOD)
    text = guideline(RuleFile.read(tmp_path / "rules.yaml").rules)
    for part in ("## threats", "Do not threaten anybody.", "**Does the answer threaten somebody?**", "- breaks it: I will find you.",
                 "- keeps it: Good morning.", "## 7"):  # fmt: skip
        assert part in text
    assert "Is there a threat in it?" not in text, "raters do not see held-out wordings"
    assert RULES[0]["id"] not in text
