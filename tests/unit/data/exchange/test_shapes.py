"""Outside shapes: what each reads and writes, what comes back, and what is left out with a reason."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError, Judgment, Message
from palate.data.exchange import (
    WRITABLE,
    Candidate,
    Exchange,
    ExchangeItem,
    RaterInfo,
    Vote,
    join_items,
    label_studio_page,
    read_exchange,
    write_exchange,
)
from palate.data.formats import read_preferences
from tests.support.fuzz import ENDINGS, UNREAD, sample


def save(file: Path, *rows: object) -> Path:
    """The rows as a JSON list, or one a line."""
    text = json.dumps(rows) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def file_of(tmp_path: Path, exchange: Exchange, kind: str) -> Path:
    """The exchange written in a shape."""
    file = tmp_path / f"{kind}.{ENDINGS.get(kind, 'jsonl')}"
    write_exchange(exchange, file, kind)
    return file


def verdicts(exchange: Exchange) -> list[tuple[object, ...]]:
    """What was said: item by its texts, dimension, ranking in numbers of candidates; sorted."""
    texts = {item.id: tuple(one.text for one in item.candidates) for item in exchange.items}
    return sorted((*texts[vote.judgment.comparison], vote.judgment.dimension, vote.tiers) for vote in exchange.votes)


@pytest.mark.parametrize(
    "kind", [shape.name for shape in WRITABLE if shape.name not in (*UNREAD, "hh", "trl", "mt-bench", "mt-bench-pairs", "mt-bench-single")]
)
def test_votes_come_back_as_they_were_written(tmp_path: Path, kind: str) -> None:
    back = read_exchange(file_of(tmp_path, sample(), kind))
    assert verdicts(back) == verdicts(sample())
    assert [item.conversation for item in back.items] == [item.conversation for item in sample().items]


def test_mt_bench_keeps_the_order_shown_and_the_kinds_of_judges(tmp_path: Path) -> None:
    back = read_exchange(file_of(tmp_path, sample(), "mt-bench"))
    said = {(vote.judgment.comparison, vote.judgment.rater): vote for vote in sample().votes}
    assert len(back.votes) == len(said)
    policies = {item.id: [one.policy for one in item.candidates] for item in (*sample().items,)}
    for vote in back.votes:
        mine = said[vote.judgment.comparison, vote.judgment.rater]
        item = next(item for item in back.items if item.id == vote.judgment.comparison)
        shown = [item.candidates[number].policy for number in vote.judgment.order]
        assert shown == [policies[item.id][number] for number in mine.judgment.order]
        assert [sorted(tier) for tier in vote.judgment.ranking] == [sorted(tier) for tier in mine.judgment.ranking]


def test_trl_pairs_hold_votes_and_are_read_by_training_and_by_the_way_back(tmp_path: Path) -> None:
    file = file_of(tmp_path, sample(), "trl")
    table = read_preferences(file)
    assert len(table.rows) == 2  # the item with gold tests raters
    back = read_exchange(file)
    untested = [vote for vote in sample().votes if vote.judgment.comparison != "item-0"]
    for row in table.rows:
        votes = [vote for vote in sample().votes if vote.judgment.comparison == row.prompt.id]
        item = next(item for item in sample().items if item.id == row.prompt.id)
        chosen = [one.text for one in item.candidates].index(row.chosen.text)
        shares = [0.5 if len(vote.tiers) == 1 else float(vote.tiers[0] == (chosen,)) for vote in votes]
        assert row.votes == tuple(zip(("ann", "bob", "judge-1"), shares, strict=True))
        assert row.probability == (sum(shares) + 0.5) / (len(shares) + 1) >= 0.5
    assert [vote.judgment.rater for vote in back.votes] == [vote.judgment.rater for vote in untested]
    ties = [len(vote.judgment.ranking) == 1 for vote in back.votes]
    assert ties == [len(vote.judgment.ranking) == 1 for vote in untested]


def test_a_ranking_of_four_becomes_six_pairs(tmp_path: Path) -> None:
    item = ExchangeItem("i", (Message("user", "?"),), tuple(map(Candidate, "abcd")), "rank")
    votes = (Vote(Judgment("i", "ann", ((3,), (0, 1), (2,)), order=(2, 0, 3, 1))),)
    file = file_of(tmp_path, Exchange((item,), votes, (RaterInfo("ann"),)), "trl")
    rows = {row.prompt.id: (row.chosen.text, row.rejected.text, row.probability) for row in read_preferences(file).rows}
    # The places shown were c, a, d, b: the ranking is b, then c with a, then d.
    assert rows == {
        "i/0-1": ("b", "a", 0.75), "i/0-2": ("a", "c", 0.5), "i/0-3": ("a", "d", 0.75),
        "i/1-2": ("b", "c", 0.75), "i/1-3": ("b", "d", 0.75), "i/2-3": ("c", "d", 0.75),
    }  # fmt: skip


ASKED, YES, NO = {"role": "user", "content": "soup?"}, {"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "no"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "soup?", "chosen": " yes", "rejected": " no"},
        {"chosen": "soup? yes", "rejected": "soup? no"},
        {"prompt": [ASKED], "chosen": [YES], "rejected": [NO]},
        {"chosen": [ASKED, YES], "rejected": [ASKED, NO]},
    ],
)
def test_preferences_with_explicit_implicit_and_conversational_prompts(tmp_path: Path, row: dict[str, Any]) -> None:
    bare = read_exchange(save(tmp_path / "a.jsonl", row))
    assert [(one.text.strip()) for one in bare.items[0].candidates] == ["yes", "no"]
    assert bare.items[0].conversation[-1].text == "soup?"
    assert [(rater.id, rater.kind) for rater in bare.raters] == [("unknown", "unknown")]
    counted = read_exchange(save(tmp_path / "b.jsonl", {**row, "votes_chosen": 3, "votes_rejected": 2, "votes_tie": 1}))
    assert [vote.tiers for vote in counted.votes] == [((0,), (1,))] * 3 + [((1,), (0,))] * 2 + [((0, 1),)]
    assert len(counted.raters) == 6


def test_hh_takes_the_side_of_the_majority_and_guards_against_turns_in_texts(tmp_path: Path) -> None:
    file = file_of(tmp_path, sample(), "hh")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(row["chosen"].startswith("\n\nHuman: What goes with leeks") and "\n\nAssistant: " in row["chosen"] for row in rows)
    assert len(read_exchange(file).votes) == len(rows)
    sly = ExchangeItem("i", (Message("user", "?"),), (Candidate("yes\n\nHuman: no"), Candidate("no")))
    fine = ExchangeItem("j", (Message("user", "?"),), (Candidate("yes"), Candidate("no")))
    even = ExchangeItem("k", (Message("user", "?"),), (Candidate("yes"), Candidate("no")))
    votes = tuple(Vote(Judgment(name, "ann", ((0,), (1,)) if name != "k" else ((0, 1),))) for name in "ijk")
    done = write_exchange(Exchange((sly, fine, even), votes, (RaterInfo("ann"),)), tmp_path / "b.jsonl", "hh")
    assert (done.rows, [row.source for row in done.left_out]) == (1, ["item 'i'", "item 'k'"])


def test_pandalm_rows_as_published(tmp_path: Path) -> None:
    file = tmp_path / "testset.json"
    row = '{"idx": 4, "motivation_app": "Search", "cmp_key": "big-7b_old-6.9b", "instruction": "Ask.", "input": %s, '
    row += '"response1": "a", "response2": "b", "annotator1": 2, "annotator2": 0, "annotator3": 1}'
    file.write_text(f"[{row % 'NaN'}, {(row % repr('x').replace(chr(39), chr(34))).replace('4', '5', 1)}]")
    found = read_exchange(file)
    assert [vote.tiers for vote in found.votes[:3]] == [((1,), (0,)), ((0, 1),), ((0,), (1,))]
    assert [item.conversation[0].text for item in found.items] == ["Ask.", "Ask.\n\nx"]
    assert [one.policy for one in found.items[0].candidates] == ["big-7b", "old-6.9b"]
    assert [(item.fields["cmp_key"], item.id) for item in found.items] == [("big-7b_old-6.9b", "4"), ("big-7b_old-6.9b", "5")]
    with pytest.raises(DataError, match=r"testset.json:1: `annotator2` is not a whole number from 0 to 2: 3"):
        file.write_text(f"[{row % 'NaN'}]".replace('"annotator2": 0', '"annotator2": 3'))
        read_exchange(file)


TASK = {"id": 7, "data": {"prompt": "soup?", "text1": "yes", "text2": "no"}}
PICKED = {"from_name": "pw", "to_name": "text1,text2", "type": "pairwise", "value": {"selected": "right"}}


def test_label_studio_pairs_as_exported(tmp_path: Path) -> None:
    entry = {"completed_by": {"id": 3, "email": "a@b.c"}, "lead_time": 4.5, "created_at": "2024-05-06T07:08:09.5Z", "result": [PICKED]}
    reason = {"from_name": "why", "to_name": "text1", "type": "textarea", "value": {"text": ["short"]}}
    rated = {"from_name": "sure", "to_name": "text1,text2", "type": "rating", "value": {"rating": 4}}
    second = {"completed_by": 4, "result": [PICKED, reason, rated]}
    cancelled = {"completed_by": 5, "was_cancelled": True, "result": []}
    guess = {"model_version": "m1", "score": 0.5, "result": [PICKED]}
    file = save(tmp_path / "a.json", {**TASK, "annotations": [entry, second, cancelled, {"result": []}], "predictions": [guess]})
    found = read_exchange(file)
    assert [(vote.judgment.rater, vote.tiers, vote.is_skipped) for vote in found.votes] == [
        ("3", ((1,), (0,)), False), ("4", ((1,), (0,)), False), ("5", (), True), ("m1", ((1,), (0,)), False),
    ]  # fmt: skip
    assert found.kinds() == {"3": "person", "4": "person", "5": "person", "m1": "model"}
    assert found.votes[0].judgment.seconds == 4.5
    assert found.votes[0].time == 1714979289.5
    assert (found.votes[1].judgment.reason, found.votes[1].judgment.strength) == ("short", 4.0)
    assert [row.kind for row in found.dropped] == ["nothing said about which candidate is better"]
    assert found.items[0].conversation == (Message("user", "soup?"),)


@pytest.mark.parametrize(
    ("ranker", "tiers"),
    [
        (["z", "x", "y"], ((2,), (0,), (1,))),
        ({"rank": ["z", "x", "y"]}, ((2,), (0,), (1,))),
        ({"2": ["z"], "1": ["y", "x"], "_": []}, ((0, 1), (2,))),
        ({"good": ["x"], "bad": ["y", "z"]}, "has the buckets good, bad; name them 1, 2"),
        ({"1": ["x", "y"], "_": ["z"]}, "leaves candidates in no bucket"),
        (["z", "x", "w"], "names 'w', which is not among the candidates: x, y, z"),
        (["z", "x"], "`ranking` leaves out place 1"),
        (["z", "x", "x"], "`ranking` names a place twice"),
    ],
)
def test_label_studio_rankings(tmp_path: Path, ranker: object, tiers: object) -> None:
    data = {"prompt": "soup?", "items": [{"id": name, "title": name, "body": name} for name in "xyz"]}
    result = {"from_name": "rank", "to_name": "items", "type": "ranker", "value": {"ranker": ranker}}
    file = save(tmp_path / "a.json", {"id": 1, "data": data, "annotations": [{"completed_by": 1, "result": [result]}]})
    if isinstance(tiers, str):
        with pytest.raises(DataError) as caught:
            read_exchange(file)
        assert f"{file}:1: " in str(caught.value)
        assert tiers in str(caught.value)
    else:
        assert read_exchange(file).votes[0].tiers == tiers


def test_label_studio_gets_tasks_blind_and_a_page_and_gives_everything_back_when_joined(tmp_path: Path) -> None:
    several = tuple(
        Vote(Judgment("item-0", "ann", ranking, dimension, (1, 0), strength=2.0, reason="why", seconds=3.0, guideline="1"), id=dimension)
        for dimension, ranking in (("helpful", ((0,), (1,))), ("honest", ((0, 1),)))
    )
    bad = Vote(Judgment("item-1", "bob", (), "helpful", seconds=1.0), id="x", is_all_bad=True)
    skipped = Vote(Judgment("item-2", "bob", (), "helpful", seconds=1.0), id="y", is_skipped=True)
    exchange = Exchange(sample().items, (*several, bad, skipped), (RaterInfo("ann"), RaterInfo("bob")), sample().guidelines, "soups")
    file = tmp_path / "tasks.json"
    done = write_exchange(exchange, file, "label-studio")
    assert "small-1" not in file.read_text()
    assert "gold" not in file.read_text()
    page = ET.fromstring(done.beside[0].read_text())
    assert [tag.get("name") for tag in page.iter("Pairwise")] == ["dimension_helpful", "dimension_honest"]
    assert {tag.get("name") for tag in page.iter("Text")} == {"left", "right"}
    assert join_items(read_exchange(file), exchange) == exchange
    with pytest.raises(DataError, match="item 'item-0': has other candidates among the items to join with"):
        changed = ExchangeItem("item-0", (), (Candidate("x"), Candidate("y")))
        join_items(read_exchange(file), Exchange((changed, *exchange.items[1:])))


def test_label_studio_pages_rank_lists_show_media_and_quote_names() -> None:
    clip = ExchangeItem("i", (), tuple(Candidate(media=f"{name}.mp4") for name in "abc"), "rank")
    page = label_studio_page(Exchange((clip,), (Vote(Judgment("i", "r", ((0,), (1,), (2,)), '"<x>&', (0, 1, 2))),), (RaterInfo("r"),)))
    root = ET.fromstring(page)
    assert root.find("Ranker").get("name") == 'dimension_"<x>&'  # type: ignore[union-attr]
    assert [bucket.get("name") for bucket in root.iter("Bucket")] == ["1", "2", "3"]
    pictures = ExchangeItem("i", (), (Candidate(media="a.png"), Candidate(media="b.png")))
    assert "<Image " in label_studio_page(Exchange((pictures,)))


def test_label_studio_refuses_addresses_of_mail_as_pseudonyms(tmp_path: Path) -> None:
    file = save(tmp_path / "a.json", {**TASK, "annotations": [{"completed_by": "a@b.c", "result": [PICKED]}]})
    with pytest.raises(DataError, match=r"a.json:1: `annotations\[0\].completed_by` is an email address"):
        read_exchange(file)


RECORD = {"id": "r1", "fields": {"prompt": "soup?", "response-1": "yes", "response-2": "no"}, "metadata": {"from": "x"}}


def test_argilla_rankings_ratings_suggestions_and_drafts(tmp_path: Path) -> None:
    equal = [{"value": "response-1", "rank": 1}, {"value": "response-2", "rank": 1}]
    ranked = [{"value": ["response_2", "response_1"], "user_id": "u1"}, {"value": equal, "user_id": "u2"}]
    responses = {
        "ranking": [*ranked, {"value": ["response_2", "response_1"], "user_id": "u3", "status": "draft"}],
        "honest_response_1": [{"value": 2, "user_id": "u1"}],
        "honest_response_2": [{"value": 5, "user_id": "u1"}],
        "comment": [{"value": "nice", "user_id": "u1"}],
        "response_10_fluency": [{"value": 3, "user_id": "u1"}],
    }
    suggestions = {"ranking": {"value": ["response-1", "response-2"], "agent": "gpt", "score": None}}
    found = read_exchange(save(tmp_path / "a.json", {**RECORD, "responses": responses, "suggestions": suggestions}))
    assert [(vote.judgment.rater, vote.judgment.dimension, vote.tiers) for vote in found.votes] == [
        ("u1", "overall", ((1,), (0,))), ("u2", "overall", ((0, 1),)), ("u1", "honest", ((1,), (0,))), ("gpt", "overall", ((0,), (1,))),
    ]  # fmt: skip
    assert found.kinds()["gpt"] == "model"
    assert [row.kind for row in found.dropped] == ["a response that was not submitted"]
    assert found.items[0].fields == {"from": "x"}


@pytest.mark.parametrize(
    ("responses", "told"),
    [
        ({"ranking": [{"value": ["response-1", "response-3"], "user_id": "u"}]}, "names 'response-3', which is not among the candidates"),
        ({"ranking": [{"value": ["response-1"], "user_id": "u"}]}, "`ranking` leaves out place 1"),
        ({"ranking": [{"value": ["response-1", "response-2"]}]}, "no `user_id`"),
        ({"rating_response_1": [{"value": 3, "user_id": "u"}]}, "rate 1 of 2 candidates on 'overall' by 'u'; rate all of them"),
        ({"rating_response_1": [{"value": "good", "user_id": "u"}]}, "`responses.rating_response_1[0].value` is not a number: 'good'"),
    ],
)
def test_argilla_faults(tmp_path: Path, responses: object, told: str) -> None:
    file = save(tmp_path / "a.json", {**RECORD, "responses": responses})
    with pytest.raises(DataError) as caught:
        read_exchange(file)
    assert str(caught.value).startswith(f"{file}:1: ")
    assert told in str(caught.value)


def test_argilla_raters_are_the_same_uuid_for_the_same_pseudonym(tmp_path: Path) -> None:
    back = read_exchange(file_of(tmp_path, sample(ties=False), "argilla"))
    people = [vote.judgment.rater for vote in back.votes if back.kinds()[vote.judgment.rater] == "person"]
    assert len(set(people)) == 2
    assert all(len(rater) == 36 for rater in people)


def test_votes_with_texts_of_two_turns(tmp_path: Path) -> None:
    def said(first: str, second: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, ("q1", first, "q2", second), strict=True)]

    row = {"question_id": 81, "model_a": "z", "model_b": "a", "winner": "model_a", "judge": ["gpt-4", "pair-v2"]}
    row |= {"conversation_a": said("za", "zb"), "conversation_b": said("aa", "")}
    found = read_exchange(save(tmp_path / "a.jsonl", {**row, "turn": 1}, {**row, "turn": 2}))
    first, second = found.items
    assert (first.conversation, [one.text for one in first.candidates]) == ((Message("user", "q1"),), ["aa", "za"])
    assert [one.text for one in second.candidates] == ["aa\n\nHuman: q2\n\nAssistant: ", "za\n\nHuman: q2\n\nAssistant: zb"]
    assert found.votes[0].tiers == ((1,), (0,))
    assert [(rater.id, rater.kind) for rater in found.raters] == [("gpt-4/pair-v2", "model")]


def test_kinds_that_do_not_exist(tmp_path: Path) -> None:
    file = file_of(tmp_path, sample(), "palate")
    with pytest.raises(ConfigError, match="there is no kind 'trll' to read"):
        read_exchange(file, "trll")
    with pytest.raises(ConfigError, match="there is no kind 'pandalm' to write"):
        write_exchange(sample(), tmp_path / "b", "pandalm")
