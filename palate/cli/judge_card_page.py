"""The report card of a judge in a terminal: the verdict first, then each figure with what it is measured against."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from palate.agreement import Estimate, nearest
from palate.agreement.judge_agreement import JudgeAgreement, WithPeople
from palate.agreement.judge_habits import Habit, JudgeHabits
from palate.cli.policy_page import ROWS, named_table, two_cells
from palate.evaluation.judge_calibration import FittedCalibration, Reliability
from palate.evaluation.judge_report import JudgedDimension, JudgeReport, findings, points, verdict
from palate.evaluation.judged_grades import GradeFigures
from palate.evaluation.mark_calibration import FittedMarks, MarkDistance
from palate.runs.console import Console


def show_card(report: JudgeReport, console: Console) -> None:
    """Print the card, a part for each dimension."""
    for number, one in enumerate(report.dimensions):
        if number:
            console.print()
        console.print(Text(verdict(report.judge, one), style="bold"), soft_wrap=True)
        found = findings(one) or ("The figures establish no flaw of this judge.",)
        for line in found:
            console.print(Text(f"- {line}"), soft_wrap=True)
        if one.grades is None:
            console.print(_agreement(one.agreement))
            more = (*_habits(one.habits), *_calibration(one), *_marks(one.marks), *_distance(one.distance))
        else:
            console.print(_by_criterion(one.agreement, one.grades))
            console.print(Text(_ABOUT_CRITERIA, style="dim"), soft_wrap=True)
            more = (f'says "met" more often than people: {points(one.grades.leniency)}', *_calibration(one))
        for line in (*_errors(one), *more):
            console.print(Text(line), soft_wrap=True)
    for line in _people(report):
        console.print(Text(line), soft_wrap=True)


def _agreement(agreement: JudgeAgreement) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("agrees with one person", "with ties", "interval", "without ties", "interval"):
        table.add_column(title, justify="left" if title.startswith("agrees") else "right")
    rows = {
        "this judge": agreement.judge,
        "another person": agreement.people,
        agreement.constant_answer: agreement.constant,
        "the longer one wins": agreement.longer,
        "this judge, with the majority of people": agreement.majority,
    }
    for name, figures in rows.items():
        table.add_row(Text(name), *_cells(figures))
    return table


def _by_criterion(agreement: JudgeAgreement, grades: GradeFigures) -> Table:
    """A line for all criteria, and one for each: how often the judge, another person and a constant answer say what one person says."""
    table = named_table("criterion", "grades", "agrees", "interval", "people", "constant", "answer")
    for name, own in (("all criteria", agreement), *((one.criterion, one.agreement) for one in grades.criteria[:ROWS])):
        share, interval = two_cells(own.judge.decided)
        people, constant = (f"{one.decided.value:.2f}" if one.decided.n else "-" for one in (own.people, own.constant))
        table.add_row(Text(name), str(own.votes), share, interval, people, constant, own.constant_answer)
    if len(grades.criteria) > ROWS:
        table.caption = f"the {ROWS} with most grades of {len(grades.criteria)}; --json has all"
    return table


def _cells(figures: WithPeople) -> Iterator[str]:
    for one in (figures.with_ties, figures.decided):
        yield f"{one.value:.1%}" if one.n else "-"
        yield "-" if math.isnan(one.low) else f"{one.low:.1%}, {one.high:.1%}"


_ABOUT_CRITERIA = "agrees: how often the judge says what one person says; people: how often another person does; constant: the best one."


def _errors(one: JudgedDimension) -> Iterator[str]:
    agreement = one.agreement
    what, few = ("pairs", "comparison") if one.grades is None else ("criteria of completions", "completion")
    yield f"{what}: {agreement.pairs}, votes of people: {agreement.votes}; errors by {'prompt' if one.is_by_prompt else few}"
    if agreement.over_constant.n:
        yield f"more than a constant answer{', without ties' if one.grades is None else ''}: {points(agreement.over_constant)}"
    if agreement.over_longer.n:
        yield f"more than the rule that the longer one wins: {points(agreement.over_longer)}"


def _habits(habits: JudgeHabits) -> Iterator[str]:
    flips = habits.flips
    if flips is None:
        yield "flips: not known, no pair was judged in both orders"
    else:
        parts = {"first both times": flips.to_first, "second both times": flips.to_second, "a tie once": flips.to_tie}
        kinds = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
        share = f"{flips.share.value:.1%} [{flips.share.low:.1%}, {flips.share.high:.1%}]"
        yield f"flips: {share} of {flips.share.n} pairs judged in both orders{f' ({kinds})' if kinds else ''}"
    yield f"shown first, log-odds: {_taste(habits.side)}"
    yield f"ten words more, log-odds: {_taste(habits.length)}"
    yield f"ten words more, beyond people: {_beyond(habits.length.beyond)}"
    own = f" ({', '.join(habits.policies)})" if habits.policies else ""
    yield f"its own style{own}, beyond people: {_beyond(habits.own.beyond) if habits.policies else 'not known, no policy is its own'}"


def _taste(habit: Habit) -> str:
    return f"judge {_logit(habit.judge)}, people {_logit(habit.people)}"


def _logit(taste: Estimate) -> str:
    if not taste.n or math.isnan(taste.value):
        return "not known"
    if math.isinf(taste.value):
        return f"{'above' if taste.value > 0 else 'below'} {nearest(taste):+.3f}"
    return f"{taste.value:+.3f} [{taste.low:+.3f}, {taste.high:+.3f}]"


def _beyond(taste: Estimate) -> str:
    return f"{points(taste)} (n {taste.n})" if taste.n else "not known; it takes 50 pairs with two votes of people, texts and policies"


def _calibration(one: JudgedDimension) -> Iterator[str]:
    fitted = one.fitted
    if fitted is None:
        return
    yield f"temperature: {fitted.calibration.temperature:.3f}, threshold: {_threshold(fitted)}"
    if not one.has_probabilities:
        yield "  it gave no probabilities; its verdicts count as certain, and the temperature says how far they can be trusted"
    what = "pairs" if one.grades is None else "criteria"
    yield f"fitted on {fitted.fitted} {what}, tested on {fitted.tested} of other prompts:"
    for name, figures in (("before", fitted.before), ("after", fitted.after)):
        yield f"  {name}: {_reliability(figures)}"


def _marks(marks: FittedMarks | None) -> Iterator[str]:
    if marks is None:
        return
    fitted = marks.calibration
    yield f"marks as a score in nats: (mark - {fitted.threshold:.3f}) / {fitted.temperature:.3f}; nats per mark {_logit(marks.slope)}"
    yield f"fitted on {marks.fitted} pairs, tested on {marks.tested} of other prompts:"
    rows = {
        "difference of scores": marks.calibrated,
        "pairs as `collect` takes them": marks.implied,
        "one half for every pair": marks.constant,
    }
    for name, figures in rows.items():
        yield f"  {name}: {_reliability(figures)}"
    yield f"  the length rule: {'not known, texts are missing' if marks.longer is None else _reliability(marks.longer)}"


def _distance(distance: MarkDistance | None) -> Iterator[str]:
    if distance is None:
        return
    yield f"distance from one person's mark, on {distance.completions} completions that people marked ({distance.marks} marks):"
    rows = {
        "this judge, on a line": distance.judge,
        "another person": distance.people,
        "a constant mark": distance.constant,
        "a line in the number of words": distance.longer,
    }
    for name, one in rows.items():
        known = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        yield f"  {name}: {known if one.n else 'not known, no completion has marks of two people'}"


def _threshold(fitted: FittedCalibration) -> str:
    if fitted.offset is None:
        return "0.5 (the orders shown are not known)"
    return f"{fitted.calibration.threshold:.3f}"


def _reliability(figures: Reliability) -> str:
    parts = {"log-loss": figures.log_loss, "Brier": figures.brier, "calibration error": figures.ece}
    return ", ".join(f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in parts.items())


def _people(report: JudgeReport) -> Iterator[str]:
    if report.people.get("simulated"):
        yield "the people are simulated raters"
    if not report.is_joined_by_text:
        yield "the files hold no texts, so their items were joined by name"
