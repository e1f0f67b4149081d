"""Standing controls: answers without content, scored beside a model's own. Where one is above the model, a score costs no content.

The texts are those of `palate reward-check`. There they compete with the better side of judged pairs, here with what a model says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.agreement.estimates import known
from palate.core import Completion, Gold, Prompt
from palate.data.jsonl import read_rows, write_rows
from palate.evaluation.empty_content import NOTHING, repeated
from palate.evaluation.evaluated_model import Row, is_known, matched
from palate.evaluation.intervals import Estimate, mean, paired_difference
from palate.evaluation.training_prompts import prompt_digest
from palate.runs.run import Run

FILE = "controls.jsonl"
"""The file of an evaluate run with its controls."""

CONTROLS: Mapping[str, Callable[[str, str], str | None]] = {
    "null answer": lambda _prompt, _own: NOTHING,
    "length only": lambda _prompt, own: repeated(own),
    "prompt copied": lambda prompt, _own: prompt,
}
"""What each control answers, from the prompt and the model's own completion; None where the completion gives none."""

FIGURES = {"score": "the reward", "gold": "the gold"}
"""What a control can win by, and what messages call it."""


@dataclass(frozen=True)
class Control:
    """A control's answer to a prompt, and its row, which gets the figures as they are measured."""

    prompt: Prompt
    answer: Completion
    row: dict[str, Any]


def control_answers(answered: Sequence[tuple[Prompt, Completion]], most: int) -> list[Control]:
    """Return every control's answer to each of the first `most` prompts."""
    controls = []
    for prompt, own in answered[:most]:
        asked = {"id": prompt.id, "prompt": prompt.text, "content": prompt_digest(prompt)}
        texts = {name: make(prompt.text, own.text) for name, make in CONTROLS.items()}
        controls += [
            Control(prompt, Completion(text), {"control": name, **asked, "text": text}) for name, text in texts.items() if text is not None
        ]
    return controls


def with_gold(controls: Sequence[Control], gold: Gold) -> list[float]:
    """Return the mean over the dimensions of gold for each answer."""
    found = [gold(control.prompt.text, control.answer.text, **control.prompt.fields) for control in controls]
    return [sum(dimensions.values()) / len(dimensions) for dimensions in found]


def written_controls(run: Run, controls: Sequence[Control], rows: Sequence[Row]) -> dict[str, object]:
    """Write the controls to `controls.jsonl`, warn where one is above the model, and return their figures for the summary.

    Args:
        run: the evaluate run.
        controls: the controls with their figures.
        rows: the model's own completions with theirs.
    """
    if not controls:
        return {}
    write_rows(run.directory / FILE, (control.row for control in controls))
    summary = controls_summary(_by_name(control.row for control in controls), rows)
    if warning := controls_warning(summary):
        run.warn(0, {"controls": warning}, {})
    return {"controls": summary}


def read_controls(directory: Path) -> dict[str, list[Row]]:
    """Return the rows of each control that an evaluate run scored; {} where it scored none."""
    path = directory / FILE
    return _by_name(row for _, row in read_rows(path)) if path.is_file() else {}


def _by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(str(row["control"]), []).append(row)
    return by_name


def advantage(control: Sequence[Row], model: Sequence[Row], figure: str) -> Estimate | None:
    """Return by how much a control is above a model on the prompts of both, paired; None where the figure is known for no pair."""
    both = [(own, other) for own, other in matched(control, model) if is_known(own, figure) and is_known(other, figure)]
    return paired_difference([float(own[figure]) for own, _ in both], [float(other[figure]) for _, other in both]) if both else None


def controls_summary(controls: Mapping[str, Sequence[Row]], rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return for each control and figure its mean and its advantage over the model's own completions, with an interval."""
    summary: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, own in controls.items():
        for figure in FIGURES:
            values = [float(row[figure]) for row in own if is_known(row, figure)]
            if values and (over := advantage(own, rows, figure)) is not None:
                figures = {"mean": mean(values).value, "over_model": over.value, "low": over.low, "high": over.high, "n": over.n}
                summary.setdefault(name, {})[figure] = {key: known(value) for key, value in figures.items()}
    return summary


def controls_warning(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Say which controls are above the model by more than chance; "" where none is."""
    above = [
        f"{FIGURES[figure]} puts the control {name!r} above the model by {found['over_model']:.2f} "
        f"(95 %: {found['low']:.2f} to {found['high']:.2f}, {found['n']} prompts)"
        for name, figures in summary.items()
        for figure, found in figures.items()
        if found["low"] is not None and found["low"] > 0
    ]
    return f"{'; '.join(above)}. A policy can earn this without content: check the reward with reward-check" if above else ""
