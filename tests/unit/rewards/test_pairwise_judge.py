"""A judge that compares the completions of a prompt: win rates, strengths, both orders, abstentions, and the answers of the start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from palate.core import Completion, ConfigError, DataError, Message, Prompt
from palate.data.jsonl import write_rows
from palate.judges.function_judge import FunctionJudge
from palate.judges.local_judge import LocalJudge
from palate.judges.verdicts import OptionProbabilities
from palate.models.causal import CausalPolicy, TokenOutputs
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.composition import Composition
from palate.rewards.pairwise_judge import PairwiseReward
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.testing import byte_tokenizer, tiny_policy
from palate.text.pack import PackedBatch
from tests.support.judged_world import right

WORLD = "tests.support.judged_world"
HERE = "tests.unit.rewards.test_pairwise_judge"


def first(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that prefers what stands first, whatever it says."""
    del messages
    return [math.log(0.9), math.log(0.1)]


asked: list[str] = []


def counted(messages: Sequence[Mapping[str, str]]) -> list[float]:
    """A judge that is always right, and remembers what it was asked."""
    asked.append(messages[-1]["content"])
    return right(messages)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def batch(*groups: Sequence[int]) -> ScoringBatch:
    """Completions by their worth, a group per prompt."""
    prompts = tuple(Prompt(str(k), (Message("user", f"question {k}"),)) for k in range(len(groups)))
    return ScoringBatch(prompts, tuple(tuple(Completion(f"answer {worth}") for worth in group) for group in groups))


Score = Callable[..., PartScores]


@pytest.fixture
def score(tmp_path: Path) -> Iterator[Score]:
    run = open_run_at(tmp_path / "run", RunPlan("online", "online"))
    opened = []

    def scores(given: ScoringBatch, function: str = f"{WORLD}:right", **settings: object) -> PartScores:
        part = PairwiseReward(model=FunctionJudge(function=function), instructions="helpful", **settings)  # type: ignore[arg-type]
        opened.append(part.open(ScoringContext("wins", None, None, run)))  # type: ignore[arg-type]
        return opened[-1].score(given)

    yield scores
    for scorer in opened:
        scorer.close()


def test_a_score_is_the_mean_probability_of_beating_the_others_of_its_prompt(score: Score) -> None:
    asked.clear()
    found = score(batch([3, 7, 7, 1], [2, 5]), f"{HERE}:counted")
    p = {gap: sigma(3.0 * gap) for gap in (-6, -4, -3, -2, 2, 3, 4, 6)}
    expected = [(p[-4] + p[-4] + p[2]) / 3, (p[4] + 0.5 + p[6]) / 3, (p[4] + 0.5 + p[6]) / 3, (p[-2] + p[-6] + p[-6]) / 3, p[-3], p[3]]
    assert found.heads[""].tolist() == pytest.approx(expected, abs=1e-6)
    assert found.heads[""][:4].mean() == pytest.approx(0.5)  # flat by construction
    assert found.heads[""][4:].mean() == pytest.approx(0.5)
    decided = [2 * max(one, 1 - one) - 1 for one in (p[4], p[2], p[6])]
    assert found.details["decided"][0] == pytest.approx((2 * decided[0] + decided[1]) / 3, abs=1e-6)
    assert found.details["decided"][1] == pytest.approx((decided[0] + decided[2]) / 3, abs=1e-6)  # an equal text is a coin toss
    assert set(found.details) == {"decided", "abstained"}
    assert len(asked) == len(set(asked)) == 2 * (3 + 1)  # both orders of each two texts that differ


def test_a_taste_for_a_place_decides_nothing(score: Score) -> None:
    found = score(batch([3, 7, 1]), f"{HERE}:first")
    assert found.heads[""].tolist() == pytest.approx([0.5] * 3)
    assert found.details["decided"].tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_pairs_without_a_verdict_are_left_out_and_never_a_tie(score: Score) -> None:
    found = score(batch([1, 8, 2], [1, 8], [4]), f"{WORLD}:shy")
    one, eight, two = found.heads[""][:3].tolist()
    assert (one, eight, two) == pytest.approx((sigma(-3.0), sigma(18.0), (sigma(3.0) + sigma(-18.0)) / 2), abs=1e-6)
    assert found.details["abstained"].tolist() == [0.5, 0.5, 0.0, 1.0, 1.0, 1.0]
    assert found.heads[""][3:].isnan().all()
    assert "gave no verdict on any of its pairs" in found.reasons[3]
    assert found.reasons[5] == "there is no other completion of its prompt to compare it with"


def test_strengths_are_those_of_the_most_likely_scores(score: Score) -> None:
    worths = [3, 4, 1, 4, 2]
    found = score(batch(worths), score="bradley_terry", pull=0.25).heads[""]
    strengths = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    wins = torch.tensor([[sigma(3.0 * (a - b)) if a != b else 0.5 for b in worths] for a in worths], dtype=torch.float64)
    wins.fill_diagonal_(0)
    search = torch.optim.LBFGS([strengths], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        search.zero_grad()
        gaps = strengths[:, None] - strengths
        each = torch.nn.functional.logsigmoid
        value = -(wins * each(gaps)).sum() - 0.25 * (each(strengths) + each(-strengths)).sum()
        value.backward()
        return value

    search.step(loss)
    expected = (strengths - strengths.mean()).detach()
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert found.argmax() in (1, 3)


def test_wins_over_the_start_are_recorded_beside_the_score(score: Score, tmp_path: Path) -> None:
    given = batch([3, 7], [2, 5])
    write_rows(tmp_path / "samples.jsonl", [{"prompt": [{"role": "user", "content": "question 1"}], "completions": [{"text": "answer 4"}]}])
    start = str(tmp_path / "samples.jsonl")
    found, without = score(given, start=start), score(given)
    assert found.heads[""].tolist() == without.heads[""].tolist()
    assert found.details["against_start"][:2].isnan().all()  # the start has not answered this prompt
    assert found.details["against_start"][2:].tolist() == pytest.approx([sigma(-6.0), sigma(3.0)], abs=1e-6)
    part = PairwiseReward(model=FunctionJudge(function=f"{WORLD}:right"), instructions="helpful", start=start)
    part.check_prompts(given.prompts, "rewards.wins")
    with pytest.raises(DataError, match=r"rewards.wins.start: .* has no answer to any of the prompts"):
        part.check_prompts(given.prompts[:1], "rewards.wins")


def test_only_instructions_for_pairs_fit_and_a_run_is_needed(score: Score) -> None:
    part = PairwiseReward(model=FunctionJudge(function=f"{WORLD}:right"), instructions="helpful-pointwise")
    with pytest.raises(ConfigError, match="use pairwise ones"):
        part.open(ScoringContext("wins", None, None, None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ask about a principle"):
        PairwiseReward(model=part.model, instructions="principle").open(ScoringContext("wins", None, None, None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is none"):
        PairwiseReward(model=part.model, instructions="helpful").open(ScoringContext("wins", None, None, None))  # type: ignore[arg-type]


def test_its_figures_carry_the_mark_of_a_judge_without_a_card(tmp_path: Path) -> None:
    run = open_run_at(tmp_path / "run", RunPlan("online", "online"))
    part = PairwiseReward(model=FunctionJudge(function=f"{WORLD}:right"), instructions="helpful")
    rewards = Composition.load({"wins": part}, None, run=run)
    given = batch([3, 7], [2, 5])
    scores = rewards.score(given.prompts, given.groups)
    rewards.close()
    assert set(scores.table) == {"wins_uncalibrated", "wins_uncalibrated/decided", "wins_uncalibrated/abstained"}
    assert scores.rewards.tolist() == pytest.approx([sigma(-12.0), sigma(12.0), sigma(-9.0), sigma(9.0)], abs=1e-6)


INSTRUCTIONS = """id: short
scale: pairwise
user: "{prompt}|{first}|{second}"
answer: "A or B"
reason: "Reason, then write A or B."
verdict: "A or B?"
options: [A, B]
"""


def test_a_local_judge_reads_all_pairs_in_packed_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict on a pair does not depend on the pairs beside it, and few passes read them all."""
    policy = tiny_policy("qwen3", byte_tokenizer())
    policy.save(tmp_path / "judge")
    (tmp_path / "short.yaml").write_text(INSTRUCTIONS)
    judge, instructions = LocalJudge(model=str(tmp_path / "judge")), str(tmp_path / "short.yaml")
    part = PairwiseReward(model=judge, instructions=instructions, verdict=OptionProbabilities(min_mass=0.0))
    scorer = part.open(ScoringContext("wins", None, None, open_run_at(tmp_path / "run", RunPlan("online", "online"))))  # type: ignore[arg-type]
    passes: list[int] = []
    logps = CausalPolicy.logps

    def noted(policy: CausalPolicy, trees: PackedBatch) -> TokenOutputs:
        passes.append(len(trees.trees))
        return logps(policy, trees)

    monkeypatch.setattr(CausalPolicy, "logps", noted)
    together = scorer.score(batch([3, 7, 1], [2, 5]))
    assert sum(passes) == 2 * (3 + 1)
    assert len(passes) == 1
    second = ScoringBatch(batch([], [2, 5]).prompts[1:], batch([2, 5]).groups)
    alone = torch.cat([scorer.score(one).heads[""] for one in (batch([3, 7, 1]), second)])
    scorer.close()
    assert together.heads[""].std() > 1e-4
    torch.testing.assert_close(together.heads[""], alone, rtol=0, atol=1e-5)
