"""matplotlib figures as inline SVG that follows the page's light or dark theme and is the same, byte for byte, each time.

Figures are drawn in the light palette; on export each colour becomes a CSS variable, so one picture serves both themes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLOURS = {
    "base": "#8f8a80",
    "sft": "#4a5f7a",
    "direct": "#14807f",
    "online": "#c2452d",
    "search": "#7d55a3",
    "ablation": "#a87708",
    "other": "#5d6b4a",
    "rose": "#b03a77",
    "blue": "#1f6fb5",
}
"""Colours of models and runs: one for each role, and two more. `model_colours` says which model has which."""

INK, MUTED, RULE, PAPER, WASH = "#23211e", "#6d675e", "#d9d2c5", "#fbf8f2", "#efe9dd"

VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper", WASH: "wash"} | {
    colour: f"c-{name}" for name, colour in COLOURS.items()
}
"""Colour in the drawing to the name of its CSS variable."""

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "palate",
    "text.parse_math": False,  # a name with two dollar signs is a name
    "axes.titley": 1.0,  # a fixed height: looking for a free one costs a quarter of the time
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """An inline SVG for wide and one for narrow screens, and the text alternative of both."""

    wide: str
    narrow: str
    alt: str


@contextmanager
def style() -> Iterator[None]:
    """The settings of every chart, undone afterwards. Charts must be made and exported inside."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def figure(width: float, height: float) -> Figure:
    """A transparent figure of `width` x `height` inches (72 units each in the SVG), laid out by constraint when exported."""
    made = Figure(figsize=(width, height))
    FigureCanvasSVG(made)
    return made


def tidy(axes: Axes, *, grid: str = "x") -> None:
    """Takes the frame away and leaves faint grid lines along one axis (or "both")."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_facecolor("none")
    axes.grid(visible=True, axis=grid, color=RULE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def heading(axes: Axes, text: str, note: str = "") -> None:
    """A bold panel title at the left, with a muted note after it."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK, pad=7)
    if note:
        axes.set_title(note, loc="right", fontsize=8, color=MUTED, pad=7)


def inline(made: Figure, name: str) -> str:
    """The figure as one `<svg>` element for a page: themed, without size, metadata or namespaces, ids made unique by `name`."""
    # Once, then off: left on, matplotlib lays every figure out anew for each of its two passes of drawing.
    ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.05).execute(made)
    buffer = io.StringIO()
    made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', text)
    text = re.sub(r"<svg[^>]*>", f'<svg viewBox="{box.group(1) if box else ""}" aria-hidden="true" focusable="false">', text, count=1)
    text = text.replace("xlink:href", "href")
    prefix = re.sub(r"[^a-z0-9-]", "-", name.lower())
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    text = re.sub(r"font-family:[^;\"]*;?\s*", "", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    text = re.sub(r"#[0-9a-f]{6}\b", _variable, text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, tag.group(0)), text)  # what is read stays as it is
    return re.sub(r"\n\s*", "\n", text).strip()


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group(0)):.2f}"


def _variable(match: re.Match[str]) -> str:
    """`var(--name)` for a colour of the palette; any other colour stays as it is."""
    name = VARIABLES.get(match.group(0))
    return f"var(--{name})" if name else match.group(0)


def described(chart: Chart) -> str:
    """Both drawings in one element that is an image with a text alternative to assistive technology."""
    alt = html.escape(chart.alt, quote=True)
    drawings = f'<div class="wide">{chart.wide}</div><div class="narrow">{chart.narrow}</div>'
    return f'<div class="chart" role="img" aria-label="{alt}">{drawings}</div>'
