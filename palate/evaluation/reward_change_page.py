"""What stage `refresh` shows: the page, and the lines below the table."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.agreement import LearningCurve
from palate.core import Completion, Prompt
from palate.data.files import write_atomic
from palate.evaluation.intervals import proportion
from palate.evaluation.report.change import Change, ChangeOn, Moved, RescoredCompletion, lines
from palate.evaluation.reward_change import Compared, Ranked
from palate.evaluation.reward_model import calibration_bins
from palate.runs.record import read_record
from palate.runs.run import Run

PAGE = "refresh.html"
SHOWN = 6
"""Prompts shown whose best completion is another one now."""
BINS = 5
"""Groups of stated probabilities: a refresh has few judgments."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found, before it is put into words."""

    reward: str
    samples: Sequence[tuple[Prompt, tuple[Completion, ...]]]
    compared: Mapping[str, Compared]
    ranked: Ranked
    curve: LearningCurve | None
    asked_next: int


def change_of(run: Run, found: Refreshed) -> Change:
    """The record that the page is made of."""
    told, moved = found.ranked.told(), found.ranked.moved
    record = read_record(run.directory)
    facts = () if record is None else (("run", record.name), ("seed", str(run.seed)), ("versions", _listed(record.versions)))
    return Change(
        subtitle=f"It went on from {_near(found.reward)} with {found.compared['new'].size} of the new judgments kept back for this test.",
        tests=tuple(_test(name, one) for name, one in found.compared.items()),
        spread=(told["spread_before"], told["spread_after"]),
        correlation=told["correlation"],
        prompts=sum(len(scores) > 1 for scores in found.ranked.before),
        best_changed=len(moved),
        moved=tuple(_moved(found, k) for k in moved[:SHOWN]),
        curve=found.curve,
        asked_next=found.asked_next,
        commands=commands(found.reward, run.directory),
        facts=facts,
    )


def commands(reward: str, directory: Path) -> tuple[tuple[str, str], ...]:
    """What to type to use the new model under a name that settings can give, and to go back; each with a word before it."""
    place = Path(reward)
    link = place if place.is_symlink() else directory.parent / "reward"
    named = _near(str(link))
    first = () if link.is_symlink() else (("once, a name for the model in use", f"palate swap {named} {_near(reward)}"),)
    return (*first, ("swap it in", f"palate swap {named} {_near(str(directory))}"), ("and back", f"palate swap {named} --back"))


def told_of(change: Change, directory: Path) -> tuple[str, ...]:
    """What a terminal says: the advice, the forecast, where the page is, and the commands."""
    typed = (f"{label}: {command}" for label, command in change.commands)
    return (*lines(change), f"page: {_near(str(directory / PAGE))}", *typed)


def write_change(change: Change, path: Path) -> None:
    """Writes the page. Loads what draws it."""
    from palate.evaluation.report.change_page import render_change

    write_atomic(path, render_change(change))


def _test(name: str, one: Compared) -> ChangeOn:
    figures = one.told()
    then, now = one.right
    return ChangeOn(
        name,
        proportion(then),
        proportion(now),
        one.change,
        (figures["before"]["log_loss"], figures["after"]["log_loss"]),
        (figures["before"]["calibration_error"], figures["after"]["calibration_error"]),
        (calibration_bins(one.before, BINS), calibration_bins(one.after, BINS)),
    )


def _moved(found: Refreshed, k: int) -> Moved:
    prompt, completions = found.samples[k]
    then, now = found.ranked.before[k], found.ranked.after[k]
    was, best = int(then.argmax()), int(now.argmax())
    sides = (RescoredCompletion(completions[i].text, (float(then[i] - then.mean()), float(now[i] - now.mean()))) for i in (was, best))
    return Moved(prompt.text, *sides)


def _near(path: str) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def _listed(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)
