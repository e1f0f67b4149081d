"""Files, functions and configurations stay of a size that can be read."""

import ast
from collections.abc import Iterator

from tests.support.repository import PACKAGE, sources, tree_of

FILE_LINES = 320
FUNCTION_LINES = 60
PARAMETERS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """(place, node) of every function of the package."""
    for path in sources():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, Function):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {place: (node.end_lineno or node.lineno) - node.lineno + 1 for place, node in functions()}
    assert {place: length for place, length in lengths.items() if length > FUNCTION_LINES} == {}


def test_functions_have_few_parameters_and_pass_none_through() -> None:
    too_many, through = [], []
    for place, node in functions():
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len([name for name in names if name not in {"self", "cls"}]) > PARAMETERS:
            too_many.append(place)
        kwargs = node.args.kwarg
        if kwargs is None:
            continue
        calls = [keyword for call in ast.walk(node) if isinstance(call, ast.Call) for keyword in call.keywords if keyword.arg is None]
        if any(isinstance(word.value, ast.Name) and word.value.id == kwargs.arg for word in calls):
            through.append(place)
    assert too_many == []
    assert through == []


def test_no_file_is_empty_of_words() -> None:
    assert [str(path) for path in sources() if ast.get_docstring(tree_of(path)) is None] == []
