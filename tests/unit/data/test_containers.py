from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import json
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from palate.core import DataError, Message
from palate.data import containers
from palate.data.containers import read_container
from palate.data.formats import prompt_row, read_demonstrations, read_preferences, read_prompts, read_texts
from palate.data.hub import looks_like_hub
from palate.data.jsonl import write_rows

ROWS = [{"prompt": "a"}, {"prompt": "b é"}]


def texts(path: Path) -> list[str]:
    return [prompt.text for prompt in read_prompts(path).rows]


def save(path: Path, rows: list[dict[str, object]] | list[dict[str, str]] = ROWS) -> Path:
    """Rows under a name whose ending says how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        content = json.dumps(rows) if path.name.startswith("list") else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(content.encode(), mtime=0) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "list.json", "list.json.gz", "lines.json", "a.csv", "a.parquet", "d/a.parquet", "d/x/a.jsonl"]
)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name)
    for given in (path, path.parent):
        prompts = read_prompts(given).rows
        assert [prompt.text for prompt in prompts] == ["a", "b é"]
        assert [prompt.source for prompt in prompts] == [f"{path}:1", f"{path}:2"]
        assert prompts[1].id == f"{path.name}:2"


def test_a_json_object_with_data_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"version": 1, "data": ROWS}).encode())
    assert texts(tmp_path / "a.json") == ["a", "b é"]


def test_messages_survive_parquet_and_csv(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    save(tmp_path / "a.parquet", [{"messages": turns}])
    save(tmp_path / "a.csv", [{"messages": json.dumps(turns)}])
    for name in ("a.parquet", "a.csv"):
        assert read_demonstrations(tmp_path / name).rows[0].conversation == (Message("user", "a"), Message("assistant", "b"))


def test_numbers_of_a_csv_are_numbers_and_empty_cells_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'prompt,chosen,rejected,probability,weight,note\n"a\nb",c,d,0.5,,[{x\na,,d,1,,\na,c,d,high,,\na,c,d,1,2,3,4\n'
    )
    table = read_preferences(tmp_path / "a.csv")
    (pair,) = table.rows
    assert (pair.prompt.text, pair.probability, pair.weight, pair.prompt.fields) == ("a\nb", 0.5, 1.0, {"note": "[{x"})
    assert [(row.source[-2:], row.kind) for row in table.dropped] == [
        (":2", "no `chosen`"),
        (":3", "`probability` is not a number"),
        (":4", "more cells than columns"),
    ]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.csv", ",")])
def test_a_table_is_read_with_its_own_separator(tmp_path: Path, name: str, separator: str) -> None:
    lines = [["prompt", " level", "note"], ['"a, b; c"', "1", ""], ["", "", ""], ["b", "2"], ["c", "3", "x"]]
    (tmp_path / name).write_text("".join(separator.join(line) + "\r\n" for line in lines), newline="", encoding="utf-8")
    table = read_prompts(tmp_path / name)
    assert [(row.text, row.fields) for row in table.rows] == [("a, b; c", {"level": "1"}), ("c", {"level": "3", "note": "x"})]
    assert [(row.source[-2:], row.kind) for row in table.dropped] == [
        (":2", "null in every column that counts"),
        (":3", "fewer cells than columns"),
    ]


def test_values_of_parquet_are_those_of_json(tmp_path: Path) -> None:
    row = {
        "prompt": "a",
        "day": datetime.date(2024, 5, 6),
        "time": datetime.datetime(2024, 5, 6, 7, 8),
        "took": datetime.timedelta(seconds=90),
        "price": decimal.Decimal("2.50"),
        "number": decimal.Decimal("3"),
        "words": "é".encode(),
        "rates": [1.0, float("nan")],
        "inner": {"a": float("nan"), "b": None, "c": 1},
    }
    pq.write_table(pa.Table.from_pylist([row, {"prompt": "b"}]), tmp_path / "a.parquet")
    first, second = read_prompts(tmp_path / "a.parquet").rows
    assert first.fields == {
        "day": "2024-05-06",
        "time": "2024-05-06T07:08:00",
        "took": 90.0,
        "price": 2.5,
        "number": 3,
        "words": "é",
        "rates": [1.0, None],
        "inner": {"c": 1},
    }
    assert second.fields == {}
    write_rows(tmp_path / "b.jsonl", [prompt_row(first)])


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_what_could_not_be_written_is_dropped_when_it_is_read(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a", "score": float("inf")},
        {"prompt": "b", "score": float("nan")},
        {"prompt": "c", "score": 1.0},
    ]
    table = read_prompts(save(tmp_path / name, rows))
    assert [row.fields for row in table.rows] == [{}, {"score": 1.0}]
    assert [(row.source, row.kind) for row in table.dropped] == [(f"{tmp_path / name}:1", "`score` holds a number that is not finite")]
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "picture": b"\xff\xd8"}, {"prompt": "b"}]), tmp_path / "c.parquet")
    assert [row.kind for row in read_prompts(tmp_path / "c.parquet").dropped] == ["`picture` holds a value that JSON does not have"]


def test_single_messages_of_oasst_in_a_table_keep_what_is_deleted_out(tmp_path: Path) -> None:
    base = {"message_tree_id": "t", "parent_id": "m1", "role": "assistant", "review_result": "True", "deleted": "False"}
    rows = [
        {**base, "message_id": "m1", "parent_id": "", "role": "prompter", "text": "soup?", "rank": ""},
        {**base, "message_id": "m2", "text": "tin", "rank": "1.0"},
        {**base, "message_id": "m3", "text": "leeks", "rank": "0.0"},
        {**base, "message_id": "m4", "text": "gone", "rank": "2.0", "deleted": "True"},
        {**base, "message_id": "m5", "text": "refused", "rank": "3.0", "review_result": "False"},
    ]
    save(tmp_path / "a.csv", rows)
    assert [(row.chosen.text, row.rejected.text) for row in read_preferences(tmp_path / "a.csv").rows] == [("leeks", "tin")]


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["train.jsonl", "test.jsonl"], ["train.jsonl"]),
        (["training-00000-of-00002.jsonl", "training-00001-of-00002.jsonl", "eval.jsonl"], ["training-00000-of-00002.jsonl"]),
        (["train_prefs.jsonl", "test_prefs.jsonl"], ["train_prefs.jsonl"]),
        (["train/a.jsonl", "test/a.jsonl"], ["train/a.jsonl"]),
        (["train_1.jsonl", "train_2.jsonl", "dev.jsonl"], ["train_1.jsonl", "train_2.jsonl"]),
        (["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["train_prefs.jsonl", "train_sft.jsonl"], None),
        (["train.jsonl", "train_more.jsonl"], None),
        (["train-sft-00000-of-00001.jsonl", "train-gen-00000-of-00001.jsonl"], None),
        (["dev.jsonl", "test.jsonl"], None),
    ],
)
def test_which_files_of_a_directory_are_one_split(tmp_path: Path, files: list[str], read: list[str] | None) -> None:
    for name in files:
        save(tmp_path / name, [{"prompt": name}])
    if read is None:
        with pytest.raises(DataError, match="holds the splits .*; name the file"):
            read_prompts(tmp_path)
    else:
        assert texts(tmp_path)[: len(read)] == read


def test_a_saved_dataset_and_its_training_split(tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"test": Dataset.from_list([{"prompt": "t"}]), "train": rows}).save_to_disk(tmp_path / "two")
    assert texts(tmp_path / "one") == texts(tmp_path / "two") == texts(tmp_path / "two" / "train") == ["a", "b é"]
    assert texts(tmp_path / "two" / "test") == ["t"]
    assert read_prompts(tmp_path / "one").rows[0].source == f"{tmp_path / 'one'}:1"
    DatasetDict({"test": rows, "dev": rows}).save_to_disk(tmp_path / "three")
    with pytest.raises(DataError, match="holds the splits test, dev and none is `train`; give the split's own directory"):
        read_prompts(tmp_path / "three")


def test_a_damaged_saved_dataset_is_named(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="one: not a readable Hugging Face dataset"):
        read_prompts(tmp_path / "one")


def test_test_files_beside_training_files_are_not_read(tmp_path: Path) -> None:
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"):
        save(tmp_path / name, [{"prompt": name}])
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "dataset_infos.json").write_text("{}")
    save(tmp_path / ".cache" / "x.parquet")
    assert texts(tmp_path) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert [prompt.id for prompt in read_prompts(tmp_path).rows] == [f"{text}:1" for text in texts(tmp_path)]
    save(tmp_path / "other" / "test.jsonl")
    save(tmp_path / "other" / "dev.jsonl")
    with pytest.raises(DataError, match="holds the splits dev, test and none is `train`; name the file"):
        read_prompts(tmp_path / "other")


def test_a_directory_with_nothing_to_read_or_with_two_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no file that Palate reads.*\.jsonl"):
        read_prompts(tmp_path)
    save(tmp_path / "a.jsonl")
    save(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"files of 2 kinds \(\.csv, \.jsonl\)"):
        read_prompts(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"hello", r"Palate does not read files that end in '\.txt'\. Give JSON lines"),
        ("a", b"hello", "Palate does not read files that end in 'no suffix'"),
        ("a.txt.gz", b"hello", "does not read files that end in"),
        ("a.json", b'[\n{"prompt": "a"},\n{"prompt" "b"}\n]', r"a\.json:3: not JSON: Expecting ':' delimiter at column 11"),
        ("a.json", b'{"rows": []}', r"holds an object with 'rows'\. Give a list of rows, or an object with such a list under `data`"),
        ("a.json", b"3", "holds int"),
        ("a.json", b"[NaN]", "1 x not a JSON object"),
        ("a.json", b"[" * 100_000, "write one row per line"),
        ("a.json", "[]".encode("utf-16"), r"a\.json:1: is UTF-16 text, not UTF-8 text\. Save the file as UTF-8"),
        ("a.csv", "prompt,x".encode("utf-16-le"), r"a\.csv:1: is UTF-16 text"),
        ("a.csv", "prompt,x".encode("utf-16-be"), r"a\.csv:1: is UTF-16 text"),
        ("a.csv", "prompt".encode("utf-32"), r"a\.csv:1: is UTF-32 text"),
        ("a.csv", b"PK\x03\x04 ...", r"a\.csv:1: is a ZIP archive, as an Excel workbook is.* Save the sheet as CSV"),
        ("a.jsonl", b"PAR1 ...", r"a\.jsonl:1: is Parquet, not UTF-8 text\. Give it a name that ends in \.parquet"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"a\.jsonl:1: is gzip, .* a name that ends in \.gz"),
        ("a.csv", b"prompt,prompt\na,b\n", r"a\.csv:1: names the column 'prompt' twice"),
        ("a.csv", b'"prompt;x', r"a\.csv: not CSV near line \d"),
        ("a.json", b'[{"prompt": "\n\xff"}]', r"a\.json:2: not UTF-8 \(byte 15\)\. Save the file as UTF-8"),
        ("a.csv", b"prompt\n\xe9\n", r"a\.csv:2: not UTF-8"),
        ("a.csv", b'prompt\n"a', r"a\.csv: not CSV near line \d"),
        ("a.csv", b"", "holds no row"),
        ("a.jsonl", b'[{"prompt": "a"}]', "Write a list of rows to a file that ends in .json"),
        ("a.jsonl", b"\xff\xfe{\x00", r"a\.jsonl:1: is UTF-16 text, not UTF-8 text\. Save the file as UTF-8"),
        ("a.jsonl", b'{"prompt": "a"', r"1 x not JSON \(a\.jsonl:1\)\. The first, .*a\.jsonl:1: not JSON: Expecting ',' delimiter"),
        ("a.jsonl.gz", b"hello", "cannot be read"),
        ("a.json.gz", b"hello", "cannot be read"),
        ("a.parquet", b"hello", "not a readable Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_is_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_prompts(tmp_path / name)


def test_a_faulty_line_among_good_ones_is_dropped_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt"\n{"prompt": "a"}\n\n[]\n{"prompt": "\xff"}\n{"prompt": "b"}\n')
    table = read_prompts(tmp_path / "a.jsonl")
    assert [row.id for row in table.rows] == ["a.jsonl:2", "a.jsonl:6"]
    assert [(row.source[-2:], row.kind) for row in table.dropped] == [(":1", "not JSON"), (":4", "not a JSON object"), (":5", "not UTF-8")]


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("gone.jsonl", "data/gone.jsonl", "data/gone", "no/such/file"):
        with pytest.raises(DataError, match=rf"{name}: no such file or directory \(looked from {tmp_path}\)"):
            list(read_container(name))


def test_what_reads_as_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all(looks_like_hub(name) for name in ("trl-lib/ultrafeedback_binarized", "a/b.c", "owner/name:test"))
    assert not any(looks_like_hub(name) for name in ("name", "a/b/c", "/a/b", "./a", "a/b.jsonl", "a/b.parquet", "../a", "a/b:c d"))


def test_a_name_the_hub_does_not_give_is_a_message_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match="no-such-owner/no-such-name: there is no such local file or directory, and the .* hub did not return the dataset"
    ):
        read_prompts("no-such-owner/no-such-name")


@pytest.mark.parametrize(("package", "name"), [("datasets", "owner/name"), ("datasets", "saved"), ("pyarrow", "a.parquet")])
def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    save(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=f"not installed. Run: pip install {package}"):
        read_texts(name)


def test_reading_json_lines_loads_neither_pyarrow_nor_datasets_nor_torch(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jsonl")
    code = (
        "import sys; from palate.data.formats import read_prompts; read_prompts(sys.argv[1])\n"
        "print([name for name in ('torch', 'pyarrow', 'datasets', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["a.json.gz", "a.csv.gz"])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(containers, "MOST_UNPACKED", 1000)
    (tmp_path / name).write_bytes(gzip.compress(b'[{"a": 1}]' + b" " * 2000, mtime=0))
    with pytest.raises(DataError, match="unpacks to more than 1000 bytes"):
        list(containers.read_container(tmp_path / name))
