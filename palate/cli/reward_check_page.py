"""The report of `palate reward-check` in a terminal: the verdict first, then each figure beside what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from palate.agreement.estimates import Estimate
from palate.evaluation.reward_check.accuracy import GroupAccuracy
from palate.evaluation.reward_check.attacks import AttackResult
from palate.evaluation.reward_check.benchmark_figures import BenchmarkFigures
from palate.evaluation.reward_check.check_report import RewardCheck
from palate.runs.console import Console

ROWS = 12
"""Groups of one kind that the page has, at most."""

STYLES = {"passes": "bold green", "faulty": "bold red", "open": "bold yellow"}


def show_check(check: RewardCheck, console: Console) -> None:
    """Print the verdict, the faults, accuracy and its floors, groups, calibration, length, adversarial sets and doubts."""
    console.print(Text(check.sentence, style=STYLES[check.verdict]), soft_wrap=True)
    for fault in check.faults:
        console.print(Text(f"- {fault.name}: {fault.sentence}", style="red"), soft_wrap=True)
    for line in (*_notes(check), *_accuracy(check)):
        console.print(Text(line), soft_wrap=True)
    groups = {"dimension": check.dimensions, "rater": check.raters, "source": check.sources, "prompts with": check.clusters}
    for title, found in groups.items():
        if len(found) > 1 or (title == "rater" and found):
            console.print(_groups(title, found))
    if check.gaps:
        console.print(_groups("score gap", check.gaps))
    for line in (*_calibration(check), *_length(check)):
        console.print(Text(line), soft_wrap=True)
    if check.attacks:
        console.print(_attacks(check.attacks, check.attack_limit))
    for line in (*_habits(check), *_doubts(check)):
        console.print(Text(line), soft_wrap=True)
    if check.benchmark is not None:
        console.print(_benchmark(check.benchmark))


def _notes(check: RewardCheck) -> Iterator[str]:
    yield f"{check.pairs} pairs of {check.prompts} prompts, scored by {', '.join(check.models)}"
    for reason, count in check.left_out.items():
        yield f"left out: {count} x {reason}"
    for note in check.notes:
        yield f"note: {note}"


def _accuracy(check: RewardCheck) -> Iterator[str]:
    figures = check.figures
    yield f"accuracy: {share(figures.accuracy)}; log loss {check.log_loss:.3f} (a coin toss has 0.693)"
    yield f"floors: longer wins {share(figures.longer)}, shorter wins {share(figures.shorter)}"
    if figures.writer is not None:
        yield f"floor by writer (who wins more often wins): {share(figures.writer)} of {figures.writer.n} prompts"
    yield f"above the better length rule: {signed(figures.over_length)}"
    ceiling = "not known, no pair has two votes" if figures.ceiling is None else f"{figures.ceiling:.1%}"
    yield f"ceiling by raters: {ceiling}; who knew each pair's majority would reach {figures.majority:.1%}"


def _groups(title: str, groups: Sequence[GroupAccuracy]) -> Table:
    table = _table(title, "pairs", "accuracy", "interval", "length rule")
    shown = groups if len(groups) <= ROWS else sorted(groups, key=lambda one: -one.pairs)[:ROWS]
    for one in shown:
        known = one.accuracy
        table.add_row(
            Text(one.name), str(one.pairs), f"{known.value:.1%}", f"{known.low:.1%} to {known.high:.1%}", f"{one.length_rule:.1%}"
        )
    if len(groups) > ROWS:
        table.caption = f"the {ROWS} with most pairs of {len(groups)}; --json has all"
    return table


def _calibration(check: RewardCheck) -> Iterator[str]:
    yield f"calibration error: {check.calibration_error:.3f} over {len(check.calibration)} bins (0 is calibrated; few pairs raise it)"
    for one in check.calibration:
        yield f"  says {one.predicted:.2f}, came true {one.observed.value:.2f} of {one.observed.n}"


def _length(check: RewardCheck) -> Iterator[str]:
    length = check.length
    if length is None:
        yield "length: all pairs have sides of one length, so its effect is not known"
        return
    yield f"length: {signed(length.effect, digits=2)} sd of score for one sd of length, quality held fixed"
    yield f"  correlation of scores with length, whichever side won: {signed(length.correlation, digits=2)}"
    if (before := check.length_before) is not None:
        yield f"  of --before: {signed(before.effect, digits=2)} sd; correlation {signed(before.correlation, digits=2)}"
    parts = {"has that length": length.agreeing, "has the other": length.against}
    known = ", ".join(f"{share(one)} where the better side {name}" for name, one in parts.items() if one is not None)
    yield f"  picks the {length.prefers} side on {share(length.follows)}; right on {known}"


def _attacks(attacks: Sequence[AttackResult], limit: float) -> Table:
    table = _table("adversarial set", "wins", "interval", "before", "prompts", "")
    for one in attacks:
        verdict = "fault" if one.is_fault(limit) else "" if one.is_held(limit) else "not shown"
        interval = f"{one.wins.low:.1%} to {one.wins.high:.1%}"
        table.add_row(Text(one.name), f"{one.wins.value:.1%}", interval, f"{one.before.value:.1%}", str(one.wins.n), verdict)
    table.caption = (
        f"wins: how often the better side has the higher score (limit {limit:.0%}); before: against the worse side of the same pairs"
    )
    return table


def _habits(check: RewardCheck) -> Iterator[str]:
    habits = check.habits
    if not habits.is_recorded:
        yield "tokenizer: the model does not say which one it was trained with"
    elif not habits.changed:
        yield "tokenizer: the one that it was trained with"
    if habits.unknown is not None and habits.unknown.value > 0:
        yield f"unknown tokens: {share(habits.unknown)} of the completions"
    if habits.split_marks:
        yield f"note: the tokenizer takes marks of its chat template apart: {', '.join(habits.split_marks)}"
    if (own := habits.likelihood) is not None:
        yield f"its own language model: {own.mean.value:.2f} nats per token of the completions, a guess has {own.guess:.2f}"
    for way in habits.renderings:
        yield f"written {way.name}: accuracy {share(way.accuracy)}, {signed(way.gain)}"
    yield f"largest change of a score with order and neighbours: {check.change:.1e}"


def _doubts(check: RewardCheck) -> Iterator[str]:
    disagreement, known = check.disagreement, check.familiarity
    if disagreement is not None:
        yield f"ensemble: wrong on {share(disagreement.agreed)} where it agrees, on {share(disagreement.disputed)} where it disagrees"
        yield "  " + ("disagreement warns of errors" if disagreement.warns else "disagreement is not shown to warn of errors")
        if not math.isnan(disagreement.correlation):
            yield f"  rank correlation of disagreement with error: {disagreement.correlation:+.2f}"
    if (novelty := check.novelty) is not None:
        yield f"new completions: the members differ by {novelty.new:.2f} sd on them, by {novelty.usual:.2f} sd on the pairs"
        yield f"  beyond 95 % of the pairs' completions: {share(novelty.beyond)} of {novelty.completions}, 5 % expected"
        if novelty.is_warning:
            yield "  warning: the ensemble does not know such completions; do not trust scores on which its members disagree"
    if known is None:
        yield "familiar texts: not known; give --reference FILE with completions that the model knows"
        return
    yield f"unfamiliar completions: {share(known.unfamiliar)}, 5 % expected"
    yield f"  {known.new:.1%} of their neighbouring tokens are new; {known.usual:.1%} is usual"
    if known.is_warning:
        yield "  warning: these texts are unlike those that the model knows, so trust its scores less"


def _benchmark(figures: BenchmarkFigures) -> Table:
    table = _table(figures.kind, "rows", "score")
    for one in (*figures.subsets, *figures.sections):
        table.add_row(Text(one.name), str(one.rows), f"{one.score:.4f}")
    if figures.score is not None:
        table.add_row("mean of sections" if figures.sections else "mean of subsets", "", f"{figures.score:.4f}")
    if figures.unscored:
        table.caption = f"{figures.unscored} completions have no score, and count against the model"
    return table


def share(estimate: Estimate) -> str:
    """Return a share with its interval."""
    interval = "interval not known" if math.isnan(estimate.low) else f"{estimate.low:.1%}, {estimate.high:.1%}"
    return f"{estimate.value:.1%} [{interval}]"


def signed(estimate: Estimate, digits: int = 3) -> str:
    """Return a difference with its interval."""
    interval = "interval not known" if math.isnan(estimate.low) else f"{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}"
    return f"{estimate.value:+.{digits}f} [{interval}]"


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for k, title in enumerate(titles):
        table.add_column(title, justify="left" if k == 0 or not title else "right", no_wrap=True)
    return table
