"""The wheel works in a new environment, away from the checkout."""

from __future__ import annotations

from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from palate import __version__
from palate.config.shipped import shipped_pipelines
from tests.support.repository import ROOT

pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed: no wheel can be built")

from hatch_build import description
from tests.distribution import Distributions, build, contents, install, try_out, wheel_of_sdist


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return build(tmp_path_factory.mktemp("dist"))


def metadata(wheel: Path) -> Message:
    files = ZipFile(wheel)
    (name,) = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(files.read(name).decode())


def test_the_wheel_works_where_only_it_is_new(made: Distributions, tmp_path: Path) -> None:
    try_out(install(made.wheel, tmp_path, is_shared=True), __version__, with_torch=False)


def test_wheel_and_sdist_hold_the_same_package(made: Distributions, tmp_path: Path) -> None:
    held = contents(made.wheel)
    assert {f"palate/configs/{name}.yaml" for name in shipped_pipelines()} <= held.keys()
    assert len(shipped_pipelines()) > 10
    assert contents(wheel_of_sdist(made.sdist, tmp_path)) == held


def test_the_metadata_say_what_it_is(made: Distributions) -> None:
    told = metadata(made.wheel)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("palate", __version__, "Apache-2.0")
    assert "Typing :: Typed" in told.get_all("Classifier", [])
    text = str(told.get_payload())
    assert text.startswith("# Palate")
    assert "](docs/" not in text
    assert 'src="docs/' not in text


def test_links_are_absolute_where_the_repository_has_an_address() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = description(readme, "https://example.org/palate", "v1.2.3")
    assert "[guide](https://example.org/palate/blob/v1.2.3/docs/guide.md)" in text
    assert 'src="https://example.org/palate/raw/v1.2.3/docs/images/pipeline.svg"' in text
    assert "(https://example.org/palate/raw/v1.2.3/docs/report.png)" in text
    assert text.count("](") == readme.count("](")
    assert description("[a](b.md) ![c](d.png) [e](https://f) [g](#h)", "", "v1") == "a  [e](https://f) [g](#h)"
