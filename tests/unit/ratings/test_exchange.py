"""A project out of a database and into another one, and every kind of file into a project: all of it or nothing."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from palate.core import DataError, Judgment, Message
from palate.data.exchange import Candidate as OutsideCandidate
from palate.data.exchange import Exchange, RaterInfo, Vote, read_exchange, write_exchange
from palate.data.exchange import ExchangeItem as OutsideItem
from palate.ratings import Answer, Candidate, Item, Project, Ratings, Task, open_ratings, schema
from tests.support import postgres
from tests.support.fuzz import damaged, good_files, restructured, sample
from tests.support.ratings import Team, pair, team

LEVEL = Answer(ranking=((0, 1),), dimensions={"honest": ((1,), (0,))}, strength=0.0, seconds=0.0, reason="both \u2028 fine")


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ratings]:
    """Another empty database."""
    is_file = request.param == "sqlite"
    url = str(tmp_path / "other.db") if is_file else postgres.new_database(request.getfixturevalue("postgres_server"))
    opened = open_ratings(url, create=True)
    yield opened
    opened.close()


def busy(ratings: Ratings) -> Team:
    """A project in which everything happened that can."""
    gold = pair("gold", gold=((1,), (0,)))
    test = pair("test", gold=((0,), (1,)), is_qualification=True)
    odd = pair("odd", fields={"n": [1, None, {"a": 0.5}], "source_id": "theirs"}, stratum="soups", policy="third")
    tools = Item((Message("user", "Call."), Message("tool", "42", '{"a": 1}')), (Candidate("x", tool_fields="[]"), Candidate("y")))
    task = Task(dimensions=("overall", "honest"), all_bad=True, strength=True)
    crew = team(ratings, items=6, raters=4, extra=(gold, test, odd, tools), task=task, overlap=2, max_overlap=3, gold_share=0.2)
    crew.ratings.set_guideline(crew.project.id, "Be fair.", 5.0, warning="hard")
    for rater in range(3):
        held = crew.judge(rater, LEVEL)  # the qualification
        assert ratings.item(held.item).is_qualification
        ratings.qualify(crew.project.id, crew.raters[rater].id, 6.0)
        crew.now += 0.123456789
    both = ((0,), (1,))
    crew.judge(0, Answer(all_bad=True, flag="odd"))
    crew.judge(1, Answer(skipped=True, reason="hard"))
    crew.judge(0, Answer(ranking=both, dimensions={"honest": both}, strength=2, seconds=3))
    crew.undo(0)
    held = crew.judge(0, Answer(ranking=((1,), (0,)), dimensions={"honest": both}))
    crew.submit(held, LEVEL)  # a second answer
    crew.undo(0)
    ratings.set_guideline(crew.project.id, "Be fairer.", 7.0)
    late = crew.sure(2)
    crew.now += 100
    crew.submit(late, LEVEL, 2)
    assert crew.submit(late, LEVEL, 2).status == "surplus"
    gone = crew.judge(1, LEVEL)
    ratings.remove_item(gone.item, crew.now)
    for rater in (0, 1, 2):
        crew.judge(rater, LEVEL)
    ratings.adjudicate(held.item, crew.raters[0].id, Answer(ranking=both, dimensions={"honest": both}), "decided", crew.now)
    ratings.erase(crew.raters[2].id, crew.now)
    return crew


def lines(ratings: Ratings, project: str, file: Path) -> bytes:
    """The project's lossless file."""
    write_exchange(ratings.as_exchange(project), file)
    return file.read_bytes()


def told(ratings: Ratings, project: str) -> list[object]:
    """What the table of judgments holds, without ids that are made anew."""
    return [
        (one.id, one.item, one.pseudonym, one.order, one.answer, one.status, one.kind, one.supersedes, one.guideline, one.created)
        for one in ratings.judgments(project)
    ]


def test_a_project_comes_out_of_another_database_as_it_went_in(ratings: Ratings, other: Ratings, tmp_path: Path) -> None:
    crew = busy(ratings)
    before = lines(ratings, crew.project.id, tmp_path / "a.jsonl")
    done = other.import_exchange(read_exchange(tmp_path / "a.jsonl"), "pairs", 1.0)
    assert done.judgments == len(list(ratings.judgments(crew.project.id)))
    assert lines(other, done.project.id, tmp_path / "b.jsonl") == before
    assert other.check() == ()
    assert told(other, done.project.id) == told(ratings, crew.project.id)
    rows = [json.loads(line).get("judgment", {}) for line in before.decode().split("\n") if line]
    assert {row.get("status") for row in rows} == {None, "surplus", "superseded"}
    assert {row.get("entry") for row in rows} == {None, "undo", "adjudication"}
    assert {row.get("was_surplus") for row in rows} == {None, True}
    assert {row.get("seconds") for row in rows} == {None, 0.0, 3.0}
    assert not any(person.name in before.decode() for person in crew.raters)
    assert all(one.name == "" and other.password_hash(one.id) is None for one in other.accounts())
    again = other.import_exchange(read_exchange(tmp_path / "a.jsonl"), "pairs", 1.0)
    assert (again.items, again.judgments, again.raters) == ((), 0, 0)
    assert lines(other, done.project.id, tmp_path / "c.jsonl") == before


def content(ratings: Ratings) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with ratings.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in schema.metadata.sorted_tables
        }


def said(exchange: Exchange) -> Counter[object]:
    """Who ranked the texts how, whatever items and judgments are called."""
    items = {item.id: item for item in exchange.items}
    found: Counter[object] = Counter()
    for vote in exchange.votes:
        item = items[vote.judgment.comparison]
        ranked = tuple(tuple(sorted(item.candidates[number].text for number in tier)) for tier in vote.tiers)
        order = vote.judgment.order
        shown = None if order is None else tuple(item.candidates[number].text for number in order)
        rater = vote.judgment.rater.replace("-", "")  # UUIDs are kept as 32 digits
        found[item.conversation, rater, vote.judgment.dimension, ranked, shown, vote.judgment.strength] += 1
    return found


def test_every_kind_of_file_becomes_a_project_that_says_the_same(ratings: Ratings, tmp_path: Path) -> None:
    for file in good_files(tmp_path):
        if file.name in {"votes.csv", "judgments.jsonl", "mt-bench-pairs.jsonl", "mt-bench-single.jsonl"}:
            continue
        exchange = read_exchange(file)
        done = ratings.import_exchange(exchange, file.name, 5.0)
        back = ratings.as_exchange(done.project.id)
        assert said(back) == said(exchange), file
        assert back.kinds() == exchange.kinds() or file.name != "palate.jsonl"
        assert [item.fields.get("source_id", "") for item in back.items] == [
            "" if place.endswith(f"/{item.id}") else item.id for item, place in zip(exchange.items, exchange.places.items, strict=True)
        ]
        before = content(ratings)
        again = ratings.import_exchange(exchange, file.name, 6.0)
        assert (again.items, again.judgments, again.raters, again.known_judgments) == ((), 0, 0, done.judgments)
        assert content(ratings) == before
    assert ratings.check() == ()


def test_what_another_tool_judged_joins_the_items_it_was_given(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=3)
    crew.judge()
    write_exchange(ratings.as_exchange(crew.project.id), tmp_path / "tasks.json", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    result = {"from_name": "dimension_overall", "to_name": "left,right", "type": "pairwise", "value": {"selected": "right"}}
    tasks[1]["annotations"].append({"completed_by": 7, "result": [result], "lead_time": 4.0})
    (tmp_path / "done.json").write_text(json.dumps(tasks))
    done = ratings.import_exchange(read_exchange(tmp_path / "done.json"), crew.project.name, 9.0)
    assert (done.items, done.known_items, done.judgments, done.known_judgments, done.raters) == ((), 3, 1, 1, 1)
    last = list(ratings.judgments(crew.project.id))[-1]
    assert (last.item, last.pseudonym, last.answer.ranking, last.answer.seconds) == (tasks[1]["data"]["palate_id"], "7", ((1,), (0,)), 4.0)
    assert ratings.check() == ()
    assert ratings.claim(crew.project.id, crew.raters[1].id, crew.now, random.Random(1)) is not None


def test_a_pair_the_other_way_round_is_the_same_pair(ratings: Ratings) -> None:
    crew = team(ratings, items=1)
    mine = next(iter(ratings.items(crew.project.id)))
    turned = OutsideItem("x", mine.conversation, mine.candidates[::-1])
    vote = Vote(Judgment("x", "eve", ((0,), (1,)), order=(1, 0)))  # shown first, and better: candidate 1 of the file, 0 of the project
    done = ratings.import_exchange(Exchange((turned,), (vote,), (RaterInfo("eve"),)), "pairs", 9.0)
    assert (done.items, done.known_items, done.judgments) == ((), 1, 1)
    (entry,) = ratings.judgments(crew.project.id)
    assert (entry.item, entry.order, entry.answer.ranking) == (mine.id, (0, 1), ((0,), (1,)))


def test_later_rows_of_a_project_follow_the_earlier_ones(ratings: Ratings, other: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=3, overlap=2)
    crew.judge()
    other.import_exchange(ratings.as_exchange(crew.project.id), "pairs", 1.0)
    crew.undo()
    crew.judge(0, Answer(ranking=((1,), (0,))))
    crew.judge(1)
    done = other.import_exchange(ratings.as_exchange(crew.project.id), "pairs", 1.0)
    assert (done.judgments, done.known_judgments) == (3, 1)
    assert lines(other, done.project.id, tmp_path / "b.jsonl") == lines(ratings, crew.project.id, tmp_path / "a.jsonl")
    assert other.check() == ()


def test_half_a_character_does_not_keep_the_rest_from_being_written(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=0, extra=(Item((Message("user", "odd \ud800"),), (Candidate("\udfff a"), Candidate("b"))),))
    crew.judge(0, Answer(ranking=((0,), (1,)), reason="\ud800!"))
    lines(ratings, crew.project.id, tmp_path / "a.jsonl")
    back = read_exchange(tmp_path / "a.jsonl")
    assert (back.items[0].conversation[0].text, back.items[0].candidates[0].text, back.votes[0].judgment.reason) == ("odd ?", "? a", "?!")


def test_what_a_file_leaves_open_is_decided(ratings: Ratings) -> None:
    exchange = sample()
    first = exchange.votes[0]
    twice = replace(first, id="again", judgment=replace(first.judgment, reason="changed"))
    gone = replace(exchange.votes[1], id="gone", status="superseded")
    long = Vote(Judgment(exchange.items[0].id, "x" * 40 + "\0", ((0,), (1,))))
    raters = (*exchange.raters, RaterInfo("x" * 40 + "\0", "unknown"))
    more = replace(exchange, votes=(gone, *exchange.votes, twice, long), raters=raters)
    done = ratings.import_exchange(more, "soups", 5.0)
    assert done.surplus == 1
    entries = list(ratings.judgments(done.project.id))
    assert [entry.kind for entry in entries].count("undo") == 1  # of the one that the file calls superseded
    assert [(entry.status, entry.answer.reason) for entry in entries if entry.answer.reason == "changed"] == [("surplus", "changed")]
    kinds = {one.pseudonym: one.kind for one in ratings.accounts(done.project.id)}
    (name,) = set(kinds) - {rater.id for rater in exchange.raters}
    assert (len(name), kinds[name]) == (32, "unknown")
    assert kinds["judge-1"] == "model"
    assert all(ratings.password_hash(one.id) is None and one.name == "" for one in ratings.accounts())
    assert ratings.check() == ()
    assert ratings.progress(done.project.id, 5.0).surplus == 1


PAIR = {"prompt": "p", "completions": ["a", "b"]}
HEAD = {"palate": "exchange", "version": 2}
ASKED = {"item": {"id": "q", "conversation": [{"role": "user", "text": "p"}], "candidates": [{"text": "a"}, {"text": "b"}]}}
ANN = {"rater": {"id": "ann", "kind": "person"}}


def judged(**changes: object) -> dict[str, object]:
    return {"judgment": {"item": "q", "rater": "ann", "ranking": [[0], [1]], "order": [0, 1], **changes}}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([PAIR, {"prompt": "p", "completions": ["a"]}], "a.jsonl:2, candidates: 1 given, a task of kind compare takes 2"),
        ([PAIR, {"prompt": "p", "completions": ["a", {"media": "../a.png"}]}], "a.jsonl:2, candidates: '../a.png' is not a path inside"),
        ([PAIR, {"prompt": "p", "completions": ["a", "b"], "stratum": "\0"}], "a.jsonl:2, stratum or policy: holds a character"),
        ([PAIR, {"prompt": "p", "completions": ["a", "b"], "qualification": True}], "a.jsonl:2, is_qualification: needs a gold answer"),
        ([PAIR, {"prompt": "p", "completions": ["a", "b"], "promt": 1}], "a.jsonl:2: `promt` is not known"),
        ([PAIR, {"prompt": "p", "completions": ["a", 1]}], "a.jsonl:2: `completions[1]` is not an object"),
        ([PAIR, {"prompt": "p", "conversation": []}], "a.jsonl:2: `prompt` is a text and `conversation`"),
        ([PAIR, {"prompt": "p", "completions": ["a", "b"], "gold": 7}], "a.jsonl:2: `gold` is not a whole number from 0 to 1"),
        ([PAIR, {"prompt": "p", "completions": ["a", "b"], "gold": [0, 0]}], "a.jsonl:2: `gold` names a candidate twice"),
        ([HEAD, ANN, ASKED, judged(rater="eve")], "a.jsonl:4: `rater` 'eve' is not among the file's raters"),
        ([HEAD, ANN, ASKED, judged(item="z")], "a.jsonl:4: `item` 'z' is not among the file's items"),
        ([HEAD, ANN, ASKED, judged(dimension="taste")], "a.jsonl:4: `ranking`: The answer does not fit its task: taste"),
        ([HEAD, ANN, ASKED, judged(time=-5)], "a.jsonl:4: `time` is -5.0"),
        ([HEAD, ANN, ASKED, judged(is_all_bad=True)], "a.jsonl:4: `ranking`: The answer does not fit its task: this project does not ask"),
        ([HEAD, ANN, ASKED, judged(text="x" * 2**20)], "a.jsonl:4: `ranking`: The answer has"),
        ([HEAD, ANN, ASKED, judged(supersedes="j")], "a.jsonl:4: `supersedes` is what an undo takes back"),
        ([HEAD, ANN, ASKED, judged(entry="undo", ranking=[], supersedes="j")], "a.jsonl:4: `supersedes` names 'j', which is not among"),
        (
            [HEAD, ANN, ASKED, judged(id="j"), judged(entry="undo", supersedes="j")],
            "a.jsonl:5: `supersedes` names 'j', whose status is kept",
        ),
        ([HEAD, ANN, ASKED, judged(id="j"), judged(answer="k")], "a.jsonl:5: `answer` names 'k'"),
        (
            [HEAD, {"rater": {"id": "ann", "kind": "model"}}, ASKED, judged()],
            "a.jsonl:4: `rater` 'ann' is a model in the file and a person",
        ),
    ],
)
def test_a_row_at_fault_is_named_and_nothing_is_added(ratings: Ratings, tmp_path: Path, rows: list[object], told: str) -> None:
    project = ratings.add_project(Project("pairs"), 1.0)
    ratings.import_exchange(sample(ties=False), "others", 2.0)
    before = content(ratings)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        ratings.import_exchange(read_exchange(tmp_path / "a.jsonl"), project.name, 5.0)
    assert f"{tmp_path}/{told}" in str(caught.value)
    assert content(ratings) == before


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([PAIR, {"prompt": "p", "completions": ["a"]}], "all items of a project have the same task"),
        ([{"prompt": "p", "completions": ["a"]}], "a.jsonl:1: `candidates` holds 1"),
        ([{"palate": "exchange", "version": 2}, {"project": {"task": {"kind": "compare"}}}], "a.jsonl:2: no `dimensions`"),
    ],
)
def test_a_new_project_is_not_made_of_what_does_not_fit_together(ratings: Ratings, tmp_path: Path, rows: list[object], told: str) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = content(ratings)
    with pytest.raises(DataError) as caught:
        ratings.import_exchange(read_exchange(tmp_path / "a.jsonl"), "new", 5.0)
    assert told in str(caught.value)
    assert content(ratings) == before
    assert ratings.projects() == ()


def test_settings_of_a_project_are_checked_like_those_that_are_typed(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=1)
    rows = [json.loads(line) for line in lines(ratings, crew.project.id, tmp_path / "a.jsonl").decode().splitlines()]
    rows[1]["project"]["random_share"] = 0.1
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"a.jsonl:2: .*random_share: must be between 0.3 and 1"):
        ratings.import_exchange(read_exchange(tmp_path / "a.jsonl"), "new", 5.0)


def test_a_damaged_file_adds_all_or_nothing(ratings: Ratings, tmp_path: Path) -> None:
    crew = team(ratings, items=2)
    crew.judge()
    crew.undo()
    good = [file for file in good_files(tmp_path) if file.name != "votes.csv"]
    good.append(tmp_path / "project.jsonl")
    lines(ratings, crew.project.id, good[-1])
    # This file calls all raters people, so files that call one a model are refused later.
    ratings.import_exchange(read_exchange(tmp_path / "trl.jsonl"), "first", 4.0)
    counts: Counter[str] = Counter()
    before = content(ratings)
    for number in range(140):
        rng = random.Random(f"import {number}")
        source = rng.choice(good)
        victim = tmp_path / f"damaged{source.suffix}"
        change = restructured if number % 4 else lambda content, rng: damaged(content, rng, is_json=True)
        victim.write_bytes(change(source.read_bytes(), rng))
        try:
            exchange = read_exchange(victim)
        except DataError:
            counts["unreadable"] += 1  # what is said of these is asked in the tests of palate.data.exchange
            continue
        told, done = "", None
        try:
            done = ratings.import_exchange(exchange, f"{source.name} {number % 3}", 5.0)
        except DataError as error:
            told = str(error)
        if done is None:
            counts["refused"] += 1
            assert content(ratings) == before, victim.read_bytes()
            assert re.search(rf"{re.escape(str(victim))}:\d+(: `|, )[a-z_]+|guideline '|all items of a project", told), told
            assert "\n" not in told
        else:
            counts["added"] += 1
            before = content(ratings)
            back = ratings.as_exchange(done.project.id)
            write_exchange(back, tmp_path / "back.jsonl")
            assert read_exchange(tmp_path / "back.jsonl") == back, victim.read_bytes()
    assert ratings.check() == ()
    assert min(counts[name] for name in ("unreadable", "refused", "added")) > 3, counts


def unordered(*raters: str) -> Exchange:
    """Ten pairs of which nobody knows who stood first, with the judgments of these raters: all for candidate 0."""
    items = tuple(OutsideItem(f"q{k}", (Message("user", f"q{k}"),), (Candidate(f"good {k}"), Candidate(f"bad {k}"))) for k in range(10))
    votes = tuple(Vote(Judgment(item.id, who, ((0,), (1,)))) for item in items for who in raters)
    return Exchange(items, votes, tuple(map(RaterInfo, raters)))


def test_an_order_that_nobody_knows_stays_unknown(ratings: Ratings) -> None:
    project = ratings.import_exchange(unordered("ann"), "pairs", 5.0).project
    back = ratings.as_exchange(project.id)
    assert [(vote.judgment.order, vote.tiers) for vote in back.votes] == [(None, ((0,), (1,)))] * 10
    assert {entry.order for entry in ratings.judgments(project.id)} == {None}
    _, judgments = ratings.as_comparisons(project.id)
    assert {(one.order, one.tiers) for one in judgments} == {(None, ((0,), (1,)))}
    assert [(one.order, one.answer.ranking) for one in ratings.counted_answers(project.id)] == [(None, ((0,), (1,)))] * 10
    again = ratings.import_exchange(back, "pairs", 6.0)
    assert (again.judgments, again.known_judgments) == (0, 10)
    with ratings.database.read() as connection:
        assert set(connection.execute(select(schema.items.c.sides)).scalars()) == {0}
    assert ratings.check() == ()
    copied = ratings.import_exchange(back, "copy", 6.0)  # into a project of its own, under other ids
    assert {vote.judgment.order for vote in ratings.as_exchange(copied.project.id).votes} == {None}


def test_of_an_unknown_order_the_candidates_are_renumbered(ratings: Ratings) -> None:
    project = ratings.import_exchange(unordered(), "pairs", 5.0).project
    turned = tuple(replace(item, candidates=item.candidates[::-1]) for item in unordered("ann").items)
    done = ratings.import_exchange(replace(unordered("ann"), items=turned), "pairs", 6.0)  # `good` is candidate 1 there
    assert (done.items, done.judgments) == ((), 10)
    texts = {item.id: [one.text[:3] for one in item.candidates] for item in ratings.as_exchange(project.id).items}
    for vote in ratings.as_exchange(project.id).votes:
        assert texts[vote.judgment.comparison][vote.tiers[0][0]] == "bad"


def test_what_nobody_can_judge_is_left_out_with_its_judgments(ratings: Ratings) -> None:
    given = unordered("ann")
    equal = replace(given.items[1], candidates=given.items[1].candidates[:1] * 2)
    empty = replace(given.items[2], candidates=(Candidate("x"), Candidate("")))
    done = ratings.import_exchange(replace(given, items=(given.items[0], equal, empty, *given.items[3:])), "pairs", 5.0)
    assert (len(done.items), done.judgments, len(done.left_out)) == (8, 8, 4)
    assert [row.reason for row in done.left_out[:2]] == ["two are the same", "one has neither text nor media"]
    assert "4 rows with nothing to judge were left out, the first: item 'q1': two are the same" in str(done)


def test_a_name_of_other_texts_is_refused(ratings: Ratings) -> None:
    project = ratings.import_exchange(unordered(), "pairs", 5.0).project
    (first, *_) = ratings.as_exchange(project.id).items
    other = replace(first, conversation=(Message("user", "another question"),))
    with pytest.raises(DataError, match="names an item of the project with another conversation"):
        ratings.import_exchange(Exchange((other,)), "pairs", 6.0)


def test_no_address_of_mail_gets_in_or_out(ratings: Ratings) -> None:
    with pytest.raises(DataError, match="`rater` is an email address"):
        ratings.import_exchange(unordered("ann@example.org"), "pairs", 5.0)
    assert not ratings.projects()
    project = ratings.import_exchange(unordered("ann"), "pairs", 5.0).project
    with ratings.database.write() as connection:  # as an older version took it
        connection.execute(update(schema.accounts).where(schema.accounts.c.pseudonym == "ann").values(pseudonym="ann@example.org"))
    (rater,) = ratings.as_exchange(project.id).raters
    assert rater.id.startswith("rater~")
    assert {one.rater for one in ratings.as_comparisons(project.id)[1]} == {rater.id}


def test_what_a_judge_gives_beside_its_ranking_stays_in_a_database(ratings: Ratings) -> None:
    judge = [vote for vote in sample().votes if vote.judgment.rater == "judge-1"]
    soft = replace(judge[1].judgment, probability=0.25, ranking=((1,), (0,)))
    summed = replace(judge[2].judgment, is_consistent=False, ranking=((0, 1),), order=None)
    given = replace(sample(), votes=(replace(judge[1], judgment=soft), replace(judge[2], judgment=summed)))
    back = ratings.as_exchange(ratings.import_exchange(given, "judged", 5.0).project.id)
    assert [(vote.judgment.probability, vote.judgment.is_consistent) for vote in back.votes] == [(0.25, None), (None, False)]


def test_probabilities_of_rankings_and_marks_stay_with_their_candidates(ratings: Ratings, other: Ratings) -> None:
    """Also where a database has the candidates in another order."""
    three = OutsideItem("i", (Message("user", "soup?"),), (OutsideCandidate("a"), OutsideCandidate("b"), OutsideCandidate("c")), "rank")
    ranked = Judgment("i", "judge-1", ((1,), (0,), (2,)), order=(2, 0, 1), probabilities=(0.25, 0.75, 0.875))
    marked = Judgment("i", "judge-2", ((0,), (1, 2)))
    raters = (RaterInfo("judge-1", "model"), RaterInfo("judge-2", "model"))
    given = Exchange((three,), (Vote(ranked), Vote(marked, marks=(7.0, 2.5, 2.5))), raters)
    done = ratings.import_exchange(given, "ranked", 5.0)
    back = ratings.as_exchange(done.project.id)
    assert [(vote.judgment.probabilities, vote.marks) for vote in back.votes] == [((0.25, 0.75, 0.875), ()), ((), (7.0, 2.5, 2.5))]
    turned = replace(three, candidates=three.candidates[::-1])
    votes = tuple(vote.renumbered("i", (2, 1, 0)) for vote in given.votes)
    first = other.import_exchange(replace(given, items=(turned,), votes=()), "ranked", 5.0).project
    other.import_exchange(given, "ranked", 6.0)
    assert [(vote.judgment.first_probability(0, 2), vote.marks) for vote in other.as_exchange(first.id).votes] == [
        (votes[0].judgment.first_probability(0, 2), ()),
        (None, (2.5, 2.5, 7.0)),
    ]
