"""Stage collect asks people: questions go to a database, it waits for answers or takes what there is, and loses none."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palate.config.read import dump_config, read_config
from palate.config.settings import Settings
from palate.core import ConfigError, DataError, Interrupted
from palate.evaluation.rater_report import report_on
from palate.raters.people import People, guideline, project_of_run
from palate.ratings import Answer, Progress, Project, Ratings, Task, open_ratings
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run
from palate.stages.collect import Collect
from tests.support.waiting import wait_until
from tests.unit.stages.test_collect import THREE, rows, samples


def asked(given: str, database: Path, **people: Any) -> Collect:
    settings: dict[str, Any] = {"wait": False, **people}
    return Collect(
        given,
        People(database=str(database), poll_seconds=0.05, **settings),
        dimensions=("helpful", "honest"),
        raters_per_comparison=2,
        held_out=0.5,
    )


def collected(root: Path, stage: Collect, name: str = "judged") -> Path:
    stage.check()
    run = open_run(root, RunPlan(name, "collect", {"settings": repr(stage)}))
    with run.active():
        stage.run(run)
    return run.directory


def judges(database: Path, names: list[str], count: int) -> None:
    """People who like the shorter text better, and mark both dimensions so; `count` answers each at most."""
    ratings = open_ratings(str(database))
    for number, name in enumerate(names):
        account = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
        project = ratings.projects()[0]
        ratings.join(project.id, account.id, time.time())
        for k in range(count):
            begun = time.time() + 2.0 * k  # each answer takes two seconds
            held = ratings.claim(project.id, account.id, begun, random.Random(k))
            if held is None:
                break
            shown = [ratings.item(held.item).candidates[place] for place in held.order]
            tiers = ((0,), (1,)) if len(shown[0].text) < len(shown[1].text) else ((1,), (0,))
            answer = Answer(tiers, dimensions=dict.fromkeys(project.task.dimensions[1:], tiers), seconds=2.0)
            ratings.submit(held.id, account.id, answer, f"{number}-{k}", begun + 2.0)
    ratings.close()


@pytest.fixture
def given(tmp_path: Path) -> str:
    return samples(tmp_path, THREE, prompts=4)


def test_it_waits_until_every_question_has_its_answers(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, database = asked(given, tmp_path / "ratings.db", wait=True), tmp_path / "ratings.db"
    others = threading.Thread(target=lambda: (wait_for(database), judges(database, ["ann", "bob"], 100)), daemon=True)

    def check(run: Run) -> None:
        assert others.is_alive() or ready(database), "those who judge are gone, and questions are open"

    monkeypatch.setattr(Run, "check_stop", check)
    others.start()
    directory = collected(tmp_path / "runs", stage)
    kept = rows(directory, "preferences") + rows(directory, "held_out")
    assert len(kept) == 4 * 3 * 2  # prompts, pairs, dimensions
    for row in kept:
        assert len(row["chosen"][0]["content"]) < len(row["rejected"][0]["content"])
        assert row["votes"] == [1.0, 1.0]
        assert len(set(row["raters"])) == 2
        assert not {"ann", "bob"} & set(row["raters"])  # pseudonyms
    said = rows(directory, "judgments")
    assert {row["seconds"] for row in said} == {2.0}
    assert {tuple(row["order"]) for row in said} == {(0, 1), (1, 0)}


def test_answers_belong_to_texts_whatever_they_are_called(given: str, tmp_path: Path) -> None:
    database, file = tmp_path / "ratings.db", Path(given) / "samples.jsonl"
    with pytest.raises(DataError, match="has 0 judgments of these questions; 1 are needed"):
        collected(tmp_path / "runs", asked(given, database))
    judges(database, ["ann"], 100)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    turned = [row | {"id": f"other {row['id']}", "completions": row["completions"][::-1]} for row in lines]
    file.write_text("".join(json.dumps(row) + "\n" for row in turned), encoding="utf-8")
    directory = collected(tmp_path / "again", asked(given, database))
    kept = rows(directory, "preferences") + rows(directory, "held_out")
    assert len(kept) == 4 * 3 * 2
    assert all(len(row["chosen"][0]["content"]) < len(row["rejected"][0]["content"]) for row in kept)
    assert all(row["id"].startswith("other ") for row in kept)
    for row in lines:
        for completion in row["completions"]:
            completion["text"] += " indeed"
    file.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")  # the old ids, and texts that nobody saw
    with pytest.raises(DataError, match=r"has 0 judgments of these questions \(and 24 of other texts"):
        collected(tmp_path / "third", asked(given, database))


def wait_for(database: Path) -> None:
    wait_until(lambda: database.exists() and any(progress.items for progress in states(database)))


def ready(database: Path) -> bool:
    return all(progress.complete == progress.items for progress in states(database))


def states(database: Path) -> list[Progress]:
    try:
        ratings = open_ratings(str(database))
    except ConfigError:  # it is being made
        return []
    try:
        return [ratings.progress(project.id, time.time()) for project in ratings.projects()]
    finally:
        ratings.close()


def test_it_takes_what_there_is_and_more_the_next_time(given: str, tmp_path: Path) -> None:
    database = tmp_path / "ratings.db"
    stage = asked(given, database)
    with pytest.raises(DataError, match="has 0 judgments of these questions; 1 are needed"):
        collected(tmp_path / "runs", stage)
    judges(database, ["ann"], 3)
    first = collected(tmp_path / "runs", stage)
    assert len(rows(first, "judgments")) == 3 * 2
    told = json.loads((first / "summary.json").read_text())["people"]
    assert told == {"project": "comparisons", "unanswered": (12 - 3) * 2, "judgments_of_other_texts": 0}
    judges(database, ["bob"], 100)
    second = collected(tmp_path / "again", stage)
    assert len(rows(second, "judgments")) == (3 + 12) * 2
    with pytest.raises(DataError, match="has 30 judgments of these questions; 31 are needed"):
        collected(tmp_path / "more", asked(given, database, min_judgments=31))


def test_waiting_can_be_stopped_and_answers_stay(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "ratings.db"
    stage = asked(given, database, wait=True)

    def stop(run: Run) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "check_stop", stop)
        with pytest.raises(Interrupted):
            collected(tmp_path / "runs", stage)
    judges(database, ["ann", "bob"], 100)
    assert len(rows(collected(tmp_path / "runs", stage), "judgments")) == 4 * 3 * 2 * 2


def test_the_database_lies_among_the_runs_and_its_project_explains_itself(given: str, tmp_path: Path) -> None:
    stage = Collect(given, People(wait=False, queue="uncertain"), dimensions=("honest", "funny"))
    with pytest.raises(DataError, match=r"palate label --ratings .*runs/ratings\.db"):
        collected(tmp_path / "runs", stage)
    ratings = open_ratings(str(tmp_path / "runs" / "ratings.db"))
    (project,) = ratings.projects()
    text = ratings.guideline(project.id).text
    ratings.close()
    assert project.queue == "uncertain"
    for told in ("**honest**: says what is true", "**funny**: which of the two is the more funny", "## Ties", "Judge each by itself"):
        assert told in text
    assert "helpful" not in text
    assert "Judge each by itself" not in guideline(("overall",))


def test_a_run_tells_whom_it_asked(given: str, tmp_path: Path) -> None:
    settings = Settings({"samples": given, "from": "people"})
    plan = RunPlan("judged", "collect", dump_config(read_config(Collect, settings)))
    directory = open_run(tmp_path / "runs", plan).directory
    assert project_of_run(str(directory)) == (str(tmp_path / "runs" / "ratings.db"), "comparisons")
    assert project_of_run(str(directory / "preferences.jsonl")) == project_of_run(str(directory))
    assert project_of_run(given) is None
    other = RunPlan(
        "judged", "collect", dump_config(read_config(Collect, settings.put(("from",), {"kind": "simulated", "gold": "a:b"}, "here")))
    )
    assert project_of_run(str(open_run(tmp_path / "runs", other).directory)) is None


def test_settings_and_projects_that_do_not_fit(given: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Collect needs 'from'"):
        read_config(Collect, Settings({"samples": given}))
    with pytest.raises(ConfigError, match="from has no kind 'peeple'. Did you mean 'people'"):
        read_config(Collect, Settings({"samples": given, "from": "peeple"}))
    ratings: Ratings = open_ratings(str(tmp_path / "ratings.db"), create=True)
    ratings.add_project(Project("comparisons", Task(dimensions=("funny",))), 0.0)
    ratings.close()
    with pytest.raises(ConfigError, match="asks about funny"):
        collected(tmp_path / "runs", asked(given, tmp_path / "ratings.db"))


def test_a_reviewers_last_decision_is_the_label_and_no_vote(given: str, tmp_path: Path) -> None:
    stage, database = asked(given, tmp_path / "ratings.db", min_judgments=0), tmp_path / "ratings.db"
    collected(tmp_path / "runs", stage, "before")
    judges(database, ["ann", "bob"], 100)
    ratings = open_ratings(str(database))
    project, olga = ratings.projects()[0], ratings.add_account("olga", "reviewer", time.time())
    item = next(iter(ratings.items(project.id)))
    longer = max((0, 1), key=lambda k: len(item.candidates[k].text))
    for key, best in (("one", 1 - longer), ("two", longer)):
        tiers = ((best,), (1 - best,))
        ratings.adjudicate(item.id, olga.id, Answer(tiers, dimensions={"honest": tiers}), key, time.time())
    ratings.close()
    directory = collected(tmp_path / "runs", stage)
    name = item.fields["comparison"]
    decided = [row for part in ("preferences", "held_out") for row in rows(directory, part) if row["id"].startswith(f"{name}/")]
    assert [row["votes"] for row in decided] == [[1.0], [1.0]]
    for row in decided:
        assert row["chosen"][0]["content"] == item.candidates[longer].text
        assert row["raters"] == [olga.pseudonym]
    told = [row for row in rows(directory, "judgments") if row["comparison"] == name]
    assert [row.get("is_decision", False) for row in told if row["dimension"] == "honest"] == [False, False, True]
    report = report_on(directory)
    assert (report.votes, report.agreement.value, report.raters) == (2 * 4 * 3 * 2, 1.0, 2)
