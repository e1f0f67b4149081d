"""Inputs of other people's reports about reinforcement learning, run as they stand, under the names that settings and modules have now.

They lie beside the repository, in shared/cases/rl. Each is a program that ends with `verdict(is_right, text)`.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from tests.support.repository import ROOT

CASES = ROOT.parent / "shared" / "cases" / "rl"
NAMES = (
    "02_function_edited", "05_trl_signature", "08_budget_ahead", "09_cut_paid_more", "12_judge_reply_cut", "13_guard_dead_end",
    "14_infinite_in_float32", "16_flat_groups_of_one", "17_preset_lengths", "19_exam_substring", "21_numpy_array_of_one",
    "22_record_only_part_stops_the_run", "24_cost_of_a_round_grows_with_the_data",
)  # fmt: skip
NOW = {
    "--steps": "--iterations", "--prompts_per_step": "--prompts_per_iteration", "--passes": "--epochs_per_batch",
    "missing_end": "missing_eos", "--sampler.ahead": "--sampler.asynchronous", "deadline=": "timeout_seconds=",
    "palate.engines.local": "palate.samplers.local", "palate.stores.formats": "palate.data.formats",
    "palate.recipes.evaluate import mark": "palate.evaluation.evals import grade as mark",
    "palate.rewards.common": "palate.config.answers", "palate.recipes.online.loop": "palate.stages.online.loop",
    "self.drawn": "self.prompts_taken", "l.places(": "l.prompts_from(", "class L(Loop):": "class L(Loop):\n    mixture = None",
    "import JudgeReward": "import JudgeReward; from palate.judges.endpoint import OpenAIJudge",
    "JudgeReward(url=": "JudgeReward(model=OpenAIJudge(url=", "max_failed=0.9)": "max_failed=0.9, run=run_here)",
    ', question="q", timeout_seconds=5)': ', timeout_seconds=5), instructions="helpful-pointwise")',
}  # fmt: skip
"""What the cases' programs call by a former name, and what it is called now."""

PATIENT = {
    "sample(tr, 200": "sample(tr, 50",  # a mean over 600 completions is exact enough
    "t[1000] + 0.05": "t[1000] + 1.0",  # the fault took seconds; a busy machine may take a tenth of one
}
"""What is changed in the cases, so that they are quick and do not depend on how fast the machine is."""


class Verdict(Exception):  # noqa: N818 (how a case ends)
    """How a case ends."""


def helpers(folder: Path) -> types.ModuleType:
    """The module of helpers that the cases import, without processes of their own."""
    text = (CASES / "_h.py").read_text()
    text = re.sub(r"HERE = Path\(tempfile.mkdtemp\(\)\).*", "", text)
    text = text[: text.index("def palate(")] + text[text.index("def rows(") :]
    found = types.ModuleType("_h")

    def palate(*words: object, ok: object = None) -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = main([NOW.get(word, word) if isinstance(word, str) else str(word) for word in words])
        assert not (ok and code), out.getvalue()[-1500:]
        return code, out.getvalue()

    def verdict(right: object, told: object) -> None:
        raise Verdict(bool(right), str(told))

    names = vars(found)
    names["__file__"] = str(CASES / "_h.py")
    exec(compile(text, "_h.py", "exec"), names)
    names.update(HERE=folder, palate=palate, verdict=verdict)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the case's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases/rl is not beside the repository")
@pytest.mark.parametrize("name", NAMES)
def test_a_case_ends_right(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CASES / f"{name}.py").read_text()
    for written, instead in {**NOW, **PATIENT}.items():
        text = text.replace(written, instead)
    text = text.replace("from _h import *\n", "")
    names: dict[str, Any] = dict(vars(helpers(folder)))
    names["run_here"] = open_run_at(folder / "run", RunPlan("case", "online"))
    before = set(sys.modules)
    with pytest.raises(Verdict) as ended:
        exec(compile(text, name, "exec"), names)
    for module in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
    is_right, told = ended.value.args
    assert is_right, told
