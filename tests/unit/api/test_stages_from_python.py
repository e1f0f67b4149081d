"""Every stage is a function that takes objects in place of paths, and runs what a pipeline file runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import palate
from palate.core import ConfigError
from palate.models.causal import CausalPolicy
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES
from palate.runs.record import read_record
from tests.unit.api import own_functions, own_parts

PROMPTS = [f"the cook has {what}" for what in ("rice", "beans", "salt", "two guests")]
TEXTS = [f"{prompt} for two guests today please" for prompt in PROMPTS]
PAIRS = [{"prompt": prompt, "chosen": " and rice", "rejected": " but no salt today"} for prompt in PROMPTS]
FEW = {"epochs": 1, "optimizer": {"lr": 0.01}}


def planned_from(file: Path, settings: dict[str, Any], runs: Path) -> str:
    """The key of a run whose stage a pipeline file gives."""
    file.write_text(yaml.safe_dump({"stages": settings}))
    return plan_pipeline(read_pipeline(file), runs, STAGES)[-1].plan.key


def test_the_package_names_every_stage_and_each_public_name_is_there() -> None:
    assert set(palate._STAGES) == set(STAGES)
    assert all(callable(getattr(palate, name)) for name in palate.__all__ if name != "__version__")
    assert set(palate.__all__) <= set(dir(palate))
    with pytest.raises(AttributeError, match="no attribute 'stf'"):
        palate.stf  # noqa: B018 (looking is what raises)


def test_a_stage_takes_models_and_rows_and_its_run_is_found_again(base: CausalPolicy, runs: Path) -> None:
    sft = palate.sft(model=base, data=TEXTS, runs=runs, seed=3, **FEW)
    assert sft.how == "done"
    assert (sft.directory.parent, sft.record.stage, sft.record.seed) == (runs, "sft", 3)
    assert sft.metrics[-1]["sft/loss/mean"] > 0
    assert palate.sft(model=base, data=list(TEXTS), runs=runs, seed=3, **FEW).how == "skipped"
    assert palate.sft(model=base, data=TEXTS[:3], runs=runs, seed=3, **FEW).how == "done"
    tuned = palate.direct(model=sft, preferences=PAIRS, objective="ipo", runs=runs, **FEW)
    assert (tuned.record.config["objective"]["kind"], tuned.record.parents[0].key) == ("ipo", sft.record.key)  # type: ignore[index]
    assert palate.direct(model=sft.path("model"), preferences=PAIRS, runs=runs, **FEW).summary["pairs"] == len(PAIRS)


def test_a_function_of_a_stage_is_the_stage_that_a_file_runs(base: CausalPolicy, runs: Path) -> None:
    base.save(runs / "base")
    (runs / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    made = palate.sft(model=runs / "base", data=str(runs / "texts.jsonl"), runs=runs, name="s", **FEW)
    entry = {"stage": "sft", "model": str(runs / "base"), "data": str(runs / "texts.jsonl"), **FEW}
    assert planned_from(runs / "p.yaml", {"s": entry}, runs) == made.record.key
    assert palate.run(runs / "p.yaml", runs=runs)["s"].how == "skipped"


def test_objects_and_import_paths_of_the_users_classes_are_one_run(base: CausalPolicy, runs: Path) -> None:
    base.save(runs / "base")
    (runs / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    same = {"model": runs / "base", "preferences": runs / "pairs.jsonl", "runs": runs, **FEW}
    made = palate.direct(**same, objective=own_parts.Steep(beta=0.3))
    assert palate.direct(**same, objective={"kind": "tests.unit.api.own_parts:Steep", "beta": 0.3}).how == "skipped"
    assert "direct/steepness/mean" in made.metrics[0]
    entry = {"stage": "direct", "model": str(runs / "base"), "preferences": str(runs / "pairs.jsonl"), **FEW}
    steep = {"kind": "tests.unit.api.own_parts:Steep", "beta": 0.3}
    assert planned_from(runs / "p.yaml", {"direct": {**entry, "objective": steep}}, runs) == made.record.key
    assert made.record.config["objective"] == steep
    source = next(parent for parent in made.record.parents if parent.field == "objective.kind")
    assert source.path == own_parts.__file__
    assert source.key.startswith("tests.unit.api.own_parts:Steep@")
    other = planned_from(runs / "p.yaml", {"direct": {**entry, "objective": {**steep, "beta": 0.2}}}, runs)
    assert other != made.record.key


def test_functions_of_this_process_score_and_their_code_is_part_of_the_run(base: CausalPolicy, runs: Path) -> None:
    def keyed(reward: Any) -> str:
        done = palate.rerank(model=base, prompts=PROMPTS, rewards={"own": reward}, n=2, sampling={"max_tokens": 4}, runs=runs)
        assert done.summary["curve"]
        return done.record.key

    factor = 1.0

    def longer(completion: str) -> float:
        return factor * len(completion)

    one = keyed(longer)
    assert keyed(longer) == one
    factor = 2.0
    assert keyed(longer) != one
    assert keyed(own_functions.brevity) not in {one}


def test_a_stage_of_the_users_own(runs: Path) -> None:
    done = palate.run_stage(own_parts.Counted("abcd"), runs=runs, seed=7)
    assert done.summary == {"letters": 4, "seed": 7}
    assert done.record.stage == "tests.unit.api.own_parts:Counted"
    assert done.record.parents[0].field == "stage"
    entry = {"stage": "tests.unit.api.own_parts:Counted", "text": "abcd", "seed": 7}
    assert planned_from(runs / "p.yaml", {"Counted": entry}, runs) == done.record.key
    with pytest.raises(ConfigError, match=r"'tests.unit.api.own_functions:brevity' is not a stage"):
        planned_from(runs / "p.yaml", {"x": {"stage": "tests.unit.api.own_functions:brevity"}}, runs)


def test_raters_and_readers_of_the_users_own(base: CausalPolicy, runs: Path) -> None:
    rows = [{"ask": prompt, "say": " rice and beans"} for prompt in PROMPTS]
    assert palate.sft(model=base, data=rows, columns=own_functions.asked, runs=runs, **FEW).record.dropped
    answers = [palate.Completion(text, stop="eos") for text in (" rice and beans", " rice", " no salt")]
    samples = [(prompt, answers) for prompt in palate.as_prompts(PROMPTS)]
    judged = palate.collect(samples=samples, from_=own_parts.Shortest(), held_out=0, runs=runs)
    assert judged.summary["ruler"] == judged.summary["questions"] > 0
    row = json.loads(judged.path("preferences.jsonl").read_text().splitlines()[0])
    assert len(row["chosen"]) <= len(row["rejected"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "nowhere.at:All"},
            r"objective: 'nowhere.at:All': there is no module 'nowhere'.*Palate looked in the current folder",
        ),
        ({"objective": "tests.unit.api.own_parts:Nothing"}, "has no 'Nothing'"),
        ({"objective": "tests.unit.api.own_functions:brevity"}, "is not a class"),
        ({"objective": own_parts.Centred()}, "lacks is_unpaired, needs_reference"),
        ({"objective": {"kind": "tests.unit.api.own_parts:Steep", "beta": 1, "size": 2}}, "Steep has no 'size'"),
        ({"speed": 2}, "Direct has no 'speed'"),
        ({"seed": "high"}, "seed"),
    ],
)
def test_what_cannot_be_used_is_refused(settings: dict[str, Any], message: str, base: CausalPolicy, runs: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        palate.direct(**{"model": base, "preferences": PAIRS, "runs": runs, **settings})
    assert read_record(runs) is None
    with pytest.raises(ConfigError, match="data: a float is neither a path, nor rows, nor a model"):
        palate.sft(model=base, data=1.5, runs=runs)
