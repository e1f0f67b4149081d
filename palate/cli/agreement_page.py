"""The report on raters in a terminal: each figure with what it means."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from palate.agreement import AgreementReport, Bias, Estimate, LearningCurve, RaterReport, advice, favoured, favoured_words, nearest
from palate.cli.policy_page import ROWS, named_table, show_policies, two_cells
from palate.data.judge_names import UNCALIBRATED, UNKNOWN_CALIBRATION, titled
from palate.runs.console import Console

_OTHER = {"shown first": "shown second", "longer": "shorter"}

_COLUMNS = (
    "agrees: how often other raters give the same answer; by chance: the same for random answers in this rater's shares; "
    "reliability: probability of the true answer (one-coin model); tests right: of hidden tests; first shown: share of decided votes."
)


def show_agreement(report: AgreementReport, console: Console) -> None:
    """Print the report: agreement, biases, raters, pairs of raters, how many more labels help, what to do."""
    console.print(Text(_title(report), style="bold"), soft_wrap=True)
    for line in (*_left_out(report), *_agreement(report), *_repeats(report), *_ceiling(report), *_sway(report), *_pace(report)):
        console.print(Text(line), soft_wrap=True)
    if len(report.dimensions) > 1:
        console.print(_dimensions(report))
    if report.policies:
        show_policies(report, console)
    if report.judges:
        console.print(_judges(report))
        if (of_rankings := _habits_of_rankings(report)) is not None:
            console.print(of_rankings)
        for line in _about_judges(report):
            console.print(Text(line, style="dim"), soft_wrap=True)
    if report.by_rater:
        console.print(_raters(report))
        console.print(Text(_COLUMNS, style="dim"))
    if report.pairs:
        console.print(_pairs(report))
    for line in _curve(report.curve):
        console.print(Text(line), soft_wrap=True)
    console.print(Text("what to do", style="bold"))
    for line in advice(report):
        console.print(Text(f"- {line}"), soft_wrap=True)


def _title(report: AgreementReport) -> str:
    """The numbers of votes, raters and questions. Which completion a file calls the first says nothing, so those are not told apart."""
    if "tie" in report.names:
        answers = f"{report.votes - report.ties} decided, {report.ties} tie"
        of = "pairs" if len(report.dimensions) == 1 else "questions, a pair on a dimension each"
    else:
        answers = ", ".join(f"{count} {name}" for name, count in zip(report.names, report.answers, strict=True))
        of = "criteria of completions" if "met" in report.names else "questions about a rule"
    by = [f"{report.raters} raters"] if report.raters or not report.unnamed else []
    unnamed = [f"{report.unnamed} of them by raters without a name"] if report.unnamed else []
    return f"{report.votes} votes ({answers}) {'of ' if by else ''}{', '.join(by + unnamed)} on {report.items} {of}"


def _left_out(report: AgreementReport) -> Iterator[str]:
    if report.repeats is not None:
        earlier = f"{report.repeats.earlier} earlier votes of raters who answered the same pair again"
        counts = "the last one counts" if not report.averaged else "of a rater who gives probabilities their mean counts, else the last one"
        yield f"left out of agreement: {earlier}; {counts}"
    for reason, count in report.left_out:
        yield f"left out: {count} x {reason}"


def _repeats(report: AgreementReport) -> Iterator[str]:
    if report.repeats is not None:
        turned = report.repeats.turned
        of_turned = "" if turned is None else f"; {_share(turned)} where the sides were exchanged"
        yield f"raters repeat their own answer: {_share(report.repeats.same)}{of_turned}"


def _agreement(report: AgreementReport) -> Iterator[str]:
    if not report.doubles:
        yield "no question has two votes, so agreement cannot be measured. Have some questions judged twice."
        return
    yield f"two votes or more: {report.doubles} questions"
    yield f"raters agree: {_share(report.agreement)} with ties, {_share(report.agreement_without_ties)} without"
    yield f"Krippendorff's alpha (0 is chance, 1 full agreement): {_number(report.alpha)}: {_word(report.alpha.value)}"
    by_level = f"{_number(report.alpha_ordinal)} ordinal, {_number(report.alpha_interval)} interval"
    yield f"  with a tie between the sides: {by_level}" + _strengths(report.alpha_strength)
    cohen = "not known for" if math.isnan(report.cohen) else f"{report.cohen:.3f}"
    yield f"kappa: {cohen} Cohen's (mean over pairs of raters), {report.fleiss:.3f} Fleiss'"


def _strengths(alpha: Estimate | None) -> str:
    return "" if alpha is None else f"; of strengths {_number(alpha)}"


def _word(alpha: float) -> str:
    """What a value of alpha means for preferences."""
    if math.isnan(alpha):
        return "only one answer was ever given"
    if alpha < 0.1:
        return "hardly better than chance; improve the question and the guidelines before you ask more"
    if alpha < 0.4:
        return "weak, as crowds often are; smooth the votes, and ask several raters per pair"
    return "good for preferences" if alpha < 0.67 else "strong"


def _ceiling(report: AgreementReport) -> Iterator[str]:
    if report.ceiling is not None:
        yield f"ceiling: no reward model can predict one such rater more often than {report.ceiling.accuracy:.1%} (ties left out)"


def _sway(report: AgreementReport) -> Iterator[str]:
    unseen, unread = "the file does not say who stood where", "the file does not hold the texts"
    biases = (("shown first", "", report.side, unseen), ("longer", " for ten words more", report.length, unread))
    for name, unit, bias, why in biases:
        if bias.share.n:
            if math.isnan(bias.logit.value):
                yield f"{name} wins: {_share(bias.share)} of decided votes; these votes do not tell a habit from quality"
            elif math.isinf(bias.logit.value):
                side = name if bias.logit.value > 0 else _OTHER[name]
                even = f"{side} wins {favoured_words(bias)} of even pairs{unit}" if bias.logit.excludes_zero else "too few to say more"
                yield f"{name} wins: {_share(bias.share)} of decided votes, without exception; {even} ({_odds(bias)})"
            else:
                even = f"{favoured(bias) if bias.logit.value > 0 else 1 - favoured(bias):.1%}"
                yield f"{name} wins: {_share(bias.share)} of decided votes, {even} of even pairs{unit} ({_odds(bias)})"
        else:
            yield f"{name} wins: not known, {why}"


def _odds(bias: Bias) -> str:
    logit = bias.logit
    spread = ", error for other raters not known" if math.isnan(bias.rater_se) else f", or +- {bias.rater_se:.3f} for other raters"
    of = f"; strengths of {bias.policies} policies taken out" if bias.policies else ""
    if math.isinf(logit.value):
        return f"log-odds {'above' if logit.value > 0 else 'below'} {nearest(logit):+.3f}{spread}{of}"
    error = "error not known" if math.isnan(logit.se) else f"+- {logit.se:.3f}"
    return f"log-odds {logit.value:+.3f} {error}{spread}{of}"


def _pace(report: AgreementReport) -> Iterator[str]:
    if report.pace is not None:
        p = report.pace
        yield f"seconds a vote: {p.median:.1f} median, {p.quarter:.1f} to {p.three_quarters:.1f} in the middle half, {p.p95:.1f} at 95 %"


def _dimensions(report: AgreementReport) -> Table:
    table = named_table("criterion" if "met" in report.names else "dimension", "votes", "alpha", "interval")
    for row in report.dimensions:
        table.add_row(Text(row.dimension), str(row.votes), *two_cells(row.alpha))
    return table


def _raters(report: AgreementReport) -> Table:
    table = named_table(
        "rater", "votes", "agrees", "interval", "by chance", "reliability", "tests right", "first shown", "ties", "seconds", ""
    )
    for rater in report.by_rater[:ROWS]:
        table.add_row(*_rater(rater))
    if len(report.by_rater) > ROWS:
        table.caption = f"the {ROWS} with most votes of {len(report.by_rater)}; --json has all"
    return table


def _judges(report: AgreementReport) -> Table:
    table = named_table("judge (a model)", "dimension", "votes", "pairs", "agrees", "interval", "people", "flips", "cost")
    for one in report.judges:
        agrees, interval = two_cells(one.decided) if one.decided.n else ("-", "-")
        people = f"{one.people.value:.2f}" if one.people.n else "-"
        flips = "-" if one.flips is None else f"{one.flips.value:.1%}"
        cost = "-" if one.cost is None else f"{one.cost:.4g}"
        title = Text(titled(one.judge, is_calibrated=one.is_calibrated))
        table.add_row(title, Text(one.dimension), str(one.votes), str(one.pairs), agrees, interval, people, flips, cost)
    return table


def _habits_of_rankings(report: AgreementReport) -> Table | None:
    """A line for each judge who ranked three completions or more in known orders; None without any."""
    found = [(one, one.habits) for one in report.judges if one.habits is not None]
    if not found:
        return None
    table = named_table("judge (a model)", "dimension", "rankings", "orders agree", "first wins", "by chance")
    for one, habits in found:
        tau = "-" if habits.tau is None else f"{habits.tau.value:.2f}"
        first = f"{habits.first_place.value:.1%}"
        table.add_row(Text(one.judge), Text(one.dimension), str(habits.rankings), tau, first, f"{habits.chance:.1%}")
    return table


def _about_judges(report: AgreementReport) -> Iterator[str]:
    yield (
        "agrees: how often the judge says what one person says, without ties; people: how often another person does; flips: verdicts that "
        "change with the order of the sides."
    )
    if any(one.habits is not None for one in report.judges):
        yield (
            "Of rankings, orders agree: Kendall's tau between two orders of a comparison, 1 where the order changes nothing; first wins: "
            "how often what is shown first is ranked first; by chance: the same without a habit."
        )
    for words, status in (("calibrated with its card", True), (UNCALIBRATED, False), (UNKNOWN_CALIBRATION, None)):
        if named := dict.fromkeys(one.judge for one in report.judges if one.is_calibrated is status):
            yield f"{words}: {', '.join(named)}{'' if status else '. Measure it on people with `palate judge-fit`'}"
    if any(one.pairs for one in report.judges):
        yield "All other figures are of people alone."
    else:
        yield "Nobody but models judged here, so all other figures are of models, and none of them says what people would."


def _rater(rater: RaterReport) -> list[Text]:
    agrees, interval = ("-", "-") if rater.agreement is None else two_cells(rater.agreement)
    cells = [
        rater.rater,
        str(rater.votes),
        agrees,
        interval,
        "-" if rater.expected is None else f"{rater.expected:.2f}",
        f"{rater.reliability:.2f}",
        "-" if rater.gold is None else f"{rater.gold.value:.0%} of {rater.gold.n}",
        "-" if rater.first_shown is None else f"{rater.first_shown.value:.0%}",
        f"{rater.ties:.0%}",
        "-" if rater.seconds is None else f"{rater.seconds:.1f}",
        "guessing?" if rater.is_guessing else "",
    ]
    return [Text(cell, style="yellow" if rater.is_guessing else "") for cell in cells]


def _pairs(report: AgreementReport) -> Table:
    table = named_table("rater", "and", "common", "agree", "kappa")
    for pair in report.pairs[:ROWS]:
        kappa = "-" if math.isnan(pair.kappa) else f"{pair.kappa:.2f}"
        table.add_row(Text(pair.one), Text(pair.other), str(pair.items), f"{pair.agreement:.0%}", kappa)
    return table


def _curve(curve: LearningCurve | None) -> Iterator[str]:
    if curve is None:
        yield "how many more: not known. Give --curve RUN with a run of stage refresh, which measures it."
        return
    for point in curve.measured:
        yield f"accuracy with {point.labels} labels: {point.accuracy:.1%} (of {point.pairs} held-out pairs)"
    yield f"fitted: {curve.limit.value:.3f} - {curve.gap:.3f} labels^-{curve.exponent:.2f}"
    for forecast in curve.forecasts:
        yield f"expected with {forecast.labels}: {_share(forecast.accuracy)}"
    needed = curve.needed
    yield curve.sentence()
    yield f"labels for {curve.target:.1%}: {_labels(needed.value)} ({_labels(needed.low)} to {_labels(needed.high)})"


def _labels(number: float) -> str:
    return f"{number:.0f}" if number < 1e9 else "more than anybody can collect"


def _share(estimate: Estimate) -> str:
    interval = "interval not known" if math.isnan(estimate.low) else f"{estimate.low:.1%}, {estimate.high:.1%}"
    return f"{estimate.value:.1%} [{interval}]"


def _number(estimate: Estimate) -> str:
    interval = "interval not known" if math.isnan(estimate.low) else f"{estimate.low:.3f}, {estimate.high:.3f}"
    return f"{estimate.value:.3f} [{interval}]"
