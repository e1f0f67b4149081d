"""The user's functions: what their source is, how they are found, loaded and called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.config.answers import read_score, read_scores
from palate.config.function_source import source_of
from palate.config.functions import load_function, load_gold, load_probe
from palate.core import ConfigError, DataError

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file in the current folder; modules of it are forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = path


def test_a_source_is_all_that_the_users_module_imports(write: Write) -> None:
    write("taste/__init__.py", "")
    write("taste/rules.py", "from . import words\nfrom .deep import more\nimport numpy, json, palate.core\n\ndef f(completion): return 1\n")
    write("taste/words.py", "import plain.inner\n")
    write("taste/deep/__init__.py", "import taste.rules\n")  # in a circle
    write("taste/deep/more.py", "def g():\n    import lazy\n")
    write("taste/unused.py", "")
    write("plain/deeper/most.py", "")
    write(
        "plain/inner.py", "import plain.deeper.most\nfrom importlib import import_module\nimport_module('named')\n"
    )  # a folder without __init__.py
    write("lazy.py", "")
    write("named.py", "def (:")
    found = source_of("taste.rules:f")
    expected = {"taste", "taste.rules", "taste.words", "taste.deep", "taste.deep.more", "plain.inner", "plain.deeper.most", "lazy", "named"}
    assert set(found.files) == set(found.digests) == expected
    assert found.file == Path.cwd() / "taste/rules.py"
    assert not {"taste", "lazy"} & set(sys.modules), "nothing is imported"
    for name in expected:
        with found.files[name].open("a") as file:
            file.write("# edited\n")
        changed = source_of("taste.rules:f")
        assert changed.key != found.key
        found = changed
    write("taste/unused.py", "1")
    assert source_of("taste.rules:f").key == found.key


def test_functions_of_palate_and_of_python_have_no_source_of_the_users() -> None:
    for path in ("palate.kitchen:judge", "math:pow", "json:dumps"):
        found = source_of(path)
        assert (found.key, found.file) == (path, None)
    assert source_of("numpy.version:f").key.startswith("numpy.version:f@")


@pytest.mark.parametrize(
    ("path", "message"), [("taste:f", "no module 'taste'"), ("os.x.y:f", "no module 'os.x'"), ("f", "package.module:")]
)
def test_a_path_without_a_module(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source_of(path)


def test_the_current_folder_is_looked_into_and_an_edited_module_is_loaded_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(Path.cwd()))])  # as the command `palate` has it
    write("helper.py", "VALUE = 1\n")
    write("mine.py", "from helper import VALUE\ndef f(completion): return VALUE\nclass K:\n    def g(completion): return 5\n")
    assert load_function("mine:f")("") == 1
    assert load_function("mine:K.g")("") == 5
    write("helper.py", "VALUE = 22\n")
    assert load_function("mine:f")("") == 22


def test_a_folder_that_the_user_named_stays_when_another_is_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/somewhere", str(tmp_path), *sys.path])
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other", tmp_path):
        monkeypatch.chdir(folder)
        source_of("json:dumps")
        assert sys.path.count(str(tmp_path)) == 1 + (folder == tmp_path)
        assert sys.path.count(str(tmp_path / "other")) == (folder != tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere", "there is no module 'nowhere'"),
        ("from os import nothing", "raised ImportError"),
        ("def f(:", "raised SyntaxError"),
        ("1 / 0", "raised ZeroDivisionError: division by zero while it was imported"),
        ("None.x", "raised AttributeError"),
        ("g = 1", "has no 'f'"),
        ("f = 1", "cannot be called"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_message(write: Write, text: str, message: str) -> None:
    write("broken.py", text + "\n")
    for load in (load_function, load_gold, load_probe):
        with pytest.raises(ConfigError, match=message):
            load("broken:f")


def test_gold_is_called_by_names_and_its_answer_is_checked(write: Write) -> None:
    write(
        "truth.py",
        "def f(prompt, completion, **fields): return {'a': len(completion), 'b': len(fields)}\n"
        "def swapped(completion, prompt): return {'a': len(completion)}\n"
        "def named(completion, answer): return {'a': completion == answer}\n"
        "def other(question, answer): return {'a': 1}\n"
        "def plain(completion): return 0.5\n"
        "def broken(completion): return {'a': 'x'}\n"
        "def fails(completion): raise OSError('no network')\n",
    )
    assert load_gold("truth:f")("q", "abc", prompt="mine", answer="x") == {"a": 3, "b": 1}
    assert load_gold("truth:swapped")("q", "abc") == {"a": 3}
    assert load_gold("truth:named")("q", "abc", answer="abc") == {"a": 1}
    with pytest.raises(ConfigError, match="takes question, answer, and not completion"):
        load_gold("truth:other")
    for name, message in (
        ("plain", r"gave '0.5' \(float\), not a mapping"),
        ("broken", "a gave 'x' .* not a number"),
        ("fails", "raised OSError: no network, for the completion 'abc'"),
        ("named", "needs an argument 'answer'"),
    ):
        with pytest.raises(DataError, match=message):
            load_gold(f"truth:{name}")("q", "abc")


def test_the_only_argument_of_a_probe_may_have_any_name(write: Write) -> None:
    write(
        "probes.py",
        "def a(text): return len(text)\ndef b(completion, least=2): return completion.count('a') >= least\ndef c(x, y): return 1\n",
    )
    assert load_probe("probes:a")("aa") == 2
    assert load_probe("probes:b")("aa") == 1
    assert load_probe("builtins:len")("aa") == 2
    with pytest.raises(ConfigError, match="takes x, y, and not completion"):
        load_probe("probes:c")
    with pytest.raises(DataError, match="probe 'builtins:ascii' gave"):
        load_probe("builtins:ascii")("aa")


@pytest.mark.parametrize("value", [0.5, np.array([0.5]), np.array([[0.5]]), np.float32(0.5), torch.tensor([[0.5]]), Fraction(1, 2)])
def test_numbers_of_every_kind_are_scores(value: object) -> None:
    assert read_score(value) == 0.5


@pytest.mark.parametrize("value", [np.zeros(2), np.zeros(0), torch.zeros(2), np.complex64(1), "0.5", np.array(["0.5"]), None, 1e19, [0.5]])
def test_other_values_are_reasons(value: object) -> None:
    assert str(read_score(value)).startswith("gave ")


def test_a_column_of_scores_may_have_any_shape() -> None:
    assert read_scores(np.array([[1.0], [2.0]]), 2) == [1.0, 2.0]
