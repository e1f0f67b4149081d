"""Everything that a run was made from, each once, however many ways lead to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.core import RunError
from palate.runs.record import Parent, RunPlan, RunRecord, ancestry, lineage, read_record, run_of
from palate.runs.run import open_run_at


def made(root: Path, name: str, *parents: Path) -> Path:
    of = tuple(Parent(f"in{k}", f"../{path.relative_to(root).as_posix()}", str(k)) for k, path in enumerate(parents))
    config = {"name": name, **{one.field: "" for one in of}}
    with open_run_at(root / name, RunPlan(name, "sft", config, parents=of)).active() as run:
        return run.directory


def test_a_run_that_many_ways_lead_to_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = top = made(tmp_path, "start")
    for k in range(26):  # 2^26 ways lead from the last run to the first
        left, right = (made(tmp_path, f"{side}{k}", top) for side in ("left", "right"))
        top = made(tmp_path, f"both{k}", left, right / "run.json")
    read: list[Path] = []

    def counted(directory: Path) -> RunRecord | None:
        read.append(directory)
        assert len(read) <= 1 + 3 * 26
        return read_record(directory)

    monkeypatch.setattr("palate.runs.record.read_record", counted)
    found = ancestry(top)
    assert len(found) == 1 + 3 * 26
    assert {home for home, _ in found.values()} >= {below, tmp_path / "left0", top}


def test_it_names_the_runs_of_the_lineage(tmp_path: Path) -> None:
    base = made(tmp_path, "base")
    (tmp_path / "data.jsonl").write_text("")
    tuned = made(tmp_path, "tuned", base, tmp_path / "data.jsonl")
    last = made(tmp_path, "last", tuned, base)
    found = ancestry(last)
    ways = {record.key: run_of(path) for _, _, path, record in lineage(last) if record is not None}
    assert {key: home for key, (home, _) in found.items()} == ways
    assert sorted(record.name for _, record in found.values()) == ["base", "last", "tuned"]
    with pytest.raises(RunError, match="it is not a run directory"):
        ancestry(tmp_path)
