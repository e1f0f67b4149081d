"""Standing controls of `evaluate`: answers without content are scored as a policy's would be, and a warning says where one is above it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.core import Completion, Message, Prompt, Sampling
from palate.data.formats import read_prompts
from palate.data.jsonl import write_rows
from palate.evaluation.standing_controls import CONTROLS, control_answers
from palate.models.reward_file import Normalisation
from palate.models.scalar import scalar_from
from palate.rewards.function import FunctionReward
from palate.rewards.learned import LearnedReward
from palate.stages.evaluate import Evaluate
from palate.testing import tiny_policy
from tests.support.stages import ran, rows_of, summary_of


def few_words(prompt: str, completion: str, **fields: Any) -> dict[str, float]:
    """A truth that likes few words: nothing at all is best."""
    return {"brief": -float(len(completion.split())), "known": float(fields.get("worth", 0))}


GOLD = "tests.unit.stages.test_controls:few_words"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_policy(seed=0).save(folder / "policy")
    scorer = scalar_from(tiny_policy(seed=2), ("kind", "honest"), seed=0)
    scorer.normalisation = Normalisation((2.0, 0.5), (1.0, -1.0))
    scorer.save(folder / "reward")
    write_rows(folder / "prompts.jsonl", [{"prompt": f"the cook has {'rice and ' * k}salt", "worth": k} for k in range(6)])
    answers = [{"prompt": row["prompt"], "worth": row["worth"], "completion": ANSWER} for row in rows_of(folder, "prompts.jsonl")]
    write_rows(folder / "given.jsonl", answers)
    return folder


ANSWER = "the rice boils . it is for two ."
REPEATED = " ".join(["the rice boils ."] * 7)
"""At least three times the nine words of the answer."""


@pytest.fixture
def evaluated(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Evaluates the given completions, and returns the run's directory."""

    def run(name: str = "run", **settings: Any) -> Path:
        start = Evaluate(str(home / "prompts.jsonl"), completions=str(home / "given.jsonl"), sampling=Sampling(max_tokens=8))
        return ran(replace(start, **settings), tmp_path / name, "evaluate")

    return run


def test_controls_are_nothing_a_repeated_sentence_and_the_prompt() -> None:
    prompt = Prompt("p", (Message("system", "be kind"), Message("user", "what is for lunch ?")))
    made = control_answers([(prompt, Completion(ANSWER))], 5)
    assert [(control.row["control"], control.answer.text) for control in made] == [
        ("null answer", ""),
        ("length only", REPEATED),
        ("prompt copied", "what is for lunch ?"),
    ]
    assert [control.row["control"] for control in control_answers([(prompt, Completion(" "))], 5)] == ["null answer", "prompt copied"]


def test_each_control_has_the_score_and_the_gold_of_its_own_text(evaluated: Callable[..., Path], home: Path) -> None:
    run = evaluated(reward=str(home / "reward"), gold=GOLD, control_prompts=4)
    rows, own = rows_of(run, "controls.jsonl"), rows_of(run, "completions.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in own[:4] for _ in CONTROLS]
    reward = LearnedReward.load(str(home / "reward"))
    prompts = {prompt.id: prompt for prompt in read_prompts(home / "prompts.jsonl").rows}
    for row in rows:
        ((expected,),) = reward.score([prompts[row["id"]]], [[Completion(row["text"])]])["score"]
        assert row["score"] == pytest.approx(expected, abs=1e-4)
        assert row["content"] in {other["content"] for other in own}
    worth = [float(k) for k in range(4)]
    assert [row["gold"] for row in rows if row["control"] == "null answer"] == [w / 2 for w in worth]
    assert [row["gold"] for row in rows if row["control"] == "length only"] == [(w - 28) / 2 for w in worth]
    found = summary_of(run)["controls"]
    assert set(found) == set(CONTROLS)
    assert found["null answer"]["gold"]["over_model"] == len(ANSWER.split()) / 2
    assert found["prompt copied"]["score"]["n"] == 4
    gaps = [row["score"] - other["score"] for row, other in zip(rows[2::3], own[:4], strict=True)]
    assert found["prompt copied"]["score"]["over_model"] == pytest.approx(sum(gaps) / 4)


def test_a_control_above_the_model_is_a_warning(evaluated: Callable[..., Path], home: Path) -> None:
    rows = rows_of(home, "given.jsonl")
    write_rows(home / "varied.jsonl", [{**row, "completion": "salt " * (3 + k) + "."} for k, row in enumerate(rows)])
    run = evaluated(completions=str(home / "varied.jsonl"), gold=GOLD)
    ((guard, text),) = [(row["guard"], row["text"]) for row in rows_of(run, "warnings.jsonl")]
    assert guard == "controls"
    assert "the gold puts the control 'null answer' above the model by 3.25" in text
    assert "6 prompts" in text
    assert "length only" not in text, "it is below the model"


def test_there_are_no_controls_where_none_are_wanted_or_nothing_scores_them(evaluated: Callable[..., Path], home: Path) -> None:
    parts = {"words": FunctionReward(function="tests.unit.stages.online.rewarding:letters")}
    for name, settings in {"off": {"gold": GOLD, "control_prompts": 0}, "parts": {"rewards": parts}, "nothing": {}}.items():
        run = evaluated(name, **settings)
        assert not (run / "controls.jsonl").exists()
        assert "controls" not in summary_of(run)
