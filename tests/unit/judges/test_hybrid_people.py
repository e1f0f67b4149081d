"""Hybrid labelling with people at a rating server's database: the same command goes on when they have answered, and loses nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from palate.core import DataError
from palate.data.jsonl import read_rows
from palate.judges.hybrid import ByRules, Hybrid
from palate.judges.judge_ledger import LEDGER
from palate.raters.people import People
from palate.ratings import Answer, open_ratings
from tests.unit.judges.conftest import collected, rows, samples, worth
from tests.unit.judges.test_hybrid import PROMPTS, gap_of, judge


def answer(database: Path, project_name: str, names: tuple[str, ...]) -> None:
    """People who prefer the larger number answer all that is asked in a project."""
    ratings = open_ratings(str(database))
    project = next(project for project in ratings.projects() if project.name == project_name)
    for number, name in enumerate(names):
        account = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
        ratings.join(project.id, account.id, time.time())
        for k in range(PROMPTS):
            begun = time.time() + 2.0 * k
            held = ratings.claim(project.id, account.id, begun, random.Random(k))
            if held is None:
                break
            first, second = (worth(ratings.item(held.item).candidates[place].text) for place in held.order)
            tiers = ((0,), (1,)) if first > second else ((1,), (0,))
            ratings.submit(held.id, account.id, Answer(tiers, seconds=2.0), f"{project.id}-{number}-{k}", begun + 2.0)
    ratings.close()


def test_the_same_command_goes_on_when_people_have_answered(tmp_path: Path) -> None:
    given, database, directory = samples(tmp_path, prompts=PROMPTS), tmp_path / "ratings.db", tmp_path / "run"
    people = People(database=str(database), wait=False)
    of = Hybrid(judge=judge("careful"), people=people, route=ByRules(calibration=0.25))
    with pytest.raises(DataError, match="project comparisons, calibration .* has 0 judgments"):
        collected(directory, given, of)
    answer(database, "comparisons, calibration", ("ann", "bob"))
    with pytest.raises(DataError, match="project comparisons in .* has 0 judgments"):
        collected(directory, given, of)
    kept = (directory / LEDGER).read_bytes()
    answer(database, "comparisons", ("ann",))
    mix = collected(directory, given, of)["mix"]

    assert (directory / LEDGER).read_bytes() == kept  # the judge was not asked again
    unsure = sum(gap_of(row) < 5 for row in rows(directory, "routes") if row["route"] != "calibration")
    assert mix["sources"]["people"] == {**mix["sources"]["people"], "questions": 52 + unsure, "labels": 104 + unsure}
    assert 0 < mix["sources"]["people"]["hours"] <= (104 + unsure) * 2.001 / 3600  # as they were measured, not 30 seconds each
    assert "accuracy" not in mix["all"]  # nobody knows the truth
    assert mix["dimensions"]["helpful"]["people"]["value"] == 1
    by = Counter(row["rater"].split("/")[0] for _, row in read_rows(directory / "judgments.jsonl"))
    assert by.pop("careful") == 2 * (PROMPTS - 52 - unsure)
    assert sorted(by.values()) == [52, 52 + unsure]  # two people under pseudonyms
