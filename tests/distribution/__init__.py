"""Wheel and sdist, built and tried in a new environment, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.support.repository import ROOT

WORLD = """\
name: tried
stages:
  world: {stage: world, kitchen: {texts: 20, demonstrations: 8, prompts: 8, held_out: 4, evals: 1}}
"""

TRAINING = """\
  base:
    stage: pretrain
    data: $world
    tokenizer: $world/tokenizer
    architecture: {hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 32}
    documents_per_step: 10
  sft: {stage: sft, model: $base, data: $world, demonstrations_per_step: 4}
"""
"""Stages that need torch."""


@dataclass(frozen=True)
class Distributions:
    """The files of a release."""

    wheel: Path
    sdist: Path


def build(folder: Path) -> Distributions:
    """Build both. The sdist has all that the wheel is built from, so a wheel built from it holds the same files."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Distributions(Path(wheel), Path(sdist))


def contents(wheel: Path) -> dict[str, int]:
    """CRC of each file of a wheel, without its list of files."""
    return {one.filename: one.CRC for one in zipfile.ZipFile(wheel).infolist() if not one.filename.endswith("/RECORD")}


def wheel_of_sdist(sdist: Path, folder: Path) -> Path:
    """A wheel that is built from the sdist alone."""
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    (wheel,) = WheelBuilder(str(source)).build(directory=str(folder / "wheel"), versions=["standard"])
    return Path(wheel)


@dataclass(frozen=True)
class Environment:
    """A new environment with the wheel, and an empty folder to work in."""

    python: Path
    folder: Path

    def run(self, *words: str) -> str:
        """Run a program of the environment in the folder, without a trace of the checkout; return what it prints.

        Raises:
            CalledProcessError: it fails.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PALATE", "VIRTUAL_ENV"))}
        program = str(self.python.with_name(words[0]))
        done = subprocess.run([program, *words[1:]], cwd=self.folder, env=kept, stdout=subprocess.PIPE, check=True, text=True)
        return done.stdout


def install(wheel: Path, folder: Path, *, is_shared: bool) -> Environment:
    """Install the wheel into a new environment.

    Args:
        wheel: the wheel.
        folder: where to put the environment and the folder to work in.
        is_shared: take everything but Palate from the environment of this process, which takes a second. Otherwise pip installs all of it.
    """
    place = folder / "environment"
    venv.create(place, with_pip=not is_shared, symlinks=True)
    python = place / "bin" / "python"
    (folder / "work").mkdir()
    if is_shared:
        words = ["--python", str(python), "install", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", str(wheel)]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True, stdout=subprocess.PIPE)
        (own,) = place.glob("lib/python*/site-packages")
        # The folder alone: links to checkouts in it are not followed.
        (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    else:
        words = ["install", "-c", str(ROOT / "constraints.txt"), f"palate[train,label] @ {wheel.resolve().as_uri()}"]
        subprocess.run([str(python), "-m", "pip", *words], check=True)
    return Environment(python, folder / "work")


def try_out(environment: Environment, version: str, *, with_torch: bool, say: Callable[[str], object] = str) -> None:
    """Run commands of the installed wheel, each as a user does.

    Raises:
        AssertionError: one prints something else than it should.
        CalledProcessError: one fails.
    """

    def tried(*words: str) -> str:
        say(f"$ {' '.join(words)}")
        return environment.run(*words)

    assert tried("palate", "--version") == f"palate {version}\n"
    home = Path(tried("python", "-c", "import palate; print(palate.__file__)").strip())
    assert environment.python.parents[1] in home.parents, f"{home} is not the wheel's"
    assert "pipeline that comes with Palate" in " ".join(tried("palate", "demo", "--help").split())
    file = environment.folder / "tried.yaml"
    file.write_text(WORLD + (TRAINING if with_torch else ""))
    assert "world" in tried("palate", "run", str(file))
    (world,) = environment.folder.glob("runs/tried/world-*")
    assert (world / "corpus.jsonl").is_file()
    if with_torch:
        (model,) = environment.folder.glob("runs/tried/sft-*")
        made = environment.folder / "own.yaml"
        assert "wrote" in tried("palate", "init", str(world / "demonstrations.jsonl"), "--model", str(model), "--out", str(made))
        assert made.is_file()
