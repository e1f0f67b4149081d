"""Numbers and small phrases as the report writes them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from palate.evaluation.intervals import Estimate

MINUS = "\u2212"


def number(value: float, digits: int = 2) -> str:
    """`value` with a true minus sign; a rounded zero has no sign; an infinite or undefined one says so."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "\u221e" if value > 0 else f"{MINUS}\u221e"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """`value` with its sign always written, except for a rounded zero."""
    text = number(value, digits)
    return text if text.startswith(MINUS) or not math.isfinite(value) or float(text) == 0 else f"+{text}"


def percent(value: float, digits: int = 0) -> str:
    """A share as a percentage; shares short of all or of nothing are never rounded to 100 or to 0 %."""
    text = number(100 * value, digits)
    if value < 1 and float(text.replace(MINUS, "-")) >= 100:
        return f"> {number(100 - 10.0**-digits, digits)} %"
    if value > 0 and float(text.replace(MINUS, "-")) == 0:
        return f"< {number(10.0**-digits, digits)} %"
    return f"{text} %"


def interval(estimate: Estimate, digits: int = 2) -> str:
    """The 95 % interval as "0.64 to 0.70", or why there is none."""
    if not has_interval(estimate):
        return without_interval(estimate)
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def percent_interval(estimate: Estimate) -> str:
    """The 95 % interval of a share as "64 to 70 %", or why there is none."""
    if not has_interval(estimate):
        return without_interval(estimate)
    return f"{number(100 * estimate.low, 0)} to {number(100 * estimate.high, 0)} %"


def has_interval(estimate: Estimate) -> bool:
    """Whether an interval could be computed."""
    return not math.isnan(estimate.low)


def without_interval(estimate: Estimate, units: str = "values", *, is_difference: bool = False) -> str:
    """Say why an estimate has no interval: its values are all the same, there is one alone, or their errors are not known."""
    if estimate.n < 1:
        return "SE not known" if is_difference else "interval not known"
    if estimate.n == 1:
        return "measured once, no interval"
    what = "no difference in any" if is_difference and estimate.value == 0 else "the same in all"
    return f"{what} of {thousands(estimate.n)} {units}"


def confidence(estimate: Estimate, ends: str, units: str, *, is_difference: bool = False) -> str:
    """Return "95 %: `ends`, 400 `units`", or why there is no interval."""
    if not has_interval(estimate):
        return without_interval(estimate, units, is_difference=is_difference)
    return f"95 %: {ends}, {thousands(estimate.n)} {units}"


def errors(estimate: Estimate) -> str:
    """The distance from zero as "11 SE" (one decimal below 10); where the standard error is 0 or not known, it says so."""
    if math.isnan(estimate.se):
        return without_interval(estimate, is_difference=True)
    if not math.isfinite(estimate.z) or estimate.se == 0:
        return "SE 0"
    size = abs(estimate.z)
    return f"{size:.0f} SE" if size >= 10 else f"{size:.1f} SE"


def gain(estimate: Estimate, digits: int = 2) -> str:
    """A paired difference as "+0.12, 11 SE"."""
    return f"{signed(estimate.value, digits)}, {errors(estimate)}"


def people_labels(count: int) -> str:
    """How many labels of people something needed, in words."""
    return f"{thousands(count)} labels of people" if count else "no label of a person"


def thousands(count: int) -> str:
    """A count with thin separators, "3,500"."""
    return f"{count:,}"


def money(value: float) -> str:
    """An amount in a currency that nobody named: "1,725.30"."""
    return f"{value:,.2f}"


def seconds(value: float) -> str:
    """A duration as "8.2 s", "4 min 10 s" or "2 h 5 min"."""
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def counted(count: int, noun: str, verb: str = "", verbs: str = "") -> str:
    """A count with its noun and verb: "1 prompt counts" or "2 prompts count"."""
    return f"{count} {noun} {verb}".rstrip() if count == 1 else f"{count} {noun}s {verbs}".rstrip()


def listed(names: Sequence[str]) -> str:
    """The names in a row: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def sentence(text: str) -> str:
    """`text` with its first letter capital."""
    return text[:1].upper() + text[1:]


def wrapped(text: str, width: int = 24) -> str:
    """`text` in lines of at most `width` characters: names in charts are never cut."""
    return "\n".join(textwrap.wrap(text, width)) or text


def lines_of(texts: Iterable[str]) -> int:
    """The number of lines of the longest of some wrapped texts."""
    return max((text.count("\n") + 1 for text in texts), default=1)
