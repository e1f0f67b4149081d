"""`palate label --backup` and `--restore`, and `palate exchange` with a database, on both servers."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from palate.cli import main
from palate.ratings import Ratings, open_ratings
from tests.support import postgres
from tests.support.ratings import team
from tests.support.waiting import LIMIT_SECONDS
from tests.support.warm_python import executable


def new_url(like: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """The address of another empty database of the same kind."""
    return str(folder / "new.db") if like.startswith("sqlite") else postgres.new_database(request.getfixturevalue("postgres_server"))


def test_a_backup_is_made_and_restored(
    ratings: Ratings, url: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    crew = team(ratings, items=3)
    crew.judge()
    copy, new = tmp_path / "copy.db", new_url(url, tmp_path, request)
    assert main(["label", "--ratings", url, "--backup", str(copy)]) == 0
    assert capsys.readouterr().out.startswith(f"{copy}: {copy.stat().st_size} bytes.")
    assert main(["label", "--ratings", new, "--restore", str(copy)]) == 0
    assert "1 projects, 2 accounts" in capsys.readouterr().out
    restored = open_ratings(new)
    assert restored.as_exchange(crew.project.id) == ratings.as_exchange(crew.project.id)
    assert restored.check() == ()
    restored.close()
    before = copy.read_bytes()
    for words, code, told in (
        (["--ratings", url, "--backup", str(copy)], 2, "exists already. Name a new file"),
        (["--ratings", url, "--backup", str(tmp_path / "no" / "copy.db")], 2, "is not a folder"),
        (["--ratings", new, "--restore", str(copy)], 2, "The database is not empty (1 projects, 2 accounts); nothing was restored"),
        (["--ratings", new, "--restore", str(copy), "--backup", "x"], 2, "not allowed with argument"),
    ):
        assert main(["label", *words]) == code
        captured = capsys.readouterr()
        assert told in captured.err
        assert captured.err.count("\n") == 1
    assert copy.read_bytes() == before


@pytest.mark.parametrize("fault", ["missing", "text", "other", "newer"])
def test_what_is_no_backup_leaves_nothing_behind(
    ratings: Ratings, url: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    team(ratings)
    copy, new = tmp_path / "copy.db", new_url(url, tmp_path, request)
    ratings.backup(copy)
    told = {"missing": "does not exist", "text": "is not a backup", "other": "not one of ratings", "newer": "a newer one wrote it"}[fault]
    if fault == "newer":
        with sqlite3.connect(copy) as newer:
            newer.execute("UPDATE alembic_version SET version_num = '9999'")
    else:
        copy.unlink()
    if fault == "text":
        copy.write_text("no database " * 100)
    if fault == "other":
        with sqlite3.connect(copy) as other:
            other.execute("CREATE TABLE theirs (x)")
    assert main(["label", "--ratings", new, "--restore", str(copy)]) == 3
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("new.db")] == []


def test_a_full_disk_ends_a_backup_and_leaves_no_half_of_one(ratings: Ratings, url: str, tmp_path: Path) -> None:
    team(ratings, items=300)
    # No file may grow above 100 kB: what the system says then is what it says without space.
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    code = f"import resource, signal, sys; {limit}; from palate.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [executable(), "-c", code, "label", "--ratings", url, "--backup", str(tmp_path / "copy.db")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 4, done.stderr
    assert "copy.db could not be written" in done.stderr
    assert "Free some space" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_judgments_go_in_and_out_of_a_database(
    ratings: Ratings,
    url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    team(ratings, items=3).judge()
    new = new_url(url, tmp_path, request)
    assert main(["exchange", url, "a.jsonl"]) == 0
    assert main(["exchange", "a.jsonl", new]) == 0
    assert "3 items added to 'pairs', 0 were there already; 1 judgments by 1 new raters" in capsys.readouterr().out
    assert main(["exchange", new, "b.jsonl"]) == 0
    assert Path("b.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    assert main(["exchange", url, new, "--project", "pairs"]) == 0
    assert "0 items added to 'pairs', 3 were there already; 0 judgments by 0 new raters, 1 were there" in capsys.readouterr().out
    rows = [{"id": "q", "prompt": "soup?", "chosen": "yes", "rejected": "no", "votes": [1, 0.5], "raters": ["ann", "bob"]}]
    Path("trl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["exchange", "trl.jsonl", new, "--project", "soups"]) == 0
    assert main(["exchange", new, "c.jsonl", "--project", "soups", "--to", "trl"]) == 0
    (row,) = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    assert (row["chosen"], row["votes"], row["raters"]) == ("yes", [1.0, 0.5], ["ann", "bob"])
    capsys.readouterr()
    Path("bad.jsonl").write_text('{"prompt": "p", "completions": ["a"]}\n')
    for words, code, told in (
        (["trl.jsonl", new], 2, "SOURCE does not name a project"),
        ([new, "d.jsonl"], 2, "there are several. Choose one with --project: 'pairs', 'soups'"),
        ([new, "d.jsonl", "--project", "none"], 2, "there is no project 'none'"),
        ([new, new], 2, "is also the source"),
        ([new, "d.jsonl", "--project", "soups", "--from", "trl"], 2, "--from is for files"),
        (["trl.jsonl", new, "--project", "soups", "--to", "trl"], 2, "--to is for files"),
        (["trl.jsonl", "d.jsonl", "--project", "soups"], 2, "--project names a project of a database"),
        (["bad.jsonl", new, "--project", "soups"], 3, "bad.jsonl:1, candidates: 1 given"),
        (["bad.jsonl", "fresh.db", "--project", "soups"], 3, "bad.jsonl:1: `candidates` holds 1"),
        (["none.db", "d.jsonl"], 2, "none.db does not exist"),
    ):
        assert main(["exchange", *words]) == code, words
        captured = capsys.readouterr()
        assert told in captured.err
        assert captured.err.count("\n") == 1
    assert not Path("d.jsonl").exists()
    assert list(tmp_path.glob("fresh.db*")) == []
