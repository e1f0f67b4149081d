"""Imports point downwards, and what should be light is light."""

import ast
import os
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from palate.config.extras import EXTRAS
from tests.support.repository import PACKAGE, ROOT, sources, tree_of

TRACKED = ("tensorboard", "wandb", "mlflow", "trackio")
HEAVY = ("torch", "transformers", "tokenizers", "matplotlib", "pyarrow", "datasets", "pandas", *TRACKED)
OF_ONE_FEATURE = {"datasets", "lm_eval", "mlflow", "pytest", "ray", "tensorboard", "trackio", "vllm", "wandb"}
"""The code of the feature says that its package is missing."""

LIGHT_SECONDS = 1.0
"""Of a processor, which a machine that does other things too may need longer for; with torch it is some seconds."""


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def imported(path: Path) -> set[str]:
    """Top-level names of the modules a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_the_nouns_need_only_the_standard_library() -> None:
    found = {path.name: imported(path) - sys.stdlib_module_names - {"palate"} for path in (PACKAGE / "core").glob("*.py")}
    assert found
    assert {name: names for name, names in found.items() if names} == {}


def test_only_tests_use_the_shipped_fakes() -> None:
    users = [path for path in sources() if "palate.testing" in path.read_text() and PACKAGE / "testing" not in path.parents]
    assert users == []


@pytest.mark.parametrize(
    "code",
    [
        "import palate",
        "from palate.cli import main; main(['--help'])",
        "import palate.core, palate.runs.run, palate.data.jsonl, palate.raters, palate.agreement",
        "from palate.cli import main; main(['runs', 'nowhere'])",
        "from palate.cli import main; main(['agreement', 'nowhere'])",
        "import palate.pipeline.execute, palate.runs.trackers",
        "import palate.rewards.worker, tests.unit.stages.online.rewarding",  # some hundred processes of the tests load them
    ],
)
def test_what_is_light_loads_nothing_heavy(code: str) -> None:
    told = f"{code}\nimport sys\nsys.stderr.write('loaded: ' + ' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].strip() == "loaded:"


def cpu_seconds(words: list[str]) -> float:
    """Processor seconds of a process; unlike the clock they do not grow with whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("words", [["-c", "import palate"], ["-m", "palate", "--help"]])
def test_what_is_light_is_quick(words: list[str]) -> None:
    cpu_seconds([sys.executable, *words])  # writes the bytecode
    assert min(cpu_seconds([sys.executable, *words]) for _ in range(3)) < LIGHT_SECONDS


def test_every_package_that_is_imported_is_known() -> None:
    """A package that nobody lists is missing where Palate is installed, and its absence is a traceback."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plain = {re.split(r"[^\w.-]", line)[0].replace("-", "_").replace("pyyaml", "yaml") for line in project["dependencies"]} | {"markupsafe"}
    found = set().union(*map(imported, sources())) - sys.stdlib_module_names - {"palate", ""} - plain - OF_ONE_FEATURE
    assert found - {name for modules in EXTRAS.values() for name in modules} == set()
    assert set(EXTRAS) <= set(project["optional-dependencies"])
