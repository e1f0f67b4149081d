"""Several sources in one setting: rows keep apart, each is read in its own way, and what does not fit together is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from palate.config.read import dump_config, map_inputs, read_config
from palate.config.settings import Settings
from palate.core import ConfigError, DataError
from palate.data.data_sources import (
    DataInput,
    DataSource,
    check_unweighted,
    data_name,
    metric_word,
    read_data,
    sources_of,
    stream_data,
    taking_turns,
    weights_of,
)
from palate.data.exclusions import Exclusion, Exclusions, excluding
from palate.data.formats import (
    RECOGNISED,
    Alpaca,
    Dropped,
    QuestionAnswer,
    Recognised,
    read_preferences,
    read_prompts,
    read_samples,
    read_unpaired,
    stream_demonstrations,
)
from palate.data.jsonl import write_rows


@dataclass(frozen=True)
class Reading:
    """Settings with data."""

    data: DataInput
    other: DataInput | None = None
    names: list[str] = field(default_factory=list)


def read(value: object, *, takes_objects: bool = False) -> DataInput:
    return read_config(Reading, Settings({"data": value}), takes_objects=takes_objects).data


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "a.jsonl", [{"id": f"q{k}", "prompt": f"soup {k}?", "chosen": " leeks", "rejected": " tin"} for k in range(3)])
    rows = [{"id": f"q{k}", "ask": f"cake {k}?", "good": "plums", "bad": "tin", "source": "web"} for k in range(3)]
    write_rows(tmp_path / "b.jsonl", [*rows, {"ask": "bread?", "good": "", "bad": "tin"}])
    return tmp_path


B: dict[str, Any] = {"path": "b.jsonl", "columns": {"kind": "question_answer", "question": "ask", "chosen": "good", "rejected": "bad"}}


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        ("[a, b]", ["a", "b"]),
        (["a", "{path: b, limit: 2}"], ["a", "b"]),
        ({"path": "a", "limit": 2}, ["a"]),
        ([{"path": "a", "weight": 2}, {"path": "b", "weight": 1}], ["a", "b"]),
    ],
)
def test_a_path_and_every_form_of_a_list_are_read_and_each_path_is_an_input(value: object, paths: list[str]) -> None:
    config = read_config(Reading, Settings({"data": value}))
    found: dict[str, str] = {}
    changed = map_inputs(config, lambda name, path, _: found.setdefault(name, path).upper())
    assert list(found.values()) == paths
    names = {"data"} if isinstance(config.data, str) else {f"data.{k}{end}" for k in range(len(paths)) for end in ("", ".path")}
    assert found.keys() <= names
    assert [one.path for one in sources_of(changed.data)] or [changed.data] == [path.upper() for path in paths]
    assert read_config(Reading, Settings(dump_config(config))) == config


def test_the_example_of_the_page_is_read_and_columns_need_no_kind() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"## Several sources\n.*?```yaml\nsft:\n(.*?)```", page, re.DOTALL)
    kitchen, alpaca, own = sources_of(read(yaml.safe_load(text)["data"]))
    assert (kitchen.weight, kitchen.called, kitchen.held(Alpaca())) == (3, "kitchen", Alpaca())
    assert (alpaca.limit, alpaca.held(RECOGNISED)) == (10000, Alpaca())
    assert (own.path, own.called, own.held(Alpaca())) == ("$answers", "own", Recognised(prompt="task", completion="reply"))


def test_in_python_a_list_of_sources_is_told_from_rows() -> None:
    rows = [{"prompt": "soup?"}]
    assert read(rows, takes_objects=True) is rows
    assert read(["soup?", "cake?"], takes_objects=True) == ["soup?", "cake?"]
    assert read(DataSource("a"), takes_objects=True) == (DataSource("a"),)
    assert read([DataSource("a"), "b"], takes_objects=True) == (DataSource("a"), "b")
    assert read([Path("a"), Path("b")], takes_objects=True) == (Path("a"), Path("b"))
    assert read(Path("a"), takes_objects=True) == Path("a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "there is no source in the list"),
        (["x/a.jsonl", "y/a.csv"], "two sources have the name 'a'. Give each source a `name` of its own"),
        ([{"path": "a", "name": "one"}, {"path": "a", "name": "two"}], "two sources have the path 'a'. Name each path once"),
        ([{"path": "a", "weight": 2}, "b"], "the source 'b' has no weight and others have one. Give every source a weight, or none"),
        ([{"path": "a", "type": "alpaca", "columns": "alpaca"}], r"write it as columns: \{kind: alpaca, ...\}"),
        ([{"path": "a", "type": "chatml.intl"}], "there is no type 'chatml.intl' of rows. Did you mean 'chatml.intel'"),
        ([{"path": "a", "name": "x/y"}], "the name of a source"),
        ([{"path": "a", "wieght": 2}], "DataSource has no 'wieght'. Did you mean 'weight'"),
        (
            [{"path": "a", "weight": 0}],
            "the source .a. has the weight 0. Take the source out of the list to learn nothing of it, or give it",
        ),
        (["a.jsonl", {"path": "./a.jsonl", "name": "b"}], r"two sources have the path './a.jsonl'. Name each path once"),
        ([{"path": "a", "name": "my cook"}, {"path": "b", "name": "my_cook"}], "one name in metrics: 'my cook' and 'my_cook'. Give each"),
        ([""], "data is empty"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_remedy(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources_of(read(value))


def test_where_every_row_is_read_once_a_weight_is_refused() -> None:
    check_unweighted(read(["a", "b"]), None, "a")
    with pytest.raises(ConfigError, match="a weight would have no effect. Leave weights out, or give a source a `limit`"):
        check_unweighted(None, read([{"path": "a", "weight": 2}]))


def test_rows_of_several_files_keep_their_source_and_ids_apart(here: Path) -> None:
    data = read([{"path": "a.jsonl", "weight": 1, "name": "soups"}, {**B, "weight": 3}])
    table = read_data(data, "preferences.jsonl", read_preferences, None, RECOGNISED)
    assert [row.prompt.id for row in table.rows] == ["soups/q0", "soups/q1", "soups/q2", "b/q0", "b/q1", "b/q2"]
    assert [row.prompt.source_name for row in table.rows] == ["soups"] * 3 + ["b"] * 3
    assert [row.prompt.fields["source"] for row in table.rows] == ["soups"] * 3 + ["web"] * 3  # a row's own column stays
    assert [row.prompt.conversation[0].role for row in table.rows] == ["text"] * 3 + ["user"] * 3
    assert [row.kind for row in table.dropped] == ["empty completion"]
    assert (data_name(data), weights_of(data)) == ("soups + b", {"soups": 1, "b": 3})
    assert [row.prompt.id for row in read_data("a.jsonl", "preferences.jsonl", read_preferences, 1, RECOGNISED).rows] == ["q0"]


def test_a_source_has_its_own_limit_and_columns_before_those_of_the_stage(here: Path) -> None:
    data = read(["a.jsonl", {**B, "limit": 1}])
    assert len(read_data(data, "", read_preferences, 2, RECOGNISED).rows) == 2 + 1
    stage = QuestionAnswer(question="ask", chosen="good", rejected="bad")
    assert len(read_data(read([{"path": "b.jsonl"}]), "", read_preferences, None, stage).rows) == 3
    with pytest.raises(DataError, match=r"b.jsonl:1: the row has the columns id, ask, good, bad, source"):
        read_data(read(["a.jsonl", "b.jsonl"]), "", read_preferences, None, RECOGNISED)


def test_every_noun_keeps_its_source(here: Path) -> None:
    write_rows(here / "c.jsonl", [{"id": "1", "prompt": "soup?", "completion": " leeks", "label": True}])
    data = read(["c.jsonl", {"path": "a.jsonl", "limit": 1}])
    prompts = read_data(data, "", read_prompts, None, RECOGNISED)
    assert [(row.id, row.fields) for row in prompts.rows] == [("c/1", {"source": "c"}), ("a/q0", {"source": "a"})]
    (unpaired,) = read_data(read([{"path": "c.jsonl"}]), "", read_unpaired, None, RECOGNISED).rows
    assert (unpaired.id, unpaired.prompt.source_name) == ("c/1", "c")
    ((prompt, completions),) = read_data(read([{"path": "c.jsonl"}]), "", read_samples, None, RECOGNISED).rows
    assert (prompt.source_name, completions[0].text) == ("c", " leeks")
    further: dict[str, None] = {}
    rows = list(stream_data(read(["c.jsonl", B]), "", stream_demonstrations, None, RECOGNISED, further))
    assert ["dropped" if isinstance(row, Dropped) else row.source_name for row in rows] == ["c", "b", "b", "b", "dropped"]
    assert further == {"label": None, "source": None} or further == {"source": None}


def test_a_source_that_was_withdrawn_by_its_name_is_left_out_and_has_no_share(here: Path) -> None:
    data = read([{"path": "a.jsonl", "weight": 1}, {**B, "weight": 3}])
    with excluding(Exclusions((Exclusion("source", "b"),))):
        table = read_data(data, "", read_preferences, None, RECOGNISED)
        rows = list(stream_data(data, "", stream_demonstrations, None, RECOGNISED, {}))
        assert weights_of(data) == {"a": 1}
    assert {row.prompt.source_name for row in table.rows} == {"a"}
    assert [row.kind for row in table.dropped] == ["from a source that is excluded"] * 3 + ["empty completion"]
    assert {"" if isinstance(row, Dropped) else row.source_name for row in rows} == {"a", ""}
    assert weights_of(data) == {"a": 1, "b": 3}


def test_an_odd_name_is_a_word_in_metrics() -> None:
    assert [metric_word(name) for name in ("hh-rlhf", "owner/data:test", "my data (1)", "k\u00fcche", "a.b")] == [
        "hh-rlhf", "owner_data_test", "my_data__1_", "k\u00fcche", "a_b",
    ]  # fmt: skip


def test_sources_take_turns_and_one_source_keeps_its_order() -> None:
    assert taking_turns(["a1", "a2", "a3", "b1", "c1", "c2"], lambda row: row[0]) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert taking_turns([3, 1, 2], lambda _: "") == [3, 1, 2]


def test_a_source_that_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl"):
        read_data(read(["a.jsonl", "nothing.jsonl"]), "", read_prompts, None, RECOGNISED)


def test_a_run_stands_for_its_file(here: Path) -> None:
    (here / "run").mkdir()
    (here / "a.jsonl").rename(here / "run" / "preferences.jsonl")
    table = read_data(read(["run", B]), "preferences.jsonl", read_preferences, None, RECOGNISED)
    assert [row.prompt.id for row in table.rows][:1] == ["run/q0"]
