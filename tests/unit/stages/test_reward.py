"""What stage `reward` learns from, is tested on, and says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palate.core import Completion, DataError, Message, Preference, Prompt, derive_seed
from palate.data.formats import read_preferences, read_samples
from palate.data.jsonl import write_rows
from palate.data.prompt_region import PromptRegion
from palate.data.splits import split_held_out
from palate.evaluation.reward_model import assess, predictions
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.models.reward_file import Normalisation
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward, ReportCard
from palate.stages.reward import Reward
from palate.testing import tiny_policy, word_tokenizer
from palate.testing.tokenizers import WORDS
from palate.text.pack import pack
from palate.training.comparisons import judged_prompts
from palate.training.keep import Best
from palate.training.optimizer import AdamW
from palate.training.reward_task import check_dimensions
from tests.support.stages import column_of, dropped_of, ran, rows_of, summary_of

SEED = 1


def row(
    chosen: float, rejected: float, observed: float, lengths: tuple[int, int] = (3, 3), dimension: str = "overall", prompt: int = 0
) -> dict[str, float | str]:
    return {"dimension": dimension, "prompt": prompt, "chosen": chosen, "rejected": rejected, "observed": observed,
            "chosen_tokens": lengths[0], "rejected_tokens": lengths[1]}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "accuracy"),
    [
        ([row(1, 0, 1.0)], 1.0),
        ([row(0, 1, 1.0)], 0.0),
        ([row(2, 2, 1.0)], 0.5),  # equal scores
        ([row(1, 0, 0.75)], 0.75),  # a quarter of the votes disagrees
        ([row(0, 1, 0.75)], 0.25),
        ([row(1, 0, 0.5), row(0, 1, 0.5)], 0.5),  # tied votes
        ([row(1, 0, 1.0), row(0, 1, 1.0), row(2, 2, 1.0), row(1, 0, 0.75)], 0.5625),
    ],
)
def test_accuracy_is_of_single_votes_and_equal_scores_count_one_half(rows: list[dict[str, float | str]], accuracy: float) -> None:
    found = assess(rows)["overall"]
    assert (found["accuracy"], found["n"]) == (pytest.approx(accuracy), len(rows))


def test_floors_are_those_of_length_and_dimensions_are_assessed_apart() -> None:
    rows = [row(1, 0, 1.0, (2, 5), "kind"), row(1, 0, 1.0, (2, 5), "kind"), row(0, 1, 1.0, (4, 4), "honest")]
    found = assess(rows)
    assert (found["overall"]["longer_wins"], found["overall"]["shorter_wins"]) == (pytest.approx(0.5 / 3), pytest.approx(2.5 / 3))
    assert {name: one["accuracy"] for name, one in found.items()} == {"kind": 1.0, "honest": 0.0, "overall": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("dimensions", "told"),
    [
        (("kind", "Kind"), "Kind has two spellings. Give all its judgments one of them"),
        (("broken",), "would pass as a classifier of rules"),
    ],
)
def test_dimensions_that_would_be_taken_for_something_else_are_refused(dimensions: tuple[str, ...], told: str) -> None:
    with pytest.raises(DataError, match=told):
        check_dimensions(None, dimensions, [], "judged.jsonl")  # type: ignore[arg-type]


def preference(question: str, chosen: str, rejected: str, dimension: str, votes: tuple[float, ...] = ()) -> Preference:
    prompt = Prompt(question, (Message("text", question),))
    return Preference(prompt, Completion(chosen), Completion(rejected), 0.9, dimension=dimension, votes=tuple(("", vote) for vote in votes))


def test_predictions_are_raw_scores_of_the_right_branches_and_heads_beside_the_votes() -> None:
    model = scalar_from(tiny_policy("qwen3", word_tokenizer()), ("kind", "honest"), seed=0)
    given = [
        preference("the cook", " has rice", " has beans and salt", "honest", votes=(1, 0, 0, 0)),
        preference("the cook", " today", " has rice", "kind"),
        preference("the guests", " make salt", " no", "kind"),
    ]
    judged, _ = judged_prompts(given, model.tokenizer, 100)
    with torch.inference_mode():
        raw = [model.scores(pack([one.tree])) for one in judged]
    model.normalisation = Normalisation((2.0, 0.5), (3.0, -1.0))
    found = predictions(model, judged, model.heads)
    expected = [
        (raw[0][0, 1], raw[0][1, 1], 0.25, 5, 9),  # words, the spaces before them, and the end
        (raw[0][2, 0], raw[0][0, 0], 0.9, 3, 5),
        (raw[1][0, 0], raw[1][1, 0], 0.9, 5, 3),
    ]
    names = ("chosen", "rejected", "observed", "chosen_tokens", "rejected_tokens")
    assert [one["dimension"] for one in found] == ["honest", "kind", "kind"]
    for one, values in zip(found, expected, strict=True):
        assert [one[name] for name in names] == pytest.approx([float(value) for value in values], abs=1e-4)


def text(k: int) -> str:
    return " ".join(WORDS[(k * 7 + j * j + 3 * j) % len(WORDS)] for j in range(4)) + " please" * (k // len(WORDS))


def pairs(numbers: range, *, turned: bool = False) -> list[dict[str, object]]:
    """Salt is liked; turned, it is not."""
    sides = (" make salt today", " make rice")
    return [{"prompt": text(k), "chosen": sides[turned], "rejected": sides[not turned]} for k in numbers]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, 24 pairs to learn from, 10 to test on that contradict them, and samples to normalise on."""
    folder = tmp_path_factory.mktemp("home")
    tiny_policy("qwen3", word_tokenizer()).save(folder / "base")
    write_rows(folder / "pairs.jsonl", pairs(range(24)))
    write_rows(folder / "held.jsonl", pairs(range(20, 30), turned=True))
    shown = [{"text": words, "stop": "eos", "tokens": 2} for words in ("beans and beans", "so what", "for two guests today")]
    write_rows(folder / "samples.jsonl", [{"id": str(k), "prompt": text(k), "completions": shown} for k in range(40, 46)])
    return folder


Train = Callable[..., Path]


@pytest.fixture
def train(home: Path, tmp_path: Path) -> Train:
    """Runs the stage and gives its directory."""
    start = Reward(
        str(home / "base"), str(home / "pairs.jsonl"), held_out=str(home / "held.jsonl"), prompts_per_step=8, epochs=3,
        optimizer=AdamW(lr=1e-2),
    )  # fmt: skip

    def run(name: str = "run", seed: int = SEED, **settings: object) -> Path:
        return ran(replace(start, **settings), tmp_path / name, "reward", seed)  # type: ignore[arg-type]

    return run


def card_of(directory: Path) -> ReportCard:
    card = ReportCard.read_from(str(directory / "model"))
    assert card is not None
    return card


def test_prompts_that_are_held_out_are_not_learned_and_the_card_is_of_them_alone(train: Train, home: Path) -> None:
    run = train()
    summary = summary_of(run)
    assert (summary["prompts"], summary["preferences"]) == (20, 20)
    assert dropped_of(run)[str(home / "pairs.jsonl")] == {"its prompt is held out": 4}
    assert column_of(run, "reward/accuracy/mean")[-1] == 1.0
    card, tested = card_of(run), summary["held_out"]["overall"]
    assert (card.accuracy, card.judgments) == (tested["accuracy"], tested["n"]) == (0.0, 10)
    assert card.length_rule == 1.0, "the shorter side wins every held-out pair"
    assert card.over_length_low == tested["over_length_low"] == tested["over_length"] == -1.0
    assert [one["prompt"] for one in rows_of(run, "predictions.jsonl")] == list(range(10))
    assert card.spread == summary["spread"]
    assert len(rows_of(run, "predictions.jsonl")) == 10


def scores(model: LearnedReward, path: Path) -> torch.Tensor:
    samples = read_samples(path).rows
    found = model.score([prompt for prompt, _ in samples], [group for _, group in samples])["score"]
    return torch.tensor([score for group in found for score in group], dtype=torch.float64)


def test_scores_have_mean_0_and_deviation_1_on_the_samples_that_are_named(train: Train, home: Path) -> None:
    run = train(reference_samples=str(home / "samples.jsonl"))
    model = load_scalar(run / "model")
    found = scores(LearnedReward(model), home / "samples.jsonl")
    assert (float(found.mean()), float(found.std(unbiased=False))) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    assert model.normalisation.gain[0] == pytest.approx(1 / card_of(run).spread)


def test_without_samples_scores_are_normalised_on_what_was_learned_from(train: Train, home: Path) -> None:
    model = load_scalar(train() / "model")
    learned = read_preferences(home / "pairs.jsonl").rows[:20]
    judged, _ = judged_prompts(learned, model.tokenizer, 100)
    found = LearnedReward(model).score_trees([one.tree for one in judged])
    assert (float(found.mean()), float(found.std(unbiased=False))) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))


def test_a_control_tosses_coins_for_what_is_learned_and_not_for_the_test(train: Train) -> None:
    true, control, again = train("true"), train("control", control="shuffled"), train("again", 2, control="shuffled", epochs=0.3)
    first = [column_of(run, "reward/loss/mean")[0] for run in (true, control, again)]
    assert len(set(first)) == 3
    assert sum(column_of(true, "reward/loss/mean")) < sum(column_of(control, "reward/loss/mean"))
    lengths = [[(one["chosen_tokens"], one["observed"]) for one in rows_of(run, "predictions.jsonl")] for run in (true, control)]
    assert lengths[0] == lengths[1]


def test_what_chooses_the_weights_is_neither_learned_nor_the_test(train: Train, home: Path, tmp_path: Path) -> None:
    """The prompts that choose contradict those that teach: their loss rises while the other falls."""
    given = read_preferences(home / "pairs.jsonl").rows[:20]
    teaching, choosing = split_held_out(given, 0.25, derive_seed(SEED, "keep"))
    turned = {one.prompt.text for one in choosing}
    path = tmp_path / "some_turned.jsonl"
    write_rows(path, [pairs(range(k, k + 1), turned=text(k) in turned)[0] for k in range(20)])
    run = train(preferences=str(path), keep=Best(every=1), held_out_share=0.25)
    losses, learned = column_of(run, "reward/held_out_loss/mean"), column_of(run, "reward/loss/mean")
    assert summary_of(run)["prompts"] == len(teaching) == 15
    assert learned[-1] < learned[0]
    assert losses[-1] > losses[0]
    assert summary_of(run)["held_out"]["overall"]["n"] == 10


def test_a_share_of_the_prompts_is_held_out_drawn_from_the_seed(train: Train, home: Path, tmp_path: Path) -> None:
    """What is held out contradicts the rest: then the model is right on no pair of it."""
    _, testing = split_held_out(read_preferences(home / "pairs.jsonl").rows, 0.25, derive_seed(SEED, "held_out"))
    turned = {one.prompt.text for one in testing}
    path = tmp_path / "some_turned.jsonl"
    write_rows(path, [pairs(range(k, k + 1), turned=text(k) in turned)[0] for k in range(24)])
    run = train(preferences=str(path), held_out=None, held_out_share=0.25)
    assert summary_of(run)["prompts"] == 18
    assert (summary_of(run)["held_out"]["overall"]["n"], card_of(run).accuracy) == (6, 0.0)


def test_heads_are_drawn_from_the_seed(train: Train) -> None:
    still = AdamW(lr=1e-9)
    heads = [load_scalar(train(f"run{seed}", seed, optimizer=still, epochs=0.3) / "model").state_dict()["score.weight"] for seed in (1, 2)]
    assert float((heads[0] - heads[1]).abs().max()) > 1e-3


def test_the_language_model_stays_as_it_was(train: Train, home: Path) -> None:
    before = {name: value.clone() for name, value in load_policy(home / "base").state_dict().items()}
    run = train(epochs=1)
    assert all(value.equal(before[name]) for name, value in load_policy(home / "base").state_dict().items())
    assert json.loads((run / "model" / "reward.json").read_text())["gain"] != [1.0]


def test_scores_that_read_the_likelihood_learn_a_coefficient_and_are_tested_saved_and_scored_with_it(train: Train, home: Path) -> None:
    plain, run = train("plain"), train("reading", score="with_likelihood", reference_samples=str(home / "samples.jsonl"))
    summary = summary_of(run)
    assert "likelihood" not in summary_of(plain)
    assert abs(summary["likelihood"]["overall"]) > 1e-3
    model = load_scalar(run / "model")
    assert model.likelihood is not None
    assert model.likelihood.figures(model.heads) == summary["likelihood"]
    found = scores(LearnedReward(model), home / "samples.jsonl")
    assert (float(found.mean()), float(found.std(unbiased=False))) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    held_out, _ = judged_prompts(read_preferences(home / "held.jsonl").rows, model.tokenizer, 100)
    assert predictions(model, held_out, model.heads) == [
        {name: pytest.approx(value, abs=1e-4) for name, value in row.items()} | {"dimension": "overall"}
        for row in rows_of(run, "predictions.jsonl")
    ]


def test_an_adapter_learns_the_coefficient_too(train: Train) -> None:
    run = train(score="with_likelihood", adapters=LoRA(rank=2))
    model, beside = load_scalar(run / "model"), load_scalar(run / "adapter")
    assert model.likelihood is not None
    assert beside.likelihood is not None
    assert float(model.likelihood.raw.detach().abs().max()) > 1e-3
    assert torch.equal(model.likelihood.coefficients, beside.likelihood.coefficients)
    assert model.normalisation == beside.normalisation


def test_a_region_that_is_left_out_is_not_learned_and_is_still_tested(train: Train, home: Path) -> None:
    def having(word: str, numbers: range) -> int:
        return sum(word in text(k).split() for k in numbers)

    word = next(word for word in WORDS if 0 < having(word, range(20)) < 20 and having(word, range(20, 30)))
    run = train(leave_out=PromptRegion(rf"\b{word}\b"))
    inside = having(word, range(20))
    assert summary_of(run)["preferences"] == 20 - inside
    reasons = {"its prompt is held out": 4, "its prompt is in the region that is left out": inside}
    assert dropped_of(run)[str(home / "pairs.jsonl")] == reasons
    assert len(rows_of(run, "predictions.jsonl")) == 10, "those of the region that are held out are tested"
