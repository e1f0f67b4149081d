"""Coverage's advice in a rating server's queue: people are asked first about what the judgments miss, and wrong projects are refused."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from palate.cli import main
from palate.config.read import dump_config
from palate.core import ConfigError, Message
from palate.data.jsonl import write_rows
from palate.raters.people import People
from palate.ratings import Answer, Candidate, Item, Project, Ratings, open_ratings
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.collect import Collect
from tests.unit.evaluation.test_coverage import KINDS, asked, pair, prompts

MISSED = 60
"""Items about the kind of prompt that nobody judged."""


def item(text: str) -> Item:
    return Item((Message("user", text),), (Candidate("one"), Candidate("two")))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run of collect from people whose judgments miss a kind of prompt, its database, and what the model will be asked."""
    judged, deployment = prompts(1, 80, ("cook", "code")), prompts(0, MISSED)
    asked(tmp_path, deployment)
    (tmp_path / "runs").mkdir()
    ratings = open_ratings(str(tmp_path / "runs" / "ratings.db"), create=True)
    for name, queue in (("comparisons", "uncertain"), ("by chance", "random")):
        project = ratings.add_project(Project(name, queue=queue), 0.0)  # type: ignore[arg-type]
        ratings.add_items(project.id, [item(text) for text in (*deployment, "the moon", "a star")], 0.0)
    ratings.close()
    run = open_run(tmp_path / "runs", RunPlan("judged", "collect", dump_config(Collect("samples", People()))))
    with run.active():
        write_rows(run.directory / "preferences.jsonl", [pair(text, 1.0) for text in judged])
    return tmp_path


def coverage(home: Path, *words: object) -> int:
    run = next((home / "runs").glob("judged-*"))
    return main(["coverage", *map(str, (run, "--prompts", home / "prompts.jsonl", *words))])


def next_texts(ratings: Ratings, name: str, count: int) -> list[str]:
    """The prompts of the next items that somebody is asked."""
    project = next(one for one in ratings.projects() if one.name == name)
    account = ratings.add_account("ann", "rater", 0.0)
    ratings.join(project.id, account.id, 0.0)
    found = []
    for k in range(count):
        held = ratings.claim(project.id, account.id, 1000.0 + k, random.Random(k))
        assert held is not None
        found.append(ratings.item(held.item).conversation[-1].text)
        ratings.submit(held.id, account.id, Answer(((0,), (1,))), f"key {k}", 1000.5 + k)
    return found


def is_missed(texts: Sequence[str]) -> list[bool]:
    return [bool(set(text.split()) & set(KINDS["tax"])) for text in texts]


def test_people_are_asked_first_about_what_the_judgments_miss(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage(home, "--queue", "comparisons") == 0
    said = capsys.readouterr().out
    assert "of 182 open items come first" in said
    assert "2 about other prompts" in said
    ratings = open_ratings(str(home / "runs" / "ratings.db"))
    texts = next_texts(ratings, "comparisons", 40)
    ratings.close()
    assert len(set(texts)) == 40
    assert sum(is_missed(texts)) >= 24, "70 % by need, and a third of the rest by chance"
    assert not all(is_missed(texts)), "the project's random share stays random"


def test_what_was_judged_is_not_ordered_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratings = open_ratings(str(home / "runs" / "ratings.db"))
    next_texts(ratings, "comparisons", 30)
    ratings.close()
    assert coverage(home, "--queue", "comparisons", "--ratings", home / "runs" / "ratings.db") == 0
    assert "of 152 open items come first" in capsys.readouterr().out


def test_prompts_that_are_near_judged_ones_come_by_chance(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(home / "near.jsonl", [{"prompt": text} for text in prompts(0, MISSED)[:60]])
    run = next((home / "runs").glob("judged-*"))
    assert main(["coverage", str(run), "--prompts", str(home / "near.jsonl"), "--queue", "comparisons"]) == 0
    ordered = int(capsys.readouterr().out.split("comparisons: ")[1].split(" of ")[0])
    assert 10 < ordered < 50, "about half of what is like the judged prompts is farther than usual"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--queue", "by chance"), "its queue is random, which takes no order"),
        (("--queue", "elsewhere"), "there is no project 'elsewhere'. Choose one of by chance, comparisons"),
        (("--queue", "comparisons", "--ratings", "{home}/none.db"), "none.db does not exist"),
    ],
)
def test_a_project_that_takes_no_order_is_refused(home: Path, words: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert coverage(home, *(word.format(home=home) for word in words)) == ConfigError.exit_code
    assert says in capsys.readouterr().err


def test_items_about_other_prompts_and_judgments_of_no_project_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = next((home / "runs").glob("judged-*"))
    write_rows(home / "other.jsonl", [{"prompt": "something else"}])
    assert main(["coverage", str(run), "--prompts", str(home / "other.jsonl"), "--queue", "comparisons"]) == ConfigError.exit_code
    assert "none of its 182 open items is about a prompt of --prompts" in capsys.readouterr().err
    write_rows(home / "own.jsonl", [pair("a b")])
    words = ["coverage", str(home / "own.jsonl"), "--prompts", str(home / "prompts.jsonl"), "--queue", "comparisons"]
    assert main(words) == ConfigError.exit_code
    assert "did not come from people, so name the database with --ratings" in capsys.readouterr().err
