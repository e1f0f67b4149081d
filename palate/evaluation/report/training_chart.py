"""The chart of online training: reward, score, gold and the tax against the square root of KL, a path per run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palate.evaluation.intervals import Z95
from palate.evaluation.report.dot_charts import HALF, drawn
from palate.evaluation.report.formatting import number, sentence
from palate.evaluation.report.model_colours import run_colours
from palate.evaluation.report.report_data import ReportData
from palate.evaluation.report.svg import COLOURS, PAPER, Chart, figure, heading, tidy
from palate.evaluation.report.training_records import Training
from palate.evaluation.report.trajectory import has_gold, trajectory

Curve = Sequence[tuple[float, float | None, float | None]]
"""Points of a run in order of iterations: place, value, standard error."""
Known = Sequence[tuple[float, float, float]]
"""The points of a curve whose value is known; a standard error that is not known is 0."""


def training_chart(report: ReportData) -> Chart | None:
    """Reward, proxy and gold against sqrt(KL). Where proxy and gold part, a higher proxy no longer means higher gold."""
    training = report.training
    if training is None:
        return None
    panels = _panels(training)
    colours = [COLOURS[name] for name in run_colours(training.runs, report.variants)]

    def draw(inches: float) -> Figure:
        drawing = figure(inches, training_height(report))
        grid = drawing.subplots(len(panels), 1, sharex=True, squeeze=False)
        for (name, note, curves), (axes,) in zip(panels, grid, strict=True):
            tidy(axes, grid="y")
            heading(axes, sentence(name), note)
            for colour, curve in zip(colours, curves, strict=True):
                _path(axes, colour, [(x, y, se or 0.0) for x, y, se in curve if y is not None])
            if name == training.gold_name:
                _mark_peak(axes, report, dict(zip((run.name for run in training.runs), colours, strict=True)))
            axes.margins(x=0.03, y=0.16)
        grid[-1][0].set_xlabel("\u221aKL to the start (nats)", fontsize=8.5)
        return drawing

    return drawn(draw, "training", _training_alt(report), HALF)


def training_height(report: ReportData) -> float:
    """Return the height of the chart in inches; 0 where there was no training."""
    return 1.9 * len(_panels(report.training)) + 0.3 if report.training else 0.0


def _panels(training: Training) -> list[tuple[str, str, list[Curve]]]:
    """(title, remark, a curve per run) of each panel. The score has its own one only where the reward is something else."""
    scores: list[Curve] = [[(p.sqrt_kl, p.proxy, p.proxy_se) for p in run.points] for run in training.runs]
    rewards: list[Curve] = [
        [(p.sqrt_kl, p.proxy if p.reward is None else p.reward, p.reward_se) for p in run.points] for run in training.runs
    ]
    maximised = "what training maximises"
    if any(p.reward is not None and abs(p.reward - p.proxy) > 1e-6 for run in training.runs for p in run.points):
        panels = [("reward", maximised, rewards), (training.proxy_name, "without penalties", scores)]
    else:
        panels = [(training.proxy_name, maximised, scores)]
    if has_gold(training):
        gold: list[Curve] = [[(p.sqrt_kl, p.gold, p.gold_se) for p in run.points if p.gold is not None] for run in training.runs]
        panels.append((training.gold_name, "what is true", gold))
    return [*panels, *_tax_panels(training)]


def _tax_panels(training: Training) -> list[tuple[str, str, list[Curve]]]:
    """Return a panel for each thing that was measured against the start, texts first."""
    names = dict.fromkeys(name for run in training.runs for point in run.points for name in point.tax)
    return [
        (
            "loss on texts" if name == "text_nll" else name.replace("_", " "),
            "nats per token, less the start" if name == "text_nll" else "share of right answers, less the start",
            [[(p.sqrt_kl, *p.tax[name]) for p in run.points if name in p.tax] for run in training.runs],
        )
        for name in names
    ]


def _path(axes: Axes, colour: str, points: Known) -> None:
    """Draw a run: a line with a 95 % band through the iterations that moved further than any before, and faint points for the others.

    Late in training the KL goes up and down. One line through all iterations would be a tangle there, so a thin one joins them.
    """
    if not points:
        return
    far = furthest(points)
    others = [point for point in points if point not in far]
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=colour, linewidth=0.6, alpha=0.35, zorder=2)
    if others:
        x, y, se = (list(column) for column in zip(*others, strict=True))
        axes.vlines(x, *_band(y, se), color=colour, linewidth=1.2, alpha=0.16)
        axes.plot(x, y, "o", color=colour, markersize=2.8, alpha=0.5, zorder=3, markeredgewidth=0)
    x, y, se = (list(column) for column in zip(*far, strict=True))
    if any(se):
        axes.fill_between(x, *_band(y, se), color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, y, "o-", color=colour, linewidth=2, markersize=3, zorder=4, markeredgewidth=0)
    end, last, _ = points[-1]
    axes.plot([end], [last], "o", color=colour, markersize=6.5, zorder=5, markeredgecolor=PAPER, markeredgewidth=1)


def furthest(points: Known) -> list[tuple[float, float, float]]:
    """Return the first point, and every later one that lies further to the right than all before it."""
    kept = [points[0]]
    for point in points[1:]:
        if point[0] > kept[-1][0]:
            kept.append(point)
    return kept


def _band(values: Sequence[float], errors: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the lower and the upper ends of 95 % intervals."""
    ends = [(value - Z95 * error, value + Z95 * error) for value, error in zip(values, errors, strict=True)]
    return [low for low, _ in ends], [high for _, high in ends]


def _mark_peak(axes: Axes, report: ReportData, colours: dict[str, str]) -> None:
    """Label the peak and the end of the run without the KL penalty, below each, when it fell measurably."""
    training = report.training
    loose = trajectory(report.run(training.without_kl)) if training and training.without_kl else None
    if loose is None or loose.fall().high >= 0:
        return
    for point, offset, align in ((loose.peak, (0, -15), "center"), (loose.end, (-2, -13), "right")):
        at = (point.sqrt_kl, point.gold or 0.0)
        note = axes.annotate(number(at[1]), at, xytext=offset, textcoords="offset points", ha=align, va="center")
        note.set(color=colours[loose.run.name], fontsize=9, fontweight="bold")


def _training_alt(report: ReportData) -> str:
    """Both ends and the peak of every run in words."""
    parts = []
    for run in report.training.runs if report.training else ():
        first, last = run.points[0], run.points[-1]
        text = f"{run.name}: proxy {number(first.proxy)} to {number(last.proxy)} as the square root of KL goes to {number(last.sqrt_kl, 1)}"
        path = trajectory(run)
        if path is not None:
            text += f", gold {number(path.start.gold or 0)} to {number(path.end.gold or 0)} with a peak of {number(path.peak.gold or 0)}"
        parts.append(text)
    return "; ".join(parts) + "."
