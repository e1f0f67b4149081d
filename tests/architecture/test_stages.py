"""Every stage is complete, described, and written up in docs/reference.md; every configuration file can be planned."""

import importlib.util
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from palate.cli.settings_table import TABLE, table_text
from palate.config.types import Amount, Count, Share, accepts, hints_of
from palate.pipeline.describe import options_of, reference, summary_of
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import RESERVED, STAGES, Stage
from tests.support.quantised import needs_bitsandbytes
from tests.support.repository import ROOT, absent

FIELDS = 27


def load(name: str) -> type[Stage]:
    """The class of a stage."""
    if importlib.util.find_spec(STAGES[name].target.split(":")[0]) is None:
        absent(f"the stage {name}")
    return STAGES[name].load()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_a_frozen_dataclass_with_check_and_run(name: str) -> None:
    cls = cast("Any", load(name))
    assert cls.__dataclass_params__.frozen
    assert len(fields(cls)) <= FIELDS
    assert RESERVED.isdisjoint(field.name for field in fields(cls))
    assert list(inspect.signature(cls.check).parameters) == ["self"]
    assert list(inspect.signature(cls.run).parameters) == ["self", "run"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_and_each_of_its_settings_is_described(name: str) -> None:
    cls = load(name)
    assert summary_of(cls).splitlines()[0] == STAGES[name].help
    assert [f"{option.name} {option.of}".strip() for option in options_of(cls) if not option.doc] == []


@pytest.mark.parametrize("name", STAGES)
def test_a_number_of_something_cannot_be_zero(name: str) -> None:
    bare = [
        field.name
        for field in fields(cast("Any", load(name)))
        if re.search(r"(^n|steps?|iterations|minibatches|epochs|limit|_per_\w+|max_tokens)$", field.name)
        and not any(accepts(hints_of(load(name))[field.name], kind) for kind in (Count, Amount, Share))
    ]
    assert bare == []


def test_the_reference_is_up_to_date() -> None:
    for name in STAGES:
        load(name)
    path = ROOT / "docs" / "reference.md"
    if not path.exists():
        absent("docs/reference.md")
    assert path.read_text() == reference(STAGES), "run `palate reference`"


def test_the_table_of_help_and_completion_is_up_to_date() -> None:
    for name in STAGES:
        load(name)
    assert TABLE.read_text() == table_text(STAGES), "run `palate reference`"


CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))


def test_there_are_configurations() -> None:
    if not CONFIGS:
        absent("configs/")
    assert ROOT / "configs" / "kitchen.yaml" in CONFIGS


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name, marks=needs_bitsandbytes if "nf4" in path.read_text() else ()) for path in CONFIGS]
)
def test_every_configuration_file_can_be_planned(path: Path, tmp_path: Path) -> None:
    for name in STAGES:
        load(name)
    given = tmp_path / "input"
    given.write_text("{}")
    needed = [name for name, value in read_pipeline(path).inputs.items() if value is None]
    planned = plan_pipeline(read_pipeline(path, [f"{name}={given}" for name in needed]), tmp_path / "runs", STAGES)
    assert planned
