"""The tables of mutants fit the code: each edit still finds its place, and the tests it names exist."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutation.table import Mutant, areas, faults, read_mutants


def test_every_mutant_fits_its_file_and_names_tests_that_exist() -> None:
    mutants = [mutant for area in areas() for mutant in read_mutants(area)]
    assert mutants
    assert faults(mutants) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"old": "x = 2"}, "occurs 0 times"),
        ({"old": "x"}, "occurs 2 times"),
        ({"file": "b.py"}, "occurs 0 times"),
        ({"new": "x = 1"}, "changes nothing"),
        ({"tests": ("test_a.py::test_two",)}, "there is no test test_a.py::test_two"),
        ({"tests": ("test_b.py",)}, "there is no test test_b.py"),
        ({"tests": ()}, "give either tests"),
        ({"survives": "the same"}, "give either tests"),
    ],
)
def test_a_table_that_no_longer_fits_is_noticed(changed: dict[str, object], told: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nprint(x)\n")
    (tmp_path / "test_a.py").write_text("def test_one() -> None: ...\n")
    good = Mutant("one", "a.py", "x = 1", "x = 3", ("test_a.py::test_one[7]",))
    assert faults([good], tmp_path) == []
    assert faults([good, good], tmp_path) == ["one: used twice"]
    (found,) = faults([replace(good, **changed)], tmp_path)  # type: ignore[arg-type]
    assert told in found
