"""Files of MT-bench and AlpacaEval about judges: what is read, what comes back, and what a leaderboard says."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import DataError, Judgment
from palate.data.exchange import Candidate, Exchange, Vote, read_exchange, write_exchange
from palate.data.formats import read_demonstrations, read_samples
from palate.data.formats.column_types import Alpaca
from tests.support.fuzz import in_both_orders, sample

GAME = {
    "question_id": 81, "model_1": "zeta", "model_2": "alpha", "g1_winner": "model_1", "g2_winner": "tie", "judge": ["gpt-4", "pair-v2"],
    "g1_user_prompt": "u", "g1_judgment": "[[A]]", "g2_user_prompt": "u", "g2_judgment": "[[C]]", "turn": 1, "tstamp": 1.5,
}  # fmt: skip
ROW = {
    "instruction": "soup?", "output_1": "a", "generator_1": "base", "output_2": "bb", "generator_2": "new",
    "annotator": "judge", "preference": 1.9,
}  # fmt: skip


def save(file: Path, *rows: object) -> Path:
    file.write_text(json.dumps(rows) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return file


def said(exchange: Exchange) -> set[tuple[object, ...]]:
    """Judgments by the policies that they prefer, in the order shown."""
    items = {item.id: item for item in exchange.items}
    found = set()
    for vote in exchange.votes:
        names = [candidate.policy for candidate in items[vote.judgment.comparison].candidates]
        order = None if vote.judgment.order is None else tuple(names[k] for k in vote.judgment.order)
        tiers = tuple(tuple(names[k] for k in tier) for tier in vote.tiers)
        found.add((vote.judgment.rater, order, tiers, vote.judgment.reason, vote.judgment.probability))
    return found


def test_both_games_are_judgments_in_their_orders(tmp_path: Path) -> None:
    found = read_exchange(save(tmp_path / "a.jsonl", GAME))
    assert said(found) == {
        ("gpt-4/pair-v2", ("zeta", "alpha"), (("zeta",), ("alpha",)), "[[A]]", None),
        ("gpt-4/pair-v2", ("alpha", "zeta"), (("alpha", "zeta"),), "[[C]]", None),
    }
    assert found.kinds() == {"gpt-4/pair-v2": "model"}
    assert found.items[0].fields == {"question_id": 81, "turn": 1}


@pytest.mark.parametrize("winners", [("model_1", "model_2"), ("model_2", "model_2"), ("tie", "model_1"), ("tie", "tie")])
def test_games_come_back_as_they_were_written(tmp_path: Path, winners: tuple[str, str]) -> None:
    found = read_exchange(save(tmp_path / "a.jsonl", GAME | dict(zip(("g1_winner", "g2_winner"), winners, strict=True))))
    written = write_exchange(found, tmp_path / "b.jsonl", "mt-bench-pairs")
    assert (written.rows, written.left_out) == (1, ())
    assert said(read_exchange(tmp_path / "b.jsonl")) == said(found)
    write_exchange(found, tmp_path / "c.jsonl", "mt-bench")
    row = json.loads((tmp_path / "c.jsonl").read_text().splitlines()[0])
    assert {"question_id", "model_a", "model_b", "winner", "judge", "turn"} <= row.keys()


def test_a_reply_without_a_verdict_is_listed_and_two_prompts_are_two_judges(tmp_path: Path) -> None:
    later = GAME | {"g1_winner": "error", "turn": 2, "judge": ["gpt-4", "pair-v2-multi-turn"]}
    found = read_exchange(save(tmp_path / "a.jsonl", GAME, later))
    assert len(found.votes) == 3
    assert [row.reason for row in found.dropped] == ["g1_winner: a reply that held no verdict"]
    assert set(found.kinds()) == {"gpt-4/pair-v2", "gpt-4/pair-v2-multi-turn"}


@pytest.mark.parametrize(
    ("change", "told"),
    [({"g1_winner": "model_3"}, "`g1_winner` is 'model_3'"), ({"model_2": "zeta"}, "the same as model_1"), ({"judge": None}, "`judge`")],
)
def test_a_faulty_game_is_one_message(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_exchange(save(tmp_path / "a.jsonl", GAME | change))


def test_votes_of_people_and_in_one_order_are_left_out_of_games(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no judge answered a pair in both orders"):
        write_exchange(sample(), tmp_path / "a.jsonl", "mt-bench-pairs")
    both = in_both_orders()
    mixed = replace(both, votes=(*both.votes[1:], *(vote for vote in sample().votes if vote.judgment.rater == "ann")))
    written = write_exchange(mixed, tmp_path / "a.jsonl", "mt-bench-pairs")
    assert written.rows == 2
    assert sorted({row.reason.partition(",")[0] for row in written.left_out}) == [
        "a judge's vote in one order alone",
        "not a model's ranking on `overall` in a known order",
    ]


@pytest.mark.parametrize("winner", ["model_a", "tie", "tie (inconsistent)"])
@pytest.mark.parametrize("judge", ["gpt4_pair", ["gpt-4", "pair-v2"]])
def test_verdicts_that_sum_up_two_say_whether_both_were_the_same(tmp_path: Path, winner: str, judge: object) -> None:
    row = {"question_id": 1, "model_a": "b", "model_b": "a", "winner": winner, "judge": judge, "turn": 1}
    found = read_exchange(save(tmp_path / "a.jsonl", row))
    assert [vote.judgment.is_consistent for vote in found.votes] == [winner != "tie (inconsistent)"]
    for kind in ("mt-bench", "palate"):
        write_exchange(found, tmp_path / f"{kind}.jsonl", kind)
        (back,) = read_exchange(tmp_path / f"{kind}.jsonl").votes
        assert back.tiers == found.votes[0].tiers
        if isinstance(judge, str) or kind == "palate":
            assert back.judgment.is_consistent == found.votes[0].judgment.is_consistent


@pytest.mark.parametrize(
    ("preference", "tiers", "probability"),
    [(1, ((0,), (1,)), None), (2.0, ((1,), (0,)), None), (1.5, ((0, 1),), None), (0, ((0, 1),), None), (1.25, ((0,), (1,)), 0.75)],
)
def test_preferences_of_alpaca_eval_are_rankings_and_probabilities(
    tmp_path: Path, preference: float, tiers: object, probability: float | None
) -> None:
    found = read_exchange(save(tmp_path / "a.json", ROW | {"preference": preference}))
    (vote,) = found.votes
    assert (vote.tiers, vote.judgment.probability, vote.judgment.order) == (tiers, probability, None)
    write_exchange(found, tmp_path / "b.json", "alpaca-eval")
    assert said(read_exchange(tmp_path / "b.json")) == said(found)


def test_annotators_are_people_by_number_and_null_is_no_verdict(tmp_path: Path) -> None:
    rows = [
        ROW,
        ROW | {"annotator": 12, "dataset": "own"},
        ROW | {"preference": None},
        ROW | {"annotator": "ann", "annotator_kind": "person"},
    ]
    found = read_exchange(save(tmp_path / "a.json", *rows))
    assert found.kinds() == {"judge": "model", "12": "person", "ann": "person"}
    assert [row.reason for row in found.dropped] == ["an annotator gave no preference"]
    assert found.items[1].fields == {"dataset": "own"}
    write_exchange(found, tmp_path / "b.jsonl", "alpaca-eval")
    assert read_exchange(tmp_path / "b.jsonl").kinds() == found.kinds()
    for preference in (0.5, 3, "better"):
        with pytest.raises(DataError, match="preference"):
            read_exchange(save(tmp_path / "a.json", ROW | {"preference": preference}))


def test_a_probability_is_turned_with_the_order(tmp_path: Path) -> None:
    item = replace(sample().items[1], candidates=(Candidate("a", policy="base"), Candidate("b", policy="new")))
    judge = replace(sample(), items=(item,), votes=(Vote(Judgment(item.id, "judge-1", ((0,), (1,)), order=(1, 0), probability=0.8)),))
    write_exchange(judge, tmp_path / "a.json", "alpaca-eval")
    (row,) = json.loads((tmp_path / "a.json").read_text())
    assert row["preference"] == pytest.approx(1.8)


def test_a_leaderboard_has_the_columns_of_alpaca_eval(tmp_path: Path) -> None:
    preferences = [1.9, 1.2, 1.5, 2.0]
    rows = [ROW | {"instruction": f"soup {k}?", "preference": preference} for k, preference in enumerate(preferences)]
    rows.append(ROW | {"instruction": "soup 0?", "generator_2": "worse", "output_2": "cccc", "preference": 1.0})
    write_exchange(read_exchange(save(tmp_path / "a.json", *rows)), tmp_path / "l.csv", "alpaca-leaderboard")
    with (tmp_path / "l.csv").open(newline="") as file:
        new, worse = list(csv.DictReader(file))
    assert (new[""], worse[""]) == ("new", "worse")
    shares = [100 * (preference - 1) for preference in preferences]
    assert float(new["win_rate"]) == pytest.approx(statistics.fmean(shares))
    assert float(new["standard_error"]) == pytest.approx(statistics.stdev(shares) / 2, abs=1e-4)
    assert [new[name] for name in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length")] == ["2", "1", "1", "4", "2"]
    assert float(new["discrete_win_rate"]) == pytest.approx(62.5)
    assert (new["length_controlled_winrate"], new["lc_standard_error"], worse["standard_error"]) == ("", "", "")


def test_a_leaderboard_takes_the_mean_of_both_orders_and_needs_a_baseline(tmp_path: Path) -> None:
    both = in_both_orders()
    flipped = [replace(vote, judgment=replace(vote.judgment, ranking=((0,), (1,)))) for vote in both.votes]
    write_exchange(replace(both, votes=tuple(flipped)), tmp_path / "l.csv", "alpaca-leaderboard")
    with (tmp_path / "l.csv").open(newline="") as file:
        (row,) = list(csv.DictReader(file))
    assert (row["win_rate"], row["n_draws"], row["n_total"]) == ("50.0000", "3", "3")
    pairs = [("a", "b"), ("c", "d")]
    rows = [ROW | {"generator_1": one, "generator_2": other} for one, other in pairs]
    with pytest.raises(DataError, match="no policy is in every pair"):
        write_exchange(read_exchange(save(tmp_path / "a.json", *rows)), tmp_path / "m.csv", "alpaca-leaderboard")


def test_outputs_go_out_and_come_back_as_samples_with_their_policies(tmp_path: Path) -> None:
    written = write_exchange(sample(), tmp_path / "o.json", "alpaca-outputs")
    assert written.rows == 6
    table = read_samples(tmp_path / "o.json")
    assert [[completion.policy for completion in completions] for _, completions in table.rows] == [["small-1", "large-2"]] * 3
    assert table.rows[0][0].conversation == sample().items[0].conversation
    assert [completion.text for completion in table.rows[0][1]] == ["Potatoes 0.", "No idea 0."]
    assert {item.candidates[0].policy for item in read_exchange(tmp_path / "o.json").items} == {"small-1", "large-2"}
    assert len(read_demonstrations(tmp_path / "o.json", columns=Alpaca()).rows) == 6


def test_samples_of_a_run_are_items(tmp_path: Path) -> None:
    row = {
        "id": "p1",
        "prompt": [{"role": "user", "content": "soup?"}],
        "completions": [{"text": "a", "tokens": 1, "stop": "eos"}, {"text": "b"}],
    }
    found = read_exchange(save(tmp_path / "samples.jsonl", row, row | {"id": "p2", "completions": [{"text": "a"}]}))
    assert [(item.id, item.task, len(item.candidates)) for item in found.items] == [("p1", "compare", 2), ("p2", "write", 1)]
