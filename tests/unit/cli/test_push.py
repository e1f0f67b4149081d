"""`palate push` against a hub on this machine, and without one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from palate.cli import main
from palate.cli.push_command import check_repository
from palate.core import ConfigError
from palate.models.adapters import LoRA
from palate.models.load import load_policy
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.testing import tiny_policy, word_tokenizer
from tests.support.local_hub import TOKEN, LocalHub, local_hub

PRIVATE = ("optimizer.safetensors.pt", "training_state.json", "judgments.jsonl", "ratings.db")
"""Files that a model does not consist of."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a real model, and beside it what nobody wants to publish."""
    root = tmp_path_factory.mktemp("runs")
    with open_run(root, RunPlan("soup", "sft")).active() as run:
        model = run.directory / "model"
        tiny_policy("qwen3", word_tokenizer()).save(model)
        for name in PRIVATE:
            (model / name).write_text("what a user wrote")
        (run.directory / "examples.jsonl").write_text('{"prompt": "hello"}\n')
        (root / "other.jsonl").write_text("")
    return run.directory


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with local_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the plain way for large files, which a small server speaks too
        yield running


def test_the_model_and_its_card_arrive_and_nothing_else(hub: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(run.rglob("*"))
    assert main(["push", str(run), "ann/soup", "--private", "--revision", "week-2", "--license", "apache-2.0"]) == 0
    shown = capsys.readouterr().out
    assert f"uploaded: {hub.url}/ann/soup/commit/abc" in shown
    assert hub.repositories == {"ann/soup": True}
    files = {path: content for (name, branch, path), content in hub.files.items() if (name, branch) == ("ann/soup", "week-2")}
    assert len(files) == len(hub.files)
    model = run / "model"
    kept = {path.name for path in model.iterdir()} - set(PRIVATE)
    assert set(files) == {"README.md", *kept}
    assert all(files[name] == (model / name).read_bytes() for name in kept)
    assert list(hub.objects.values()) == [(model / "model.safetensors").read_bytes()]
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "# soup\n" in card
    assert hub.messages == [run.name]
    assert f"not uploaded: {', '.join(sorted(PRIVATE))}" in shown
    assert sorted(run.rglob("*")) == before  # nothing is written here
    assert not any(str(run.parent).encode() in content for content in files.values())


def test_an_adapter_of_a_folder_names_a_base_that_others_can_load(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    tiny_policy("qwen3", word_tokenizer()).save(base)
    policy = load_policy(base).with_adapter(LoRA(rank=2), str(base), seed=0)
    with open_run(tmp_path / "runs", RunPlan("small", "sft")).active() as run:
        policy.save(run.directory / "adapter")
    error = fails(capsys, run.directory, 2)
    assert "is an adapter of" in error
    assert "--base" in error
    assert hub.files == {}
    assert "not the name of a repository" in fails(capsys, run.directory, 2, "--base", str(base))
    assert main(["push", str(run.directory), "ann/small", "--base", "ann/base"]) == 0
    files = {path: content for (_, _, path), content in hub.files.items()}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "ann/base"
    assert json.loads(files["base.json"])["base"] == "ann/base"
    assert not any(str(tmp_path).encode() in content for content in files.values())


def test_what_somebody_names_or_wrote_goes_too(hub: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = run / "model" / "README.md"
    try:
        card.write_text("---\nlibrary_name: peft\n---\n# Model Card for Model ID\n")
        assert main(["push", str(run), "ann/soup", "--also", "examples.jsonl"]) == 0
        assert hub.files["ann/soup", "main", "examples.jsonl"] == b'{"prompt": "hello"}\n'
        assert b"The stage `sft` made this model" in hub.files["ann/soup", "main", "README.md"]
        card.write_text("---\ntags:\n- palate\n---\n# By hand\n")
        assert main(["push", str(run), "ann/soup", "--message", "again"]) == 0
        assert hub.files["ann/soup", "main", "README.md"].endswith(b"# By hand\n")
        assert hub.messages[-1] == "again"
    finally:
        card.unlink()
    for name in ("../other.jsonl", "no.jsonl", "model"):
        assert main(["push", str(run), "ann/soup", "--also", name]) == 2
        assert "holds no such file" in capsys.readouterr().err


def test_a_dry_run_lists_and_asks_nobody(hub: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--dry-run", "--dry_run"):
        assert main(["push", str(run), "ann/soup", word]) == 0
        shown = capsys.readouterr().out
        size = (run / "model" / "config.json").stat().st_size
        assert f"{size:,} bytes  config.json" in shown
        assert "Nothing was sent" in shown
    assert hub.requests == []


def fails(capsys: pytest.CaptureFixture[str], run: Path, status: int, *words: str) -> str:
    assert main(["push", str(run), "ann/soup", *words]) == status
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error[error.index("palate: ") :]  # a bar of the upload may stand before it


def test_without_token_or_network_there_is_one_message(
    hub: LocalHub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "refuses the token (401)" in fails(capsys, run, 2)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert "hf auth login" in fails(capsys, run, 2)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fails(capsys, run, 2)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", nobody)
    assert f"{nobody} cannot be reached" in (error := fails(capsys, run, 4))
    assert "Nothing was written" in error
    assert hub.repositories == {}


def test_a_hub_that_fails_is_named_and_commits_nothing(hub: LocalHub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.fails = "/commit/"
    assert "answered 500" in (error := fails(capsys, run, 4))
    assert "No file was committed" in error
    assert hub.files == {}
    hub.fails = ""
    assert "exists already and is public" in fails(capsys, run, 2, "--private")
    assert hub.files == {}


def test_what_cannot_be_pushed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("soup", "a/b/c", "ann/", "ann/so up", "ann/so..up", "ann/.soup", "änn/soup"):
        with pytest.raises(ConfigError, match="not the name of a repository"):
            check_repository(name)
    check_repository("Ann-1/soup_v1.5")
    open_run(tmp_path, RunPlan("soup", "sft")).directory.joinpath("model").mkdir()
    assert "is not finished" in fails(capsys, next(tmp_path.iterdir()), 2)
    with open_run(tmp_path, RunPlan("empty", "sft")).active() as empty:
        (empty.directory / "model").mkdir()
    assert "has no weights" in fails(capsys, empty.directory, 2)
    assert "is not a run" in fails(capsys, tmp_path, 4)
