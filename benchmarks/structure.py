"""The shape of the source tree: `python -m benchmarks.structure [DIR]`, for the checkout in DIR (by default this one).

It runs one iteration of PPO and one step of DPO on tiny models, and counts the files of `palate/` whose functions run from the first read
of the data to the end of the last optimizer step. The other figures are read from the source: short files, circles of imports, and names
that stand for two things.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

SHORT = 60
"""A file with fewer lines is short. An `__init__.py` is not counted."""

READERS = ("read_prompts", "read_preferences")
OPTIMIZED = 0x1
"""Flag of a function's code; the code of modules and classes does not have it."""

MODULES: Mapping[str, tuple[str, ...]] = {
    "Direct": ("palate.stages.direct", "palate.recipes.direct"),
    "Online": ("palate.stages.online", "palate.recipes.online"),
    "RewardModelRequirements": ("palate.stages.online.online_settings",),
    "Trust": ("palate.recipes.online.stage",),
    "RunPlan": ("palate.runs.record", "palate.stores.records"),
    "open_run": ("palate.runs.run", "palate.stores.runs"),
}
"""Where a name is imported from, the newest place first."""


def main() -> int:
    """Print the table; return exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).resolve().parents[1], metavar="DIR")
    parser.add_argument("--trace", choices=("ppo", "dpo"), help=argparse.SUPPRESS)
    parser.add_argument("--names", action="store_true", help="also print the names that are counted")
    options = parser.parse_args()
    root = options.directory.resolve()
    if not (root / "palate" / "__init__.py").is_file():
        parser.error(f"{root} holds no palate/. Name the root of a checkout.")
    if options.trace is not None:
        print(json.dumps(traced(root, options.trace)))
        return 0
    modules = parsed(root)
    names: dict[str, Sequence[str]] = {
        "files of one PPO iteration": entered(root, "ppo"),
        "files of one DPO step": entered(root, "dpo"),
        f"files under {SHORT} lines": short_files(root),
        "circles of files": [", ".join(circle) for circle in circles(import_graph(modules))],
        "class names that stand twice": twice(class_names(modules)),
        "module names used twice": twice(module_names(modules)),
    }
    print("| | count |\n|---|---|")
    for label, lines in names.items():
        folders = f" in {len({str(Path(line).parent) for line in lines})} folders" if label.startswith("files of") else ""
        print(f"| {label} | {len(lines)}{folders} |")
    if options.names:
        for label, lines in names.items():
            print(f"\n{label}:", *lines, sep="\n  ")
    return 0


def entered(root: Path, method: str) -> list[str]:
    """Return the files that a run of `method` enters, traced in a process of its own that imports the checkout at `root`."""
    words = [sys.executable, str(Path(__file__).resolve()), str(root), "--trace", method]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    files: list[str] = json.loads(done.stdout.splitlines()[-1])
    return files


@dataclass
class Trace:
    """The files whose functions ran between the first call of a reader of data and the last return of `Learner.step`."""

    root: str
    is_reading: bool = False
    running: set[str] = field(default_factory=set)
    files: frozenset[str] = frozenset()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Take an event of `sys.setprofile`."""
        code: CodeType = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(self.root) or not code.co_flags & OPTIMIZED:
            return
        self.is_reading = self.is_reading or code.co_name in READERS
        if event == "call" and self.is_reading:
            self.running.add(code.co_filename)
        elif event == "return" and code.co_qualname == "Learner.step":
            self.files = frozenset(self.running)


def traced(root: Path, method: str) -> list[str]:
    """Run `method` once and return the files it entered, as paths from the root."""
    sys.stdout = sys.stderr  # what the stage prints; the caller reads the last line of the real one
    with tempfile.TemporaryDirectory() as name:
        stage, run = prepared(Path(name), method)
        trace = Trace(str(root / "palate") + os.sep)
        with run.active():
            threading.setprofile(trace)
            sys.setprofile(trace)
            try:
                stage.run(run)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    sys.stdout = sys.__stdout__
    return sorted(str(Path(file).relative_to(root)) for file in trace.files)


def prepared(folder: Path, method: str) -> tuple[Any, Any]:
    """Write tiny models and data to `folder`; return a stage of one step, and its run."""
    from palate.models.scalar import scalar_from
    from palate.testing import tiny_policy

    tiny_policy(seed=0).save(folder / "policy")
    rows = [{"prompt": f"the cook has {word}", "chosen": " no salt", "rejected": " please"} for word in ("rice", "beans", "salt", "two")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if method == "dpo":
        stage = taken("Direct")(str(folder / "policy"), str(folder / "rows.jsonl"), prompts_per_step=4, epochs=1)
    else:
        scalar_from(tiny_policy(seed=0), ("overall",), seed=0).save(folder / "reward")
        online = taken("Online")
        is_new = any(one.name == "iterations" for one in fields(online))
        settings = (
            {"iterations": 1, "prompts_per_iteration": 4, "reward_requirements": taken("RewardModelRequirements")(0.0, 0.0)}
            if is_new
            else {"steps": 1, "prompts_per_step": 4, "trust": taken("Trust")(0.0, 0.0)}
        )
        from palate.core import Sampling

        sampling = Sampling(max_tokens=6)
        stage = online(str(folder / "policy"), str(folder / "rows.jsonl"), str(folder / "reward"), sampling=sampling, **settings)
    stage.check()
    return stage, taken("open_run")(folder / "runs", taken("RunPlan")("structure", "structure", seed=0))


def taken(name: str) -> Any:
    """Return what is called `name`, from the first place in `MODULES` that exists."""
    for module in MODULES[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"The checkout has none of {', '.join(MODULES[name])}. Add the new place of {name} to MODULES in {__file__}.")


def parsed(root: Path) -> dict[str, ast.Module]:
    """Return the modules below `root`/palate by dotted name; an `__init__.py` has the name of its folder."""
    trees = {}
    for path in sorted((root / "palate").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def short_files(root: Path) -> list[str]:
    """Return the files with fewer than `SHORT` lines, `__init__.py` left out, as paths from the root."""
    paths = (path for path in sorted((root / "palate").rglob("*.py")) if path.name != "__init__.py")
    return [str(path.relative_to(root)) for path in paths if len(path.read_text(encoding="utf-8").splitlines()) < SHORT]


def import_graph(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return what each module imports of the others, also inside functions and under TYPE_CHECKING.

    Names are followed through an `__init__.py` to the file that has them. Who imports from a folder from outside runs its `__init__.py`
    too; files inside the folder do not count it, as every one of them would.
    """
    handed_on = {name: dict(_imports(tree, modules)) for name, tree in modules.items()}
    graph: dict[str, set[str]] = {}
    for name, tree in modules.items():
        graph[name] = set()
        for _, target in _imports(tree, modules):
            module, _, attribute = target.partition(":")
            file = handed_on[module].get(attribute, module).partition(":")[0]
            graph[name] |= {file, *(folder for folder in _folders(file, modules) if not f"{name}.".startswith(f"{folder}."))}
        graph[name].discard(name)
    return graph


def _folders(module: str, modules: Mapping[str, ast.Module]) -> list[str]:
    parts = module.split(".")
    names = (".".join(parts[:k]) for k in range(2, len(parts)))
    return [name for name in names if name in modules]


def _imports(tree: ast.Module, modules: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Yield each imported name with its place: a module, or `module:attribute`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield alias.asname or alias.name, inner if inner in modules else f"{node.module}:{alias.name}"


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of two modules or more."""
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {tuple(sorted({name, *(other for other in reached[name] if name in reached[other])})) for name in graph}
    return sorted(list(group) for group in groups if len(group) > 1)


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    queue = [start]
    while queue:
        fresh = graph[queue.pop()] - seen
        seen |= fresh
        queue += fresh
    return seen


def class_names(modules: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Yield each class with its module."""
    for name, tree in modules.items():
        yield from ((node.name, name) for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def module_names(modules: Mapping[str, ast.Module]) -> Iterator[tuple[str, str]]:
    """Yield the last part of each module's name with the whole; folders are left out."""
    folders = {name.rpartition(".")[0] for name in modules}
    yield from ((name.rpartition(".")[2], name) for name in modules if name not in folders)


def twice(names: Iterator[tuple[str, str]]) -> list[str]:
    """Return the names that stand in two places or more, with the places."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return [f"{name}: {', '.join(several)}" for name, several in sorted(places.items()) if len(several) > 1]


if __name__ == "__main__":
    sys.exit(main())
