"""The average of models: the arithmetic, what is kept, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palate.core import ConfigError, ModelError
from palate.data.formats import read_samples
from palate.data.jsonl import write_rows
from palate.models.load import Architecture, load_policy, new_policy
from palate.models.reward_file import Normalisation
from palate.models.scalar import load_scalar, scalar_from
from palate.rewards.learned import LearnedReward, ReportCard
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.average import Average
from palate.testing.tokenizers import word_tokenizer

SIZE = Architecture(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=32)


def written(folder: Path, seed: int, size: Architecture = SIZE, words: Sequence[str] = ("a", "b", "c")) -> str:
    new_policy(word_tokenizer(words), size, seed).save(folder)
    return str(folder)


def averaged(tmp_path: Path, stage: Average) -> Path:
    stage.check()
    run = open_run(tmp_path, RunPlan("average", "average", {"models": list(stage.models)}))
    with run.active():
        stage.run(run)
    return run.directory


def test_every_weight_is_the_weighted_mean(tmp_path: Path) -> None:
    paths = tuple(written(tmp_path / f"m{k}", k) for k in range(3))
    run = averaged(tmp_path, Average(paths, (1.0, 2.0, 5.0)))
    first, second, third, mean = (load_policy(path).state_dict() for path in (*paths, str(run / "model")))
    for name, value in mean.items():
        torch.testing.assert_close(value, (first[name] + 2 * second[name] + 5 * third[name]) / 8)
    assert not torch.equal(first["model.embed_tokens.weight"], second["model.embed_tokens.weight"])
    summary = json.loads((run / "summary.json").read_text())
    assert summary["weights"] == [0.125, 0.25, 0.625]
    apart = [sum(float((one[name] - mean[name]).square().sum()) for name in mean) ** 0.5 for one in (first, second, third)]
    assert summary["distance"] == pytest.approx(apart, rel=1e-4)
    assert apart[0] > apart[2] > 0


def test_without_weights_all_count_alike_and_an_average_of_one_model_with_itself_is_that_model(tmp_path: Path) -> None:
    path = written(tmp_path / "m", 0)
    run = averaged(tmp_path, Average((path, path)))
    before, after = load_policy(path).state_dict(), load_policy(run / "model").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("models", "weights", "told"), [((), None, "got none"), (("a",), None, "at least 2"), (("a", "b"), (1.0,), "2 models, 1 weights")]
)
def test_settings_that_make_no_sense_are_refused(
    models: tuple[str, ...], weights: tuple[float, ...] | None, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        averaged(tmp_path, Average(models, weights))


def rewarding(folder: Path, seed: int, heads: Sequence[str] = ("taste", "kind")) -> str:
    """A reward model with a scale of its own."""
    model = scalar_from(new_policy(word_tokenizer(), SIZE, seed), heads, seed)
    model.normalisation = Normalisation((2.0,) * len(heads), (seed + 1.0,) * len(heads))
    model.save(folder)
    return str(folder)


@pytest.fixture
def samples(tmp_path: Path) -> str:
    texts = ("rice and beans", "no", "the cook has two guests", "salt today")
    shown = [{"text": text, "stop": "eos", "tokens": 2} for text in texts]
    write_rows(tmp_path / "samples.jsonl", [{"id": str(k), "prompt": f"make rice {k}", "completions": shown} for k in range(5)])
    return str(tmp_path / "samples.jsonl")


def test_reward_models_are_averaged_weight_by_weight_and_get_their_own_scale(tmp_path: Path, samples: str) -> None:
    paths = tuple(rewarding(tmp_path / f"m{k}", k) for k in range(3))
    pair = {"prompt": "make rice", "chosen": " rice today", "rejected": " no", "dimension": "kind"}
    write_rows(tmp_path / "held_out.jsonl", [{**pair, "prompt": f"make rice {k}"} for k in range(6)])
    run = averaged(tmp_path, Average(paths, reference_samples=samples, held_out=str(tmp_path / "held_out.jsonl")))
    mean, states = load_scalar(run / "model"), [load_scalar(path).state_dict() for path in paths]
    for name, value in mean.state_dict().items():
        torch.testing.assert_close(value, sum(state[name] for state in states) / 3)
    assert mean.heads == ("taste", "kind")
    prompts, groups = zip(*read_samples(samples).rows, strict=True)
    found, _ = LearnedReward(mean).table(prompts, groups)
    assert float(found.sum(1).mean()) == pytest.approx(0, abs=1e-4)
    assert float(found.sum(1).std(correction=0)) == pytest.approx(1, abs=1e-4)
    summary, card = json.loads((run / "summary.json").read_text()), ReportCard.read_from(str(run / "model"))
    assert summary["spread"] == pytest.approx(1 / mean.normalisation.gain[0], rel=1e-5)
    assert card is not None
    assert (card.accuracy, card.judgments, card.spread) == (summary["held_out"]["overall"]["accuracy"], 6, summary["spread"])


def test_reward_models_need_samples_and_go_with_their_like(tmp_path: Path, samples: str) -> None:
    one, two = rewarding(tmp_path / "one", 0), rewarding(tmp_path / "two", 1)
    other, policy = rewarding(tmp_path / "other", 2, ("taste", "honest")), written(tmp_path / "policy", 0)
    with pytest.raises(ConfigError, match="name completions of the policy in reference_samples"):
        averaged(tmp_path / "a", Average((one, two)))
    with pytest.raises(ModelError, match=r"other has the heads taste, honest, and .*one has taste, kind"):
        averaged(tmp_path / "b", Average((one, other), reference_samples=samples))
    with pytest.raises(ModelError, match=r"one is a reward model, and .*policy is a policy"):
        averaged(tmp_path / "c", Average((one, policy), reference_samples=samples))
    with pytest.raises(ConfigError, match="reference_samples and held_out are for reward models"):
        averaged(tmp_path / "d", Average((policy, policy), reference_samples=samples))


def test_a_run_of_an_ensemble_means_its_members(tmp_path: Path, samples: str) -> None:
    paths = [rewarding(tmp_path / "run" / "members" / str(k + 1) / "model", k) for k in range(2)]
    run = averaged(tmp_path, Average((str(tmp_path / "run"),), reference_samples=samples))
    first, second, mean = (load_scalar(path).state_dict()["score.weight"] for path in (*paths, run / "model"))
    torch.testing.assert_close(mean, (first + second) / 2)


def test_models_of_other_shapes_or_words_are_refused_by_name(tmp_path: Path) -> None:
    one = written(tmp_path / "one", 0)
    wide = written(tmp_path / "wide", 0, Architecture(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=32))
    other = written(tmp_path / "other", 0, words=("a", "b", "d"))
    with pytest.raises(ModelError, match=r"wide and .*one differ in .* weights"):
        averaged(tmp_path / "x", Average((one, wide)))
    with pytest.raises(ModelError, match="different vocabularies"):
        averaged(tmp_path / "y", Average((one, other)))
