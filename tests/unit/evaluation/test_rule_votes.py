"""Judgments of rules: from pages, files and probes, by the words that raters saw; and the table of agreement by rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import DataError, Judgment, Message
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote
from palate.data.rule_file import RuleFile
from palate.evaluation.rater_report import report_on
from palate.evaluation.rule_votes import RuledCompletion, read_rule_votes, rule_votes
from tests.support.rule_files import answered, rule_file


@pytest.fixture
def file(tmp_path: Path) -> RuleFile:
    return RuleFile.read(rule_file(tmp_path))


def asked(*votes: Vote, **fields: object) -> Exchange:
    item = ExchangeItem("a", (Message("user", "hello"),), (Candidate("rice", policy="p"),), "rule", fields=fields)
    return Exchange((item,), votes, (RaterInfo("ann"), RaterInfo("bob")))


def vote(rater: str, is_broken: bool | None, **settings: object) -> Vote:
    return replace(Vote(Judgment("a", rater, ()), is_broken=is_broken), **settings)  # type: ignore[arg-type]


def only(judged: list[RuledCompletion]) -> RuledCompletion:
    (one,) = judged
    return one


def test_votes_of_one_completion_and_rule_go_together_whatever_words_name_the_rule(file: RuleFile) -> None:
    judged, left_out = rule_votes(asked(vote("ann", True, rule="the cook has rice"), vote("bob", False), rule="no  RICE"), file)
    one = only(judged)
    assert (one.rule, one.votes, one.broken, one.num_broken) == ("rice", (("ann", True), ("bob", False)), 0.5, 1)
    assert (one.prompt.text, one.completion.text, one.completion.policy) == ("hello", "rice", "p")
    assert not left_out


def test_the_last_answer_of_a_rater_counts_and_unknown_raters_are_many(file: RuleFile) -> None:
    twice, _ = rule_votes(asked(vote("ann", True, rule="rice"), vote("ann", False, rule="rice")), file)
    assert only(twice).votes == (("ann", False),)
    unknown, _ = rule_votes(asked(vote("unknown", True, rule="rice"), vote("unknown", False, rule="rice")), file)
    assert only(unknown).votes == (("unknown", True), ("unknown", False))


def test_a_decision_is_the_label_and_no_vote(file: RuleFile) -> None:
    decided = vote("bob", False, rule="rice", entry="adjudication")
    judged, _ = rule_votes(asked(vote("ann", True, rule="rice"), decided), file)
    one = only(judged)
    assert (one.votes, one.decision, one.broken) == ((("ann", True),), False, 0.0)


def test_what_is_no_judgment_of_a_rule_is_counted(file: RuleFile) -> None:
    votes = (
        vote("ann", True, rule="rice"),
        vote("bob", True, rule="something else"),
        vote("bob", None, is_skipped=True),
        vote("bob", True, rule="rice", status="surplus"),
        vote("bob", True, rule="rice", status="superseded", id="x"),
        vote("bob", None, entry="undo", supersedes="x"),
    )
    judged, left_out = rule_votes(asked(*votes), file)
    assert only(judged).votes == (("ann", True),)
    assert left_out == Counter(
        {
            "its rule is not in the file of rules": 1,
            "judgment that is not about a rule": 1,
            "surplus answer, beyond those that were wanted": 1,
            "answer that its rater took back": 1,
        }
    )


def test_a_probe_is_the_last_answer_of_its_dialogue(file: RuleFile) -> None:
    item = ExchangeItem("p", (Message("system", "be kind"),), (), "probe", fields={"rule": "salt"})
    dialogue = tuple(Message(role, text) for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")))
    probe = Vote(Judgment("p", "ann", ()), is_broken=True, rule="no salt", dialogue=dialogue)
    silent = replace(probe, judgment=Judgment("p", "bob", ()), dialogue=dialogue[:1])
    judged, left_out = rule_votes(Exchange((item,), (probe, silent)), file)
    one = only(judged)
    assert [turn.text for turn in one.prompt.conversation] == ["be kind", "a", "b", "c"]
    assert (one.completion.text, one.rule, one.votes) == ("d", "salt", (("ann", True),))
    assert left_out == Counter({"nobody answered in the dialogue": 1})


def test_a_file_about_other_rules_is_a_message_with_an_example(file: RuleFile, tmp_path: Path) -> None:
    path = answered(tmp_path / "other.jsonl", [("hello", "rice", "Is it rude?", "ann", True)])
    with pytest.raises(
        DataError, match=r"no judgment of a rule of .*rules.yaml, but 1 x its rule is not.* A judgment there is about 'Is it rude\?'"
    ):
        read_rule_votes(path, file)


def test_agreement_is_known_for_each_rule(tmp_path: Path) -> None:
    clear = [(f"p{k}", "x", "clear", f"r{j}", k % 2 == 0) for k in range(20) for j in range(3)]
    tossed = [(f"p{k}", "x", "tossed", f"r{j}", j % 2 == 0) for k in range(20) for j in range(3)]
    report = report_on(answered(tmp_path / "judgments.jsonl", [*clear, *tossed]))
    alphas = {one.dimension: (one.votes, one.alpha.value) for one in report.dimensions}
    assert alphas["clear"] == (60, 1.0)
    assert alphas["tossed"][0] == 60
    assert alphas["tossed"][1] < 0
