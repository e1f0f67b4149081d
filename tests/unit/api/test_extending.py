"""A run goes on from where another one was done, with the bytes of a run that was longer from the beginning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import palate
from palate.core import ConfigError
from palate.models.causal import CausalPolicy
from tests.unit.api.test_online_from_python import settings

TEXTS = [f"the cook has {what} and {other}" for what in ("rice", "beans", "salt") for other in ("rice", "no salt")]
STEADY = {"lr": 0.01, "decay": "constant", "warmup": 0.0}


def sft(base: CausalPolicy, runs: Path, epochs: float, **words: Any) -> palate.FinishedRun:
    return palate.sft(model=base, data=TEXTS, epochs=epochs, demonstrations_per_step=2, optimizer=STEADY, runs=runs, **words)


def same(one: palate.FinishedRun, other: palate.FinishedRun) -> bool:
    """Whether two runs left the same metrics and the same weights."""
    names = ("metrics.jsonl", "model/model.safetensors")
    return all(one.path(name).read_bytes() == other.path(name).read_bytes() for name in names)


def test_an_extended_run_is_the_longer_run_to_the_byte(base: CausalPolicy, runs: Path) -> None:
    short = sft(base, runs, 1, keep_state=True)
    assert short.path("kept_state/learner").is_dir()
    assert not short.path("state").exists()
    before = {path: path.read_bytes() for path in short.directory.rglob("*") if path.is_file()}
    longer, whole = sft(base, runs, 2, extend=short), sft(base, runs, 2)
    assert same(longer, whole)
    assert (longer.how, len(longer.metrics)) == ("resumed", 6)
    assert longer.record.key != whole.record.key
    assert [(parent.field, parent.key) for parent in longer.record.parents][-1] == ("extend", short.record.key)
    assert not longer.path("kept_state").exists()
    assert before == {path: path.read_bytes() for path in short.directory.rglob("*") if path.is_file()}
    assert sft(base, runs, 2, extend=short).how == "skipped"


def test_what_cannot_be_extended_is_refused(base: CausalPolicy, runs: Path) -> None:
    short = sft(base, runs, 1)
    with pytest.raises(ConfigError, match=r"kept no checkpoint to go on from. Run it with keep_state: true"):
        sft(base, runs, 2, extend=short)
    with pytest.raises(ConfigError, match="differs in seed. A run that goes on may differ in epochs, iterations, optimizer alone"):
        sft(base, runs, 2, extend=short, seed=2)
    for epochs in (1, 0.5):  # it would hold more training than its record says
        with pytest.raises(ConfigError, match=rf"epochs is {epochs:g}, and .* has done 1. Set epochs to more"):
            sft(base, runs, epochs, extend=short)
    with pytest.raises(ConfigError, match="extend: there is nothing at"):
        sft(base, runs, 2, extend=runs / "nowhere")


def test_online_training_goes_on(base: CausalPolicy, runs: Path) -> None:
    short = palate.online(**settings(base, runs, iterations=2, keep_state=True))
    assert short.path("kept_state/learner").is_dir()
    longer = palate.online(**settings(base, runs, extend=short, iterations=3))
    assert longer.how == "resumed"
    assert same(longer, palate.online(**settings(base, runs)))


def test_a_pipeline_file_extends_an_earlier_stage(base: CausalPolicy, runs: Path) -> None:
    base.save(runs / "base")
    (runs / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    one = {
        "stage": "sft",
        "model": str(runs / "base"),
        "data": str(runs / "texts.jsonl"),
        "optimizer": STEADY,
        "demonstrations_per_step": 2,
    }
    stages = {"first": {**one, "keep_state": True}, "more": {**one, "epochs": 2, "extend": "$first"}}
    (runs / "p.yaml").write_text(yaml.safe_dump({"stages": stages}))
    done = palate.run(runs / "p.yaml", runs=runs / "p")
    assert done["more"].metrics[:3] == done["first"].metrics
    assert len(done["more"].metrics) == 6
    for key, message in (({"keep_state": "yes"}, "keep_state is true or false"), ({"extend": 3}, "extend is the directory of a run")):
        (runs / "q.yaml").write_text(yaml.safe_dump({"stages": {"first": {**one, **key}}}))
        with pytest.raises(ConfigError, match=message):
            palate.run(runs / "q.yaml", runs=runs / "q")
