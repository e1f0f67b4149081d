"""Cases of wrong judgments that real users met, in the folder `shared/cases` beside the repository: each comes out right."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import pytest

from palate.cli import main
from palate.ratings import Answer, Project, open_ratings
from tests.support.repository import ROOT

CASES = ROOT.parent / "shared" / "cases" / "label"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not CASES.is_dir():
        pytest.skip("the folder shared/cases is not here")
    monkeypatch.chdir(tmp_path)


def case(number: str) -> Path:
    (folder,) = CASES.glob(f"{number}-*")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """What a command writes, with its messages."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert status == code, out + err
    return out + err


def rows(path: str | Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def judge(database: str, name: str) -> int:
    """Ann prefers what is good, or new; returns the number of her answers."""
    ratings = open_ratings(database)
    project, count = ratings.projects()[0].id, 0
    who = ratings.account_by_name(name) or ratings.add_account(name, "rater", time.time())
    ratings.join(project, who.id, time.time())
    while (held := ratings.claim(project, who.id, time.time(), random.Random(1))) is not None:
        texts = [ratings.item(held.item).candidates[number].text for number in held.order]
        best = next(place for place, text in enumerate(texts) if "good" in text or "new B" in text)
        ratings.submit(held.id, who.id, Answer(((best,), (1 - best,)), seconds=1.0), f"k{held.id}", time.time())
        count += 1
    ratings.close()
    return count


def test_01_texts_that_nobody_saw_get_no_votes(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("round1", "round2"):
        text = (case("01") / f"{name}.jsonl").read_text()
        Path(f"{name}.jsonl").write_text(text.replace('"stop": "end"', '"stop": "eos"'))
    people = ["--from", "people", "--from.database", "ratings.db", "--from.wait", "false", "--held_out", "0"]
    run(capsys, "collect", "--samples", "round1.jsonl", *people, "--out", "c1", code=3)
    assert judge("ratings.db", "ann") == 2
    told = run(capsys, "collect", "--samples", "round2.jsonl", *people, "--out", "c2", code=3)
    assert "has 0 judgments of these questions (and 2 of other texts" in told
    assert not Path("c2/preferences.jsonl").exists() or not rows("c2/preferences.jsonl")


def test_02_an_imported_pair_is_shown_in_an_order_that_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"prompt": f"q{k}", "chosen": f"good {k}", "rejected": f"bad {k}"} for k in range(40)]
    Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    ratings = open_ratings("ratings.db", create=True)
    ratings.add_project(Project("Relabel", overlap=2), time.time())
    ratings.close()
    run(capsys, "exchange", "pairs.jsonl", "ratings.db", "--project", "Relabel")
    ratings, first, count = open_ratings("ratings.db"), 0, 0
    project, who = ratings.projects()[0].id, ratings.add_account("Ann", "rater", time.time())
    ratings.join(project, who.id, time.time())
    draw = random.Random(0)
    while (held := ratings.claim(project, who.id, time.time(), draw)) is not None:
        first += held.order[0] == 0
        count += 1
        ratings.submit(held.id, who.id, Answer(((0,), (1,)), seconds=4.0), str(count), time.time())
    ratings.close()
    assert count == 40
    assert 12 <= first <= 28


def test_03_an_exchange_leaves_an_unknown_order_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    def lines(file: str | Path) -> list[str]:
        return re.findall(r"^.*(?:shown first|lean).*$", run(capsys, "agreement", file), re.MULTILINE)

    before = lines(case("03") / "pref.jsonl")
    assert any("not known" in line for line in before)
    run(capsys, "exchange", case("03") / "pref.jsonl", "p.jsonl")
    assert lines("p.jsonl") == before
    run(capsys, "exchange", "p.jsonl", "ratings.db", "--project", "x")
    run(capsys, "exchange", "ratings.db", "again.jsonl")
    assert lines("again.jsonl") == before


def test_04_figures_do_not_depend_on_which_column_is_called_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    written = (run(capsys, "agreement", case("04") / f"{name}.jsonl", "--json") for name in ("pref", "same_votes_columns_swapped"))
    plain = [json.loads(text, parse_float=lambda digits: round(float(digits), 9)) for text in written]
    for name in ("alpha", "alpha_ordinal", "alpha_interval", "agreement", "agreement_without_ties", "by_rater", "pairs", "cohen", "fleiss"):
        assert plain[0][name] == plain[1][name], name
    assert plain[0]["alpha"]["value"] == pytest.approx(0.36, abs=0.02)


def test_05_a_total_bias_is_named_as_one_of_97_percent_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("always_first", "first_97_percent"):
        told = run(capsys, "agreement", case("05") / f"{name}.jsonl")
        assert "- Raters lean to what is shown first: between equal completions it wins" in told
        assert "too few" not in told
    plain = json.loads(run(capsys, "agreement", case("05") / "always_first.jsonl", "--json"))
    assert plain["side"]["logit"]["low"] > 3
    assert plain["side"]["share"]["low"] < 1 == plain["side"]["share"]["value"]


def test_06_one_rater_tells_nothing_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "agreement", case("06") / "one_rater.jsonl")
    assert "error for other raters not known" in told
    assert json.loads(run(capsys, "agreement", case("06") / "one_rater.jsonl", "--json"))["side"]["rater_se"] is None


def test_10_an_equal_pair_is_dropped_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "exchange", case("10") / "items.jsonl", "r.db", "--project", "x")
    assert "1 items added" in told
    assert "dropped: 1 x the two sides are equal" in told
    assert "dropped: 1 x empty completion" in told


def test_11_stars_of_a_text_are_no_strength(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "exchange", case("11") / "ls.json", "o.jsonl")
    (judgment,) = (row["judgment"] for row in rows("o.jsonl") if "judgment" in row)
    assert "strength" not in judgment
    assert "a rating of 'answer1' alone" in told


def test_12_addresses_of_mail_are_no_pseudonyms(capsys: pytest.CaptureFixture[str]) -> None:
    for name, target in (("trl", "r.db"), ("mt", "mt.jsonl")):
        told = run(capsys, "exchange", case("12") / f"{name}.jsonl", target, *(["--project", "x"] if target == "r.db" else []), code=3)
        assert "is an email address; export numbers, or replace it by a pseudonym" in told
    assert not Path("mt.jsonl").exists()


def test_13_answers_that_were_given_again_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "agreement", case("13") / "both_orders.jsonl")
    assert "40 earlier votes of raters who answered the same pair again" in told
    assert "raters repeat their own answer: 0.0%" in told
    assert "- Raters lean to what is shown first" in told
    assert "- Raters gave another answer in 100% of the cases" in told


def test_14_one_reader_for_each_format(capsys: pytest.CaptureFixture[str]) -> None:
    folder = case("14")
    assert "3 votes (3 decided, 0 tie)" in run(capsys, "agreement", folder / "counts.jsonl")
    assert "1 votes (1 decided, 0 tie)" in run(capsys, "agreement", folder / "hh.jsonl")
    Path("rules.jsonl").write_text((folder / "rules.jsonl").read_text().replace('"axes"', '"dimensions"'))
    told = run(capsys, "agreement", "rules.jsonl")
    assert "2 votes (2 broken, 0 kept) of 2 raters on 1 questions about a rule" in told
    assert "raters agree: 100.0%" in told
    run(capsys, "exchange", "rules.jsonl", "rules.db", "--project", "r")
    assert told == run(capsys, "agreement", "rules.db")
