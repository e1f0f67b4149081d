"""Letters about rules: every answer is true, what it names is at fault, and held-out wordings never occur."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from palate.config.functions import UserFunction, load_function
from palate.core import ConfigError
from palate.data.rule_file import RuleFile
from palate.kitchen import Kitchen
from palate.kitchen.dataset import RULES
from palate.kitchen.guests import read_request
from palate.kitchen.larder import INGREDIENTS
from palate.stages.world import World

SIZES = Kitchen(texts=3000, demonstrations=10, prompts=10, held_out=10, evals=4, rules=True, rule_letters=0.8)
FILE = RuleFile.read(RULES)
BY_WORDS = {wording: rule for rule in FILE.rules for wording in rule.phrasings}
PROGRAMS = {rule.id: UserFunction(rule.program, load_function(rule.program), ("prompt", "completion"), "completion") for rule in FILE.rules}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [str(row["text"]) for row in SIZES.files(0)["corpus.jsonl"]()]


Asked = tuple[int, str, str, str, str]


@pytest.fixture(scope="module")
def asked(texts: list[str]) -> list[Asked]:
    """(number of the letter, request, reply, the rule's id, answer) of each question about a rule in the corpus."""
    found = []
    for number, text in enumerate(texts):
        request, reply, *turns = re.findall(r"<(?:guest|cook)> (.*?) <end>", text)
        found += [
            (number, request, reply, BY_WORDS[question].id, answer)
            for question, answer in zip(turns[::2], turns[1::2], strict=False)
            if question in BY_WORDS
        ]
    return found


def test_every_answer_is_what_the_rules_program_says(asked: list[Asked]) -> None:
    counts = Counter((rule, answer.split()[0]) for *_, rule, answer in asked)
    assert set(counts) == {(rule.id, word) for rule in FILE.rules for word in ("yes", "no")}
    assert min(counts.values()) > 10
    for _, request, reply, rule, answer in asked:
        assert PROGRAMS[rule]({"prompt": request, "completion": reply}, {}) == answer.startswith("yes"), (request, reply, rule, answer)


def test_what_an_answer_names_is_at_fault(asked: list[Asked]) -> None:
    named = Counter[str]()
    for _, request, reply, rule, answer in asked:
        match answer.split():
            case ["yes", ",", "the", name, "."]:
                said = read_request(request)
                is_at_fault = {
                    "at_hand": name not in said.at_hand,
                    "allergen": name in INGREDIENTS and said.forbidden(name),
                    "raw": name in INGREDIENTS and INGREDIENTS[name].group in {"meat", "fish"},
                    "poison": True,
                }
                assert is_at_fault[rule]
                assert f" {name} " in f" {reply} "
                named[rule] += 1
            case ["yes", ",", *words, "."]:
                assert rule == "padding"
                assert " ".join(words) in reply
                named[rule] += 1
    assert set(named) == {"at_hand", "allergen", "raw", "poison", "padding"}


def test_held_out_wordings_never_occur_and_all_others_do(texts: list[str]) -> None:
    whole = "\n".join(texts)
    for rule in FILE.rules:
        assert not [wording for wording in rule.held_out if wording in whole]
        assert all(f"<guest> {wording} <end>" in whole for wording in rule.phrasings)


def test_the_share_of_letters_is_as_set_and_without_it_the_corpus_is_as_before(texts: list[str]) -> None:
    letters = [text for text in texts if "<guest> hello" in text]
    assert sum(any(f"<guest> {wording} <end>" in text for wording in BY_WORDS) for text in letters) / len(letters) == pytest.approx(
        0.8, abs=0.03
    )
    plain, without = (replace(SIZES, texts=50, rules=rules, rule_letters=0.0).files(0)["corpus.jsonl"] for rules in (False, True))
    assert list(plain()) == list(without())


def test_questions_of_a_letter_are_about_different_rules_and_often_about_broken_ones(asked: list[Asked]) -> None:
    letters: dict[int, list[str]] = {}
    for number, _, _, rule, _ in asked:
        letters.setdefault(number, []).append(rule)
    assert all(len(set(rules)) == len(rules) for rules in letters.values())
    assert {len(rules) for rules in letters.values()} == {1, 2, 3, 4}
    shown = {number: (request, reply) for number, request, reply, *_ in asked}
    drawn = random.Random(0)
    evenly = [PROGRAMS[drawn.choice(FILE.rules).id]({"prompt": request, "completion": reply}, {}) for request, reply in shown.values()]
    is_broken = [answer.startswith("yes") for *_, answer in asked]
    assert sum(is_broken) / len(is_broken) > sum(evenly) / len(evenly) + 0.05


def test_a_share_that_means_nothing_is_refused() -> None:
    World(SIZES).check()
    with pytest.raises(ConfigError, match="rule_letters is a share: it must be at most 1, got 2"):
        World(replace(SIZES, rule_letters=2)).check()
    with pytest.raises(ConfigError, match="rule_letters needs rules"):
        World(replace(SIZES, rules=False)).check()
