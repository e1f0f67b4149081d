"""The code of docs/python.md runs as it stands, from top to bottom."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

import palate
from palate.api.api_page import api_text, markdown_of
from palate.api.signatures import TYPES_FILE, types_text
from palate.models.causal import CausalPolicy
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES
from tests.support.pages import blocks_of
from tests.support.repository import ROOT


def blocks(language: str) -> list[str]:
    """The blocks of code in a language."""
    return [block.text for block in blocks_of((ROOT / "docs/python.md").read_text(encoding="utf-8")) if block.language == language]


def test_every_block_of_the_page_runs(base: CausalPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    base.save(tmp_path / "base")
    names: dict[str, object] = {"__name__": "__main__"}
    found = blocks("python")
    assert len(found) == 10
    for number, code in enumerate(found):
        module = re.match(r"# (my_\w+\.py)\n", code)
        if module is not None:
            (tmp_path / module[1]).write_text(code)
        else:
            exec(compile(code, f"docs/python.md block {number}", "exec"), names)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the cook"}\n')
    (tmp_path / "p.yaml").write_text(blocks("yaml")[0])
    assert set(yaml.safe_load(blocks("yaml")[0])["stages"]) == {"online"}
    (planned,) = plan_pipeline(read_pipeline(tmp_path / "p.yaml"), tmp_path / "runs", STAGES)
    assert {parent.field for parent in planned.plan.parents} >= {"method.advantage.kind", "rewards.polite.function"}
    for name in ("my_rules", "my_stages"):
        sys.modules.pop(name, None)


def test_an_own_rule_and_reward_take_less_than_thirty_lines() -> None:
    (code,) = [block for block in blocks("python") if block.startswith("# my_rules.py")]
    assert len(code.splitlines()) < 30


def test_the_page_of_the_api_is_up_to_date_and_has_every_public_name() -> None:
    text = api_text(STAGES)
    assert (ROOT / "docs/api.md").read_text() == text, "run `palate reference`"
    public = [name for name in palate.__all__ if name != "__version__"]
    assert [name for name in public if f"`palate.{name}`" not in text and f"### palate.{name}\n" not in text] == []


def test_a_docstring_becomes_markdown() -> None:
    doc = "Do it.\n\nArgs:\n    one: the first,\n        on two lines.\n    two (int): the second.\n\nRaises:\n    ConfigError: it cannot."
    assert "\n".join(markdown_of(doc)) == (
        "Do it.\n\nArgs:\n\n- `one`: the first, on two lines.\n- `two`: the second.\n\nRaises:\n\n- `ConfigError`: it cannot."
    )


def test_the_types_of_the_public_names_are_up_to_date() -> None:
    assert TYPES_FILE.read_text() == types_text(STAGES), "run `palate reference`"
