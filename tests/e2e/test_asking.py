"""The loop through people in the kitchen: judge some pairs, train a reward model, and be asked first what it is unsure about."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from palate.cli import main
from palate.data.jsonl import read_rows, write_rows
from palate.kitchen import judge
from palate.kitchen.guests import draw_request, write_request
from palate.ratings import Answer, Ratings, open_ratings
from palate.testing import tiny_policy, word_tokenizer

ANSWERS = ("it serves 2 .", "it serves 4 . add some mint .", "everyone will love it .", "the rice boils for 10 minutes . it serves 6 .")


@pytest.mark.slow
def test_what_the_reward_model_is_unsure_about_is_asked_first(tmp_path: Path) -> None:
    rng, runs = random.Random(0), tmp_path / "runs"
    prompts = [write_request(draw_request(rng, "train")) for _ in range(120)]
    shown = [[{"text": text, "stop": "eos", "tokens": 9} for text in rng.sample(ANSWERS, 2)] for _ in prompts]
    asked = [{"id": str(k), "prompt": text, "completions": own} for k, (text, own) in enumerate(zip(prompts, shown, strict=True))]
    (tmp_path / "given").mkdir()
    write_rows(tmp_path / "given" / "samples.jsonl", asked)
    words = sorted({word for text in (*prompts, *ANSWERS) for word in text.split()})
    tiny_policy("qwen3", word_tokenizer(words)).save(tmp_path / "policy")
    collect = ["collect", "--samples", str(tmp_path / "given"), "--from", "people", "--from.wait", "false", "--from.queue", "uncertain",
               "--held_out", "0", "--runs", str(runs), "--out", str(runs / "judged")]  # fmt: skip
    assert main(collect) == 3  # nobody has judged yet
    ratings = open_ratings(str(runs / "ratings.db"))
    judged_by(ratings, "ann", 12)
    assert main(collect) == 0
    reward = ["reward", "--model", str(tmp_path / "policy"), "--preferences", str(runs / "judged"), "--out", str(runs / "reward")]
    assert main([*reward, "--held_out_share", "0.25", "--runs", str(runs)]) == 0
    spreads = {str(row["item"]): float(row["spread"]) for _, row in read_rows(runs / "reward" / "scores.jsonl")}  # type: ignore[arg-type]
    assert len(spreads) == 120 - 12
    assert json.loads((runs / "reward" / "summary.json").read_text())["asked_next"]["items"] == 108
    items = judged_by(ratings, "bob", 40)
    high = np.median(list(spreads.values()))
    chances = [ratings.item(item).selection_probability or 0.0 for item in items]
    ratings.close()
    assert sum(spreads[item] >= high for item in items) > 40 * 0.5 + 3, "of the half with the larger spreads"
    assert 3 <= sum(chance < 0.3 for chance in chances) <= 22, "a third or so comes at random"


def judged_by(ratings: Ratings, name: str, count: int) -> list[str]:
    """The items that somebody who knows the kitchen is asked, and answers."""
    (project,) = ratings.projects()
    account = ratings.add_account(name, "rater", time.time())
    ratings.join(project.id, account.id, time.time())
    found, rng = [], random.Random(name)
    for k in range(count):
        held = ratings.claim(project.id, account.id, time.time(), rng)
        assert held is not None
        item = ratings.item(held.item)
        worth = [sum(judge(item.conversation[-1].text, item.candidates[place].text).values()) for place in held.order]
        best, other = sorted((0, 1), key=lambda place: -worth[place])
        ratings.submit(held.id, account.id, Answer(((best,), (other,)), seconds=2.0), f"{name} {k}", time.time())
        found.append(held.item)
    return found
