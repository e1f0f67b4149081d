"""The average of models: the arithmetic, what is kept, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from palate.core import ConfigError, ModelError
from palate.models.load import Architecture, load_policy, new_policy
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


@pytest.mark.parametrize(("models", "weights", "told"), [(("a",), None, "at least 2"), (("a", "b"), (1.0,), "2 models, 1 weights")])
def test_settings_that_make_no_sense_are_refused(models: tuple[str, ...], weights: tuple[float, ...] | None, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Average(models, weights).check()


def test_models_of_other_shapes_or_words_are_refused_by_name(tmp_path: Path) -> None:
    one = written(tmp_path / "one", 0)
    wide = written(tmp_path / "wide", 0, Architecture(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=32))
    other = written(tmp_path / "other", 0, words=("a", "b", "d"))
    with pytest.raises(ModelError, match=r"wide and .*one differ in .* weights"):
        averaged(tmp_path / "x", Average((one, wide)))
    with pytest.raises(ModelError, match="different vocabularies"):
        averaged(tmp_path / "y", Average((one, other)))
