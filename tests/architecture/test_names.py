"""One name for one thing, no circle of files, and every folder of the package in the README's tree."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable

from tests.support.import_graph import circles, imports
from tests.support.repository import PACKAGE, ROOT, sources, tree_of


def twice(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Name -> places, of each name with more than one place."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_files_import_one_another_in_a_circle() -> None:
    assert circles(imports()) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_name_stands_twice() -> None:
    named = ((path.stem, str(path.relative_to(PACKAGE))) for path in sources() if path.stem not in {"__init__", "__main__"})
    assert twice(named) == {}


def test_no_class_name_stands_twice() -> None:
    named = (
        (node.name, f"{path.relative_to(PACKAGE)}:{node.lineno}")
        for path in sources()
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert twice(named) == {}


def test_every_folder_with_python_files_is_a_package() -> None:
    assert sorted({str(path.parent.relative_to(PACKAGE)) for path in sources() if not (path.parent / "__init__.py").is_file()}) == []


def test_every_folder_of_the_package_stands_in_the_readme_with_a_comment() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme[readme.index("```\npalate/\n") :].split("```")[1]
    listed = dict(re.findall(r"^  (\w+)/ +(\S.*)$", tree, flags=re.MULTILINE))
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert set(listed) == folders
    assert [name for name, comment in listed.items() if len(comment.split()) < 2] == []
