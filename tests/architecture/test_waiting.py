"""No test waits for a time: a busy machine is late for it. Tests wait for events, by tests/support/waiting.py."""

import ast
import re
from pathlib import Path

from tests.support.repository import ROOT, tree_of

WAITING = ROOT / "tests" / "support" / "waiting.py"
WATCHES = {"sleep", "monotonic", "perf_counter", "wait_for_timeout", "set_default_timeout", "set_default_navigation_timeout"}
"""What stands still for a time, or looks at a watch. `process_time` is the process's own, and `time.time` is what is written down."""

MEANT = {("conftest.py", "wait_for_timeout"), ("conftest.py", "set_default_timeout"), ("test_chat.py", "monotonic")}
"""Playwright's one limit, the pause in which it lets a page act, and the deadline that a client's method takes as an argument."""


SUSPICIOUS = re.compile(rf"\b(?:{'|'.join(sorted(WATCHES))}|timeout|deadline)\b|\.(?:wait|join|result)\(\s*\d")
"""What a file has that may have a fault. The other files are not parsed."""


def limits(call: ast.Call) -> list[ast.expr]:
    """What a call gives as the longest time to wait."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    given = [word.value for word in call.keywords if word.arg == "timeout"]
    return given + (call.args if name in {"wait", "join", "result"} and len(call.args) == 1 else [])


def is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)


def faults(path: Path) -> list[str]:
    found: list[str] = []
    if not SUSPICIOUS.search(path.read_text(encoding="utf-8")):
        return found
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and node.attr in WATCHES and (path.name, node.attr) not in MEANT:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}")
        elif isinstance(node, ast.Call) and any(map(is_number, limits(node))):
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.keyword) and node.arg == "deadline" and isinstance(node.value, ast.Constant) and node.value.value is None:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: the hypothesis profile of tests/conftest.py has no deadline")
    return found


def test_no_test_waits_for_a_time() -> None:
    driver = ROOT / "tests" / "mutation"  # a program that gives up on mutants that hang
    files = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if path not in (WAITING, ROOT / "tests" / "conftest.py") and driver not in path.parents
    ]
    assert len(files) > 100
    assert [fault for path in files for fault in faults(path)] == []
