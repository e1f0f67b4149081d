"""Heads by group of raters: which votes each learns from, what it predicts on prompts that it has not seen, and the dial between groups."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from palate.cli import main
from palate.core import Completion, ConfigError, DataError, Message, Preference, Prompt
from palate.data.jsonl import write_rows
from palate.models.scalar import load_scalar
from palate.objectives.crowd import CrowdBT
from palate.stages.reward import Reward
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.training.optimizer import AdamW
from palate.training.rater_groups import RaterGroups, by_group
from tests.support.stages import dropped_of, ran, rows_of, summary_of

SALT, RICE = " make salt today", " make rice"
RATERS = {"ann": "north", "bob": "north", "cat": "north", "dan": "north", "eve": "south", "fay": "south", "gil": "south"}
VOTES = {"ann": 1, "bob": 1, "cat": 1, "dan": 0, "eve": 0, "fay": 0.5, "gil": 0, "zoe": 1}
"""For salt: .75 in the north, 1/6 in the south, and one vote of a rater who is in neither."""


def preference(votes: dict[str, float], weight: float = 1.0) -> Preference:
    prompt = Prompt("1", (Message("user", "what"),))
    return Preference(prompt, Completion("one"), Completion("two"), 0.9, weight=weight, dimension="kind", votes=tuple(votes.items()))


def test_a_group_learns_the_share_of_its_own_votes_weighed_by_their_number() -> None:
    found, reasons = by_group([preference(VOTES, 2.0)], RATERS, 0.0)
    assert [(one.dimension, one.probability, one.weight) for one in found] == [("kind@north", 0.75, 8.0), ("kind@south", 0.5 / 3, 6.0)]
    assert found[1].votes == (("eve", 0), ("fay", 0.5), ("gil", 0))
    assert (found[1].chosen.text, found[1].rejected.text) == ("one", "two")  # the south prefers the other one, and the label says so
    assert reasons == ["a vote of a rater without a group"]
    smoothed, _ = by_group([preference({"ann": 1})], RATERS, 1.0)
    assert [one.probability for one in smoothed] == [0.75]
    assert by_group([preference({})], RATERS, 0.0) == ([], ["a pair without votes"])


def text(k: int) -> str:
    return " ".join(WORDS[(k * 7 + j * j + 3 * j) % len(WORDS)] for j in range(4)) + " please" * (k // len(WORDS))


def rows(numbers: range) -> list[dict[str, object]]:
    """Which side stands first has no meaning; votes are for `chosen`."""
    turned = [k % 2 == 1 for k in numbers]
    return [
        {
            "prompt": text(k), "chosen": RICE if turn else SALT, "rejected": SALT if turn else RICE, "raters": list(VOTES),
            "votes": [1 - vote if turn else vote for vote in VOTES.values()], "probability": 0.3,
        }
        for k, turn in zip(numbers, turned, strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("groups")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    write_rows(folder / "pairs.jsonl", rows(range(24)))
    write_rows(folder / "held.jsonl", rows(range(24, 34)))
    lines = [f"{rater},{group}" for rater, group in RATERS.items()]
    (folder / "raters.csv").write_text("\n".join(["rater,group", *lines]) + "\n")
    return folder


def stage_of(home: Path, file: str = "raters.csv", **settings: object) -> Reward:
    return Reward(
        str(home / "base"), str(home / "pairs.jsonl"), held_out=str(home / "held.jsonl"), prompts_per_step=4, epochs=6,
        optimizer=AdamW(lr=1e-2), groups=RaterGroups(file=str(home / file)), **settings,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    return ran(stage_of(home), home / "run", "reward")


def test_each_head_predicts_the_share_of_its_group_on_new_prompts(trained: Path) -> None:
    shares = {"overall@north": 0.75, "overall@south": 0.5 / 3}
    assert set(load_scalar(trained / "model").heads) == set(shares)
    for row in rows_of(trained, "predictions.jsonl"):
        predicted, share = 1 / (1 + math.exp(row["rejected"] - row["chosen"])), shares[row["dimension"]]
        expected = share if row["prompt"] % 2 == 0 else 1 - share
        assert row["observed"] == pytest.approx(expected)
        assert predicted == pytest.approx(expected, abs=0.08)
    held_out = summary_of(trained)["held_out"]
    for name, share in shares.items():
        assert held_out[name]["brier_even"] == pytest.approx((share - 0.5) ** 2)
        assert held_out[name]["brier"] < 0.1 * held_out[name]["brier_even"]
        assert held_out[name]["calibration_error"] < 0.08
    assert next(iter(dropped_of(trained).values())) == {"a vote of a rater without a group": 24}


def test_weights_turn_the_dial_from_one_group_to_the_other(trained: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "samples.jsonl", [{"prompt": text(40), "completions": [{"text": SALT}, {"text": RICE}]}])
    best = []
    for north in (1, 0):
        words = ["--weights", f"overall@north={north}", f"overall@south={1 - north}", "--out", str(tmp_path / f"{north}.jsonl")]
        assert main(["score", str(trained), str(tmp_path / "samples.jsonl"), *words]) == 0
        (row,) = (json.loads(line) for line in (tmp_path / f"{north}.jsonl").read_text().splitlines())
        scores = [one["score"] for one in row["completions"]]
        best.append(scores.index(max(scores)))
    assert best == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["rater,group", "ann,north", "ann,south"], "rater ann is in the groups north and south"),
        (["rater,group", "ann,far north"], "'far north' becomes part of a head's name"),
        (["rater,group", "ann,"], "Give each row a `rater` and a `group`"),
        (["rater,team", "ann,north"], "Give each row a `rater` and a `group`"),
        (["rater,group"], "names no rater"),
        (["rater,group", "ann,north", "kim,west"], "no vote is by a rater of the group west"),
    ],
)
def test_a_table_that_does_not_say_who_is_where_is_refused(home: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    (home / "bad.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        ran(stage_of(home, "bad.csv"), tmp_path / "run", "reward")


def test_settings_that_read_single_judgments_are_refused(home: Path) -> None:
    for settings in ({"objective": CrowdBT()}, {"rater_weights": {"ann": 2.0}}):
        with pytest.raises(ConfigError, match="groups learns the shares"):
            stage_of(home, **settings).check()
    with pytest.raises(ConfigError, match=r"groups.prior"):
        RaterGroups(file="raters.csv", prior=-1.0)
