"""Which file of the package imports which, inside functions and for annotations too."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.repository import PACKAGE, sources, tree_of

Graph = dict[str, set[str]]
"""Module -> the modules of the package that it imports."""


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> Graph:
    """The whole package's graph. Whoever imports a file from outside its folder also runs the folder's `__init__`."""
    trees = {module_of(path): tree_of(path) for path in sources()}
    graph = {}
    for module, tree in trees.items():
        targets = _targets(tree, set(trees))
        folders = {folder for target in targets for folder in _folders_of(target) if not f"{module}.".startswith(f"{folder}.")}
        graph[module] = (targets | folders) - {module}
    return graph


def _folders_of(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(2, len(parts))]


def _targets(tree: ast.Module, modules: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & modules) | ({node.module} if inside - modules else set())
    return found & modules


def circles(graph: Graph) -> list[list[str]]:
    """Every group of two or more modules that import one another, directly or by way of others (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(graph.get(module, ())):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return groups
