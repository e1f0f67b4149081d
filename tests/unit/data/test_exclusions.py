"""What is withdrawn is not read: raters, principles of a judge, and sources, from any file and by any reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.core import DataError, RunError
from palate.data.exclusions import FILE, Exclusion, Exclusions, exclude, excluding, read_exclusions
from palate.data.formats import read_demonstrations, read_preferences
from palate.data.jsonl import write_rows
from palate.data.pseudonyms import hidden
from palate.data.rater_rows import raters_in
from palate.raters.simulated import RaterPool, Simulated
from tests.unit.stages.test_collect import GOLD, THREE, collect, rows, samples


def excluded(*names: tuple[str, str]) -> Exclusions:
    return Exclusions(tuple(Exclusion(kind, name) for kind, name in names))  # type: ignore[arg-type]


def pair(k: int, **more: object) -> dict[str, object]:
    return {"prompt": f"question {k}", "chosen": f"good {k}", "rejected": f"bad {k}", **more}


def test_rows_of_raters_and_sources_are_left_out_with_the_reason(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "pairs.jsonl",
        [
            pair(0, votes=[1, 0, 1], raters=["ann", "bob", "eve"]),
            pair(1, votes=[1], raters=["bob"]),
            pair(2, source="old"),
            pair(3, fields={"source": "old"}),
            pair(4, source="new"),
        ],
    )

    def read(*names: tuple[str, str]) -> tuple[list[str], list[str]]:
        with excluding(excluded(*names)):
            table = read_preferences(tmp_path / "pairs.jsonl")
        return [row.chosen.text[-1] for row in table.rows], [row.kind for row in table.dropped]

    assert read() == (["0", "1", "2", "3", "4"], [])
    assert read(("rater", "ann")) == (["1", "2", "3", "4"], ["judged by a rater who is excluded"])
    assert read(("rater", hidden("bob")))[0] == ["2", "3", "4"]
    assert read(("source", "old")) == (["0", "1", "4"], ["from a source that is excluded"] * 2)
    assert read(("source", "ann"), ("rater", "old"), ("input", "new"))[0] == ["0", "1", "2", "3", "4"]
    assert read()[1] == [], "outside the stage nothing is left out"
    with excluding(excluded(("source", "old"), ("source", "new"), ("rater", "bob"))), pytest.raises(DataError, match="is excluded"):
        read_preferences(tmp_path / "pairs.jsonl")


def test_other_readers_leave_out_the_same(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("prompt,completion,source\na,b,old\nc,d,new\n")
    with excluding(excluded(("source", "old"))):
        assert len(read_demonstrations(tmp_path / "texts.csv").rows) == 1


def test_a_judge_stands_for_its_principles_and_for_one_version() -> None:
    names = excluded(("rater", "qwen/helpful@1a2b"))
    assert names.has_rater("qwen/helpful@1a2b#kind")
    assert not names.has_rater("qwen/helpful@ffff")
    assert excluded(("rater", "qwen/helpful@1a2b#kind")).has_rater("qwen/helpful@1a2b#kind")
    assert not excluded(("rater", "qwen/helpful@1a2b#kind")).has_rater("qwen/helpful@1a2b#safe")


def test_raters_are_found_in_rows_of_every_kind(tmp_path: Path) -> None:
    judged = {"comparison": "p/0-1", "rater": "ann", "ranking": [[0], [1]], "dimension": "kind", "guideline": "2"}
    exchanged = {"judgment": {"item": "p", "rater": "bob", "ranking": [[0], [1]]}}
    write_rows(
        tmp_path / "a.jsonl",
        [
            judged,
            exchanged,
            pair(0, votes=[1], raters=["eve"], dimension="safe"),
            pair(1),
            {"rater": None},
            {"rater": {"id": "ann", "kind": "person"}},
        ],
    )
    found = [(one.rater, one.guideline, one.dimension) for one in raters_in(tmp_path / "a.jsonl")]
    assert found == [("ann", "2", "kind"), ("bob", "", "overall"), ("eve", "", "safe")]
    (tmp_path / "a.py").write_text("{}")
    assert list(raters_in(tmp_path / "a.py")) == []


def test_collect_concludes_from_the_judgments_of_the_others(tmp_path: Path) -> None:
    of = Simulated(GOLD, pool=RaterPool(raters=3))
    (tmp_path / "with").mkdir()
    given = samples(tmp_path / "with", THREE, prompts=6)
    settings: dict[str, object] = {"raters_per_comparison": 2, "held_out": 0.5}
    whole, _ = collect(tmp_path / "with", given, of=of, **settings)
    with excluding(excluded(("rater", "simulated-1"))):
        part, summary = collect(tmp_path / "without", given, of=of, **settings)
    kept = [row for row in rows(whole, "judgments") if row["rater"] != "simulated-1"]
    assert rows(part, "judgments") == kept
    assert len(kept) < len(rows(whole, "judgments"))
    assert summary["judgments"] == len(kept)
    preferences = rows(part, "preferences") + rows(part, "held_out")
    assert {len(row["raters"]) for row in preferences} == {1, 2}
    assert all(row["probability"] == 0.75 for row in preferences if len(row["raters"]) == 1 and row["votes"] != [0.5])


def test_the_list_of_a_folder_grows_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    assert not read_exclusions(tmp_path)
    for name in ("a", "b", "a"):
        exclude(tmp_path, Exclusion("source", name))
    assert [entry.name for entry in read_exclusions(tmp_path).entries] == ["a", "b"]
    assert [[entry.name for entry in earlier.entries] for earlier in read_exclusions(tmp_path).earlier()] == [[], ["a"]]
    (tmp_path / FILE).write_text(json.dumps(["a"]))
    with pytest.raises(RunError, match="not a list of exclusions"):
        read_exclusions(tmp_path)
