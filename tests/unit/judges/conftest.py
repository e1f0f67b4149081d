"""A chat server for judges, samples to compare, and a run of stage collect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palate.data.jsonl import read_rows, write_rows
from palate.judges.endpoint import OpenAIJudge
from palate.judges.judge_rater import JudgeRater
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.stages.collect import Collect


def samples(folder: Path, prompts: int = 6, completions: int = 2) -> str:
    """A samples.jsonl whose completions are numbers; the larger one is better."""
    rows = [
        {
            "id": f"p{k}",
            "prompt": [{"role": "user", "content": f"question {k}"}],
            "completions": [{"text": f"answer {k} {(j * 7 + k) % 10}", "stop": "eos", "tokens": 3} for j in range(completions)],
        }
        for k in range(prompts)
    ]
    write_rows(folder / "samples.jsonl", rows)
    return str(folder)


def worth(text: str) -> int:
    """How good a completion is."""
    return int(text.split()[-1])


def collected(directory: Path, given: str, judge: JudgeRater, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """The summary of a run of stage collect in a directory."""
    stage = Collect(given, judge, **{"dimensions": ("helpful",), "held_out": 0.0, **settings})
    stage.check()
    with open_run_at(directory, RunPlan("judged", "collect", seed=seed)).active() as run:
        stage.run(run)
    found: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return found


def rows(directory: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file of a run."""
    return [dict(row) for _, row in read_rows(directory / f"{name}.jsonl")]


def endpoint(url: str = "http://127.0.0.1:1/v1", **settings: Any) -> OpenAIJudge:
    return OpenAIJudge(url=url, model="small", **settings)
