"""What is committed works on any machine and is finished."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.repository import PACKAGE, ROOT, committed, text_of

ADDRESSES = ["index" + "-url", "find" + "-links", r"pypi\.org" + "/simple", "python" + r"hosted\.org", r"registry\s*=\s*\"?https?:"]
HOSTS = re.compile("|".join(ADDRESSES))
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|Not" + r"ImplementedError|place" + r"holder)\b|\bst" + r"ubs?\b")
PICTURES = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]")
HOMES = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w")


def found(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """`file:line` of each match. Most files have none, and one search of the whole text says so."""
    return [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}"
        for path in paths
        if pattern.search(text_of(path))
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_names_a_place_on_one_machine() -> None:
    here = re.compile("|".join(re.escape(str(path)) + r"\b" for path in {ROOT, Path.home()} if len(path.parts) > 1))
    assert found(here, committed()) == []
    assert found(HOMES, committed()) == []


def test_no_file_names_a_package_registry() -> None:
    assert found(HOSTS, committed()) == []


def test_nothing_in_the_package_is_unfinished() -> None:
    assert found(UNFINISHED, [path for path in committed() if PACKAGE in path.parents and PACKAGE / "testing" not in path.parents]) == []


def test_no_pictures_in_text() -> None:
    assert found(PICTURES, committed()) == []


def test_no_large_files() -> None:
    assert [str(path.relative_to(ROOT)) for path in committed() if path.stat().st_size > 700_000] == []


def test_every_dependency_is_pinned_and_the_base_install_is_light() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pins = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines}
    extras = project["optional-dependencies"].values()
    wanted = [Requirement(text) for text in (*project["dependencies"], *(text for extra in extras for text in extra))]
    assert {str(one): pins.get(one.name.lower()) for one in wanted if not one.specifier.contains(pins.get(one.name.lower(), "0"))} == {}
    assert {Requirement(text).name for text in project["dependencies"]} == {
        "annotated-types",
        "jinja2",
        "numpy",
        "pydantic",
        "pyyaml",
        "rich",
    }
