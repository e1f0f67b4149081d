"""Raw settings: YAML with lines, words of the command line, the nearest name."""

from pathlib import Path

import pytest

from palate.config.settings import Settings, nearest, parse_word, read_yaml
from palate.core import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return path


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 1\nb:\n  c:\n    - x\n    - y: 2\n  d: {e: 3}\n")
    settings = read_yaml(path)
    assert settings.get(("b", "d", "e")) == 3
    lines = {way: settings.place(way).rpartition(":")[2] for way in [("a",), ("b", "c", "1", "y"), ("b", "d", "e"), ("b", "nothing")]}
    assert lines == {("a",): "1", ("b", "c", "1", "y"): "5", ("b", "d", "e"): "6", ("b", "nothing"): "2"}
    assert settings.place(("nothing",)) == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"p\.yaml:3: a is given twice \(first at .*p\.yaml:1\)"),
        ("a: {b: 1, b: 2}\n", r"p\.yaml:1: b is given twice"),
        ("- a\n- b\n", "`key: value` lines"),
        ("", "`key: value` lines"),
        ("a: [1\nb: 2\n", "is not YAML.*line 2"),
        ("a: *nobody\n", "is not YAML"),
        ("a: 1\n\0", "is not YAML"),
    ],
)
def test_what_is_no_settings_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read_yaml(write(tmp_path, text))


def test_a_file_of_another_encoding_says_so_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    for content, problem in (
        ("a: 1".encode("utf-16"), r":1: is UTF-16 text, not UTF-8"),
        (b"a: 1\nb: \xe9\n", r":2: not UTF-8 \(byte 9\)"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"p\.yaml{problem}.*Save the file as UTF-8"):
            read_yaml(file)
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(file).values == {"a": 1}


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read.*Correct the path"):
        read_yaml(tmp_path / "none.yaml")


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    settings = read_yaml(write(tmp_path, "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n"))
    assert settings.values["b"] == {"x": 1, "y": 3}


def test_put_goes_deep_leaves_the_original_alone_and_turns_a_word_into_a_kind() -> None:
    before = Settings({"sft": {"objective": "dpo", "lr": 1}})
    after = before.put(("sft", "objective", "beta"), 0.2, "command line (x)").put(("online", "kl", "coef"), 0, "command line (y)")
    assert after.values == {"sft": {"objective": {"kind": "dpo", "beta": 0.2}, "lr": 1}, "online": {"kl": {"coef": 0}}}
    assert before.values == {"sft": {"objective": "dpo", "lr": 1}}
    assert after.place(("sft", "objective", "beta")) == "command line (x)"


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("1e-3", "1e-3"), ("true", True), ("[a, b]", ["a", "b"]), ("a: b: c", "a: b: c"), ("", None)]
)
def test_words_of_the_command_line_are_read_as_yaml(text: str, value: object) -> None:
    assert parse_word(text) == value


def test_nearest_offers_one_name_or_all() -> None:
    assert nearest("epoch", ["epochs", "data"]) == "Did you mean 'epochs'?"
    assert nearest("zzz", ["epochs", "data"]) == "Known: epochs, data."
