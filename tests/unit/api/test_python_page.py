"""The code of docs/python.md runs as it stands, from top to bottom."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from palate.api.signatures import TYPES_FILE, types_text
from palate.models.causal import CausalPolicy
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES
from tests.support.repository import ROOT


def blocks(language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs/python.md").read_text(), flags=re.MULTILINE | re.DOTALL)


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


def test_the_types_of_the_public_names_are_up_to_date() -> None:
    assert TYPES_FILE.read_text() == types_text(STAGES), "run `palate reference`"
