"""Configurations: dataclasses filled from raw settings, and every way in which that fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from palate.config.read import dump_config, map_inputs, read_config
from palate.config.settings import Settings
from palate.config.types import Input, InputMark, type_text
from palate.core import ConfigError
from palate.pipeline.describe import options_of
from tests.support.toys import Count, Long, Plain


@dataclass(frozen=True, slots=True)
class Sampling:
    temperature: float = 1.0
    max_tokens: int = 8


@dataclass(frozen=True)
class Inner:
    model: Input
    weight: float = 1.0


@dataclass(frozen=True)
class Every:
    name: str
    count: int = 1
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    on: bool = False
    limit: int | None = None
    words: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    by_name: dict[str, Inner] = field(default_factory=dict)
    inner: Inner | None = None
    sampling: Sampling = Sampling()
    rule: Plain | Long = Long(letters=9)
    choice: Literal["one", "other"] = "one"


@dataclass(frozen=True)
class TwoWords:
    answers: tuple[str, str]


@dataclass(frozen=True)
class Sender:
    """Somebody.

    Attributes:
        from_: who.
        to: where.
    """

    from_: str
    to: Input = "there"


def read(cls: type, **values: object) -> object:
    return read_config(cls, Settings(values, {(): "here"}))


def test_what_is_left_out_takes_its_default() -> None:
    assert read(Every, name="x") == Every("x")


def test_values_of_every_type_are_read() -> None:
    inner = {"model": "m", "weight": "1e-3"}
    value = read(
        Every, name="x", count="64", share=1, on=True, limit=5, words=["a"], pair=[3, 4], by_name={"k": inner}, inner=inner,
        sampling={"temperature": 0}, rule={"kind": "plain"}, choice="other",
    )  # fmt: skip
    expected = Inner("m", 0.001)
    assert value == Every("x", 64, 1.0, True, 5, ("a",), (3, 4.0), {"k": expected}, expected, Sampling(0.0), Plain(), "other")


def test_a_mapping_without_kind_changes_fields_of_the_default() -> None:
    assert read(Every, name="x", rule={"scale": 7}) == Every("x", rule=Long(letters=9, scale=7.0))
    assert read(Every, name="x", rule={"kind": "long", "scale": 7}) == Every("x", rule=Long(letters=9, scale=7.0))
    assert read(Every, name="x", rule={"kind": "plain", "scale": 7}) == Every("x", rule=Plain(scale=7.0))
    assert read(Every, name="x", rule="plain") == Every("x", rule=Plain())


def test_words_of_the_command_line_stand_for_any_type() -> None:
    value = read(Every, name="12", count="3", on="true", limit="none", words="a", pair="[1, 2]", rule="plain")
    assert value == Every("12", 3, on=True, limit=None, words=("a",), pair=(1, 2.0), rule=Plain())
    assert read(Every, name="x", words="[a, b]") == Every("x", words=("a", "b"))
    assert read(Every, name="x", words=["[]"]) == Every("x"), "`--words []` is a list of one word to the parser"


def test_a_field_called_like_a_word_of_python_has_no_underscore_in_settings() -> None:
    assert read(Sender, **{"from": "a"}) == Sender("a")
    assert dump_config(Sender("a", "/x")) == {"from": "a", "to": "/x"}
    assert [option.name for option in options_of(Sender)] == ["from", "to"]
    assert map_inputs(Sender("a", "x"), lambda name, value, _: f"{name}={value}") == Sender("a", "to=x")
    with pytest.raises(ConfigError, match="Sender has no 'from_'. Did you mean 'from'"):
        read(Sender, from_="a")
    with pytest.raises(ConfigError, match="Sender needs 'from'"):
        read(Sender)


@pytest.mark.parametrize("answers", [[True, False], "[yes, no]"])
def test_words_that_yaml_reads_as_true_and_false_are_to_be_quoted_in_a_list_too(answers) -> None:
    with pytest.raises(ConfigError, match=r"answers: .* \(YAML reads on, off, yes and no as true and false: quote them"):
        read(TwoWords, answers=answers)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "here: Every needs 'name'"),
        ({"name": "x", "cuont": 1}, "Every has no 'cuont'. Did you mean 'count'?"),
        ({"name": "x", "count": "many"}, r"count: .*integer.*got 'many'. Expected: whole number"),
        ({"name": "x", "count": 1.5}, "count: .*got 1.5"),
        ({"name": "x", "count": True}, "count must not be true. Expected: whole number"),
        ({"name": False}, "name must not be false .*quote"),
        ({"name": 12}, "name: .*string.*got 12"),
        ({"name": None}, "here: name is empty: nothing, `~` or `null` stands there. Give it text, or leave the name out."),
        ({"name": "x", "count": None}, "count is empty: .* Give it whole number, or leave the name out for its default."),
        ({"name": "x", "sampling": None}, "sampling is empty: "),
        ({"name": "x", "by_name": {"a": {"model": None}}}, "by_name.a.model is empty: .* Give it path"),
        ({"name": "x", "by_name": {"a": {"model": " "}}}, "by_name.a.model is empty: "),
        ({"name": "x", "words": None}, "words is empty: .* Give it text, several"),
        ({"name": "x", "words": ["a", None]}, "words.1 is empty: "),
        ({"name": "x", "share": 1.5}, "share: .*less than or equal to 1"),
        ({"name": "x", "share": float("inf")}, "share: .*got inf"),
        ({"name": "x", "share": "nan"}, "share: .*finite"),
        ({"name": "x", "pair": [1]}, "pair: "),
        ({"name": "x", "choice": "onne"}, "choice: .*Did you mean 'one'?"),
        ({"name": "x", "rule": "plane"}, "rule has no kind 'plane'. Did you mean 'plain'?"),
        ({"name": "x", "rule": {"letter": 3}}, "Long has no 'letter'. Did you mean 'letters'?"),
        ({"name": "x", "rule": {"kind": "plain", "letters": 3}}, "Plain has no 'letters'"),
        ({"name": "x", "rule": {"kind": "plain", "scale": -1}}, "here: plain: scale must be > 0, got -1"),
        ({"name": "x", "rule": 3}, "rule must hold `key: value` lines, got 3"),
        ({"name": "x", "sampling": "greedy"}, "sampling must hold `key: value` lines, got 'greedy'"),
        ({"name": "x", "inner": {}}, "Inner needs 'model'"),
        ({"name": "x", "by_name": [1]}, "by_name must hold `name: value` lines"),
        ({"name": "x", "by_name": {"a.b": {"model": "m"}}}, "'a.b' must be a word without dots"),
    ],
)
def test_what_cannot_be_read_is_a_config_error_that_says_why(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(Every, **values)


def test_an_error_names_the_place_of_the_value() -> None:
    settings = Settings({"a": {"rule": {"scale": "big"}}}, {("a",): "p.yaml:3", ("a", "rule"): "p.yaml:7"})
    with pytest.raises(ConfigError, match=r"^p\.yaml:7: a\.rule\.scale: "):
        read_config(Count, settings.put(("a", "data"), "d", "x"), ("a",))


def test_inputs_are_found_wherever_they_stand() -> None:
    seen: list[tuple[str, str, bool]] = []

    def change(name: str, value: str, mark: InputMark) -> str:
        seen.append((name, value, mark.hub))
        return value.upper()

    count = Count("a", others=("b", "c"), named={"x": "d"}, model="e", trip="untouched")
    assert map_inputs(count, change) == Count("A", others=("B", "C"), named={"x": "D"}, model="E", trip="untouched")
    assert seen == [("data", "a", False), ("others.0", "b", False), ("others.1", "c", False), ("named.x", "d", False), ("model", "e", True)]
    nested = Every("n", by_name={"k": Inner("m")}, inner=Inner("i"))
    assert map_inputs(nested, change) == Every("n", by_name={"k": Inner("M")}, inner=Inner("I"))


rules = st.builds(Plain, scale=st.floats(0.1, 9)) | st.builds(Long, letters=st.integers())
inners = st.builds(Inner, model=st.text().filter(str.strip), weight=st.floats(-5, 5))
everything = st.builds(
    Every,
    name=st.text(),
    limit=st.none() | st.integers(),
    words=st.lists(st.text().filter(lambda word: not word.startswith("["))).map(tuple),
    by_name=st.dictionaries(st.text("abc", min_size=1), inners),
    inner=st.none() | inners,
    rule=rules,
)


@given(everything)
def test_a_dumped_configuration_reads_back_as_itself(value: Every) -> None:
    assert read(Every, **dump_config(value)) == value


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Input, "path"), (Input | None, "path or none"), (tuple[Input, ...], "path, several"), (float, "number"),
        (Plain | Long, "plain or long"), (Literal["a", "b"], "a or b"), (dict[str, float], "number, by name"), (Sampling, "Sampling"),
        (tuple[float, int], "list of 2: number, whole number"),
    ],
)  # fmt: skip
def test_types_are_said_in_words(annotation: object, text: str) -> None:
    assert type_text(annotation) == text


@dataclass(frozen=True)
class Preset:
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "long": {"count": 3, "rule": {"kind": "long", "letters": 7}, "sampling": {"temperature": 0.7}},
    }
    count: int = 1
    rule: Plain | Long = Long(letters=9)
    sampling: Sampling = Sampling()


def test_a_preset_stands_below_what_is_given_and_above_the_defaults() -> None:
    found = read(Preset, preset="long", sampling={"max_tokens": 5})
    assert found == Preset(3, Long(letters=7), Sampling(0.7, 5))
    assert read(Preset, preset="long", rule="long", count=4) == Preset(4, Long(letters=7), Sampling(0.7))
    assert read(Preset, preset="long", rule={"kind": "plain"}) == Preset(3, Plain(), Sampling(0.7))
    assert read(Preset, **dump_config(found)) == found


def test_an_unknown_preset_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"here: there is no preset 'lang'. Did you mean 'long'"):
        read(Preset, preset="lang")
