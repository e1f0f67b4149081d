"""Names of metrics: those the code can log, and those docs/metrics.md explains."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path

from tests.support.repository import PACKAGE, ROOT, absent, tree_of

STATISTICS = ("mean", "max", "min", "sum", "se", "std", "share", "rate", "total", "last", "count")
TAIL = re.compile(rf"(?:^|/)([\w<>.-]+/(?:{'|'.join(STATISTICS)}))$")
ENDING = re.compile(rf"/(?:{'|'.join(STATISTICS)})[\"']")
"""What the source of a string with such a tail has."""

OPEN = re.compile(r"<[^>]*>")


def documented() -> set[str]:
    """Names in backquotes in docs/metrics.md; `<...>` stands for any one word."""
    path = ROOT / "docs" / "metrics.md"
    if not path.exists():
        absent("docs/metrics.md")
    names = set(re.findall(r"`([\w<>. -]+/[\w<>. -]+/[\w<>. -]+)`", path.read_text()))
    assert names
    return names


def undocumented(names: Iterable[str]) -> list[str]:
    """Names that no documented one explains."""
    patterns = [re.compile(r"[\w.-]+".join(map(re.escape, OPEN.split(name)))) for name in documented()]
    return sorted({name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)})


def logged(path: Path) -> set[str]:
    """Names in a metrics.jsonl."""
    return {name for line in path.read_text().splitlines() for name in json.loads(line) if name != "step"}


def tails_in_code() -> dict[str, str]:
    """`thing/statistic` -> place, of every string in the package that ends like a metric's name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if not ENDING.search(path.read_text(encoding="utf-8")):
            continue
        tree = tree_of(path)
        inside = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
        for node in ast.walk(tree):
            if id(node) in inside:
                continue
            text = _text(node)
            match = TAIL.search(text) if text is not None else None
            if match is not None and not match.group(1).startswith("<>/"):
                found[match.group(1)] = f"{path.relative_to(PACKAGE)}:{node.lineno}"  # type: ignore[attr-defined]
    return found


def things_of_objectives() -> dict[str, str]:
    """Name -> place of every key of a `metrics` mapping in palate/objectives."""
    found = {}
    for path in sorted((PACKAGE / "objectives").rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            is_assigned = isinstance(node, ast.Assign | ast.AnnAssign) and "metrics" in ast.unparse(node).split("=")[0]
            is_passed = isinstance(node, ast.keyword) and node.arg == "metrics"
            value = node.value if is_assigned or is_passed else None  # type: ignore[attr-defined]
            for key in value.keys if isinstance(value, ast.Dict) else []:
                if isinstance(key, ast.Constant):
                    found[str(key.value)] = f"{path.name}:{key.lineno}"
    return found


def _text(node: ast.AST) -> str | None:
    """The text of a string or f-string, with `<>` for what is filled in; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "<>" for part in node.values)
    return None
