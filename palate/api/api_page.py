"""The text of docs/api.md, which `palate reference` writes: what a program can use, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, cast

import palate
from palate.api.stage_calls import RunWords
from palate.pipeline.describe import attributes_of
from palate.pipeline.table import Stages

WIDTH = 100
"""Longer signatures have a line for each parameter."""

PARTS = {
    "Models": ("palate.models.causal:CausalPolicy", "palate.models.causal:TokenOutputs", "palate.rewards.learned:LearnedReward"),
    "Rewards": ("palate.rewards.composition:Composition", "palate.rewards.composition:Scores", "palate.rewards.part:PartSettings"),
    "The online loop": (
        "palate.stages.online.loop:Loop",
        "palate.stages.online.rollouts:Rollouts",
        "palate.stages.online.rollouts:Scored",
        "palate.stages.online.rollout_settings:RolloutSettings",
    ),
    "Losses and advantages": (
        "palate.objectives.reduce:Sums",
        "palate.objectives.direct.pair_logps:PairLogps",
        "palate.objectives.direct.pair_logps:PairSide",
        "palate.objectives.direct.pair_logps:pair_sums",
        "palate.objectives.policy_gradient:PolicyTokens",
        "palate.objectives.advantages:Episodes",
        "palate.objectives.advantages:TokenCredit",
    ),
    "Raters and stages": ("palate.raters.rater:Rater", "palate.core:Comparison", "palate.core:Judgment", "palate.runs.run:Run"),
}
"""What code of your own takes, returns or looks like, by heading."""

HEAD = """# Python API

`palate reference` writes this page from signatures and docstrings, and a test keeps it up to date. [Palate from Python](python.md) has
examples.

## Stages as functions

Each takes the settings of its stage by name, and the words below. It returns a [`FinishedRun`](#palatefinishedrun).

| function | what it does |
|---|---|
"""

OWN = """
The names below are for [your own classes](python.md#your-own-classes): import them from the module that stands in the heading.
"""


def api_text(stages: Stages) -> str:
    """Return the text of the page. This imports all stages."""
    lines = [HEAD.rstrip("\n")]
    lines += [f"| [`palate.{name}`](reference.md#{name}) | {entry.help} |" for name, entry in stages.items()]
    lines += ["", "| word beside the settings | default | meaning |", "|---|---|---|"]
    words = attributes_of(RunWords)
    lines += [f"| `{item.name}` | `{item.default!r}` | {words[item.name]} |" for item in fields(RunWords)]
    homes = cast("dict[str, tuple[str, ...]]", vars(palate)["_HOMES"])
    public = sorted((name for names in homes.values() for name in names), key=str.lower)
    functions = [name for name in public if not isinstance(getattr(palate, name), type)]
    for heading, names in (("Functions", functions), ("Types", [name for name in public if name not in functions])):
        lines += ["", f"## {heading}"]
        for name in names:
            lines += entry_lines(f"palate.{name}", getattr(palate, name))
    lines += ["", "## Parts of your own", OWN.rstrip("\n")]
    for heading, targets in PARTS.items():
        lines += ["", f"**{heading}**: {', '.join(_link(target) for target in targets)}."]
    for targets in PARTS.values():
        for target in targets:
            module, _, name = target.partition(":")
            lines += entry_lines(f"{module}.{name}", getattr(import_module(module), name))
    return "\n".join(lines) + "\n"


def _link(target: str) -> str:
    name = target.replace(":", ".")
    return f"[`{name.rpartition('.')[2]}`](#{name.replace('.', '').lower()})"


def entry_lines(name: str, found: object) -> Iterator[str]:
    """Yield the lines about a function or a class: its name, signature and docstring, and the public methods of a class."""
    yield from ("", f"### {name}", "")
    if not isinstance(found, type):
        yield from (*_code(f"{_last(name)}{signature_text(found)}"), "")
        yield from markdown_of(inspect.getdoc(found) or "")
        return
    if is_dataclass(found):
        yield from (*_code(f"{_last(name)}{signature_text(found)}"), "")
    yield from markdown_of(_own_doc(found))
    methods = [text for name, member in vars(found).items() if not name.startswith("_") and (text := _method(name, member))]
    yield from ("", "Methods and properties:", "", *methods) if methods else ()


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _own_doc(cls: type) -> str:
    doc = inspect.cleandoc(cls.__doc__ or "")
    return "" if doc.startswith(f"{cls.__name__}(") else doc  # what a dataclass without a docstring gets


def _method(name: str, member: object) -> str:
    """A list item about a public method or property."""
    if isinstance(member, property):
        head, doc = f"`{name}`", inspect.getdoc(member)
    elif isinstance(member, staticmethod | classmethod) or inspect.isfunction(member):
        inner = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        signature = signature_text(inner, skips=0 if isinstance(member, staticmethod) else 1, wraps=False)
        head, doc = f"`{name}{signature}`", inspect.getdoc(inner)
    else:
        return ""
    first = re.split(r"\n\s*\n", doc or "")[0]
    return f"- {head}: {_lowered(' '.join(first.split()))}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _code(text: str) -> list[str]:
    return ["```python", text, "```"]


def signature_text(found: object, *, skips: int = 0, wraps: bool = True) -> str:
    """Return the signature of a function or class, without quotes around its types.

    Args:
        found: the function or class.
        skips: parameters at the beginning that are left out, such as `self`.
        wraps: whether a long one has a line for each parameter.
    """
    signature = inspect.signature(cast("Callable[..., Any]", found))
    parameters = list(signature.parameters.values())[skips:]
    returns = signature.empty if isinstance(found, type) else signature.return_annotation
    if hasattr(found, "__wrapped__") and str(returns).startswith("Iterator["):
        returns = str(returns).replace("Iterator[", "AbstractContextManager[")  # what `contextmanager` makes of a generator
    plain = [one.replace(annotation=_Bare(one.annotation), default=_default(one)) for one in parameters]
    text = str(signature.replace(parameters=plain, return_annotation=signature.empty if returns is signature.empty else _Bare(returns)))
    if len(text) <= WIDTH or not wraps:
        return text
    kinds, lines = {one.kind for one in plain}, []
    for one in plain:
        if one.kind is one.KEYWORD_ONLY and "    *," not in lines and one.VAR_POSITIONAL not in kinds:
            lines.append("    *,")
        lines.append(f"    {one},")
    arrow = text[text.rindex(") -> ") :] if ") -> " in text else ")"
    return "\n".join(["(", *lines, arrow])


class _Bare:
    """A text whose representation is the text: signatures print types and defaults by their representation."""

    def __init__(self, value: object) -> None:
        self.text = value if isinstance(value, str) else inspect.formatannotation(value)

    def __repr__(self) -> str:
        return self.text


def _default(parameter: inspect.Parameter) -> object:
    """A default that is the same text in every process: a factory or an object has an address."""
    return _Bare("...") if " at 0x" in repr(parameter.default) or "<factory>" in repr(parameter.default) else parameter.default


def markdown_of(doc: str) -> Iterator[str]:
    """Yield the lines of a Google docstring as Markdown: its sections become lists."""
    parts = re.split(r"^(Args|Attributes|Returns|Yields|Raises|Metrics):[ \t]*", doc, flags=re.MULTILINE)
    yield parts[0].strip()
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        yield from ("", f"{title}:", "")
        yield from _section(inspect.cleandoc(f"\n{text}") if text.startswith("\n") else " ".join(text.split()))


def _section(text: str) -> Iterator[str]:
    """The entries of a section as list items; a sentence stays one."""
    item = ""
    for line in text.splitlines():
        start = re.match(r"(\w+)(?: \([^)]*\))?: +(\S.*)", line)
        if start and not line.startswith(" "):
            if item:
                yield item
            item = f"- `{start[1]}`: {start[2]}"
        elif line.strip():
            item = f"{item} {line.strip()}" if item else line.strip()
    if item:
        yield item
