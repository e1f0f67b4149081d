"""The pages of `palate STAGE --help`: an overview, one group or kind, or everything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain

from palate.cli.help_page import HelpRow, Page, Section, whole
from palate.cli.option_names import ANY, as_typed, below, canonical, kinds_given, level_of, offer, pairs, variants
from palate.cli.parser import HELP_WORDS
from palate.cli.settings_table import Described
from palate.core import ConfigError
from palate.pipeline.option import REQUIRED, Option

RUN_OPTIONS = {
    "--seed N": f"seed of everything random {whole('[default: 0]')}",
    "--device NAME": f"such as cpu, cuda:1, mps {whole('[default: auto]')}",
    "--launch HOW": "on N processes: torchrun:N, ray:N:ADDRESS",
    "--shard WHAT": "weights that these share out: frozen, all, all:N",
    "--track NAMES": "log metrics to tensorboard,wandb,mlflow,trackio",
    "--out DIR": f"directory of the run {whole('[default: RUNS/STAGE-KEY]')}",
    "--runs DIR": f"folder of runs {whole('[default: runs]')}",
    "--extend RUN": "go on where this run ended (it had --keep-state)",
    "--fresh": "forget an earlier run with these settings",
    "--dry-run": "check and print the plan, without running it",
}
"""Options that every stage takes beside its settings."""

SHORT = 40
"""Longer defaults are cut."""


def page_of(command: str, stage: Described, words: Sequence[str]) -> Page:
    """Return the page that the words before and after `--help` ask for.

    A group, a kind, or an option without a value gets a page of its own. Options with values do not: they are the rest of a command.

    Raises:
        ConfigError: a word is not a setting or kind of this stage.
    """
    at = next(index for index, word in enumerate(words) if word in HELP_WORDS)
    before, after = list(words[:at]), list(words[at + 1 :])
    if after[:1] == ["all"]:
        return _everything(command, stage)
    if after and not after[0].startswith("-"):
        after = [f"--{after[0].lstrip('-')}", *after[1:]]
    words = [*before, *after]
    kinds = kinds_given(words, stage.options)
    sections = list(chain.from_iterable(_topic(command, stage, name, value, kinds) for name, value in pairs(words)))
    if not sections:
        return _overview(command, stage)
    more = _more_of(command, stage, pairs(words)[-1][0], kinds)
    return Page(f"Settings of `palate {command}`.", "", tuple(sections), more, wide=True)


def _more_of(command: str, stage: Described, name: str, kinds: Mapping[str, str]) -> tuple[HelpRow, ...]:
    """Links from the page of one setting to the settings below it, and back."""
    known = canonical(name, stage.options)
    matches = variants(known, stage.options, kinds)
    examples = [] if known in kinds else [row for setting in matches for row in _example(command, setting, stage.options)]
    inner = [setting for match in matches for setting in below(match, kinds.get(known, ""), stage.options) if _is_open(setting)]
    return (
        *examples[:1],
        *(HelpRow("a setting", f"palate {command} --{as_typed(level_of(setting), name)} --help") for setting in inner[:1]),
        HelpRow("the stage", f"palate {command} --help"),
    )


def _overview(command: str, stage: Described) -> Page:
    top = [option for option in stage.options if "." not in option.name]
    plain = [option for option in top if not _is_open(option)]
    required = [option for option in plain if option.default == REQUIRED]
    sections = (
        Section("Required", tuple(HelpRow(_left(option), _brief(option)) for option in required)),
        Section("Options", tuple(HelpRow(_left(option), _brief(option)) for option in plain if option not in required)),
        Section("Groups and kinds", tuple(row for option in top if _is_open(option) for row in _open_rows(option, stage.options))),
        Section("Run", tuple(HelpRow(left, text) for left, text in RUN_OPTIONS.items())),
    )
    return Page(stage.summary, _usage(command, stage), sections, _more(command, stage))


def _usage(command: str, stage: Described) -> str:
    required = [whole(_left(option)) for option in stage.options if "." not in option.name and option.default == REQUIRED]
    return " ".join(["palate", command, *required, "[options]"])


def _more(command: str, stage: Described) -> tuple[HelpRow, ...]:
    """How to see more, with a group and a kind of this stage as examples."""
    options = stage.options
    groups = [setting for setting in options if setting.is_group and "." not in setting.name]
    unions = [setting for setting in options if setting.kinds and setting.container is None and ANY not in setting.name]
    kinds = [row for setting in sorted(unions, key=lambda setting: -len(setting.kinds)) for row in _example(command, setting, options)]
    return (
        *(HelpRow("a group", f"palate {command} --{setting.name} --help") for setting in groups[-1:]),
        *kinds[:1],
        HelpRow("everything", f"palate {command} --help all"),
    )


def _example(command: str, option: Option, options: Sequence[Option]) -> list[HelpRow]:
    """How to see the settings of a kind that is not the default; empty where no such kind has settings."""
    kinds = [kind for kind, _ in option.kinds if kind != option.default and below(option, kind, options)]
    return [HelpRow("a kind", f"palate {command} --{level_of(option)} {kind} --help") for kind in kinds[:1]]


def _open_rows(option: Option, options: Sequence[Option]) -> list[HelpRow]:
    """A line for a group or a union, and one with the kinds of each union below it."""
    inside: dict[str, list[Option]] = {}
    for setting in options:
        if setting.name.startswith(f"{option.name}.") and setting.kinds:
            inside.setdefault(setting.name, []).append(setting)
    rows = [HelpRow(_left(option), _brief(option))]
    for same in inside.values():
        sets: dict[tuple[str, ...], Option] = {}
        for setting in same:
            sets.setdefault(tuple(kind for kind, _ in setting.kinds), setting)
        first, *others = sets.values()
        text = _kinds_text(first) + "".join(f"; with {setting.under[-1][1]}: {_kinds_text(setting)}" for setting in others)
        rows.append(HelpRow(first.name.removeprefix(level_of(option)) + " KIND", text, depth=1))
    return rows


def _topic(command: str, stage: Described, name: str, value: str, kinds: Mapping[str, str]) -> list[Section]:
    """The sections for one option among the words; none for an option that has its value and no settings below it."""
    options = stage.options
    if any(re.split(r"[ =]", left)[0] == f"--{name}" for left in RUN_OPTIONS):
        return []
    known = canonical(name, options)
    matches = variants(known, options, kinds) or variants(known, options, {})
    if not matches:
        raise ConfigError(f"palate {command} has no '--{name}'. {offer(f'--{name}', (f'--{setting.name}' for setting in options))}".strip())
    if not any(map(_is_open, matches)):
        setting = matches[0]
        return [] if value else [Section(f"--{name}", (HelpRow(_left(setting), _full(setting)),))]
    chosen = known if known in kinds else f"{known}.{ANY}"
    if chosen in kinds:
        kind = kinds[chosen]
        return [_kind_section(setting, kind, options, name) for setting in matches if kind in dict(setting.kinds)]
    if value and matches[0].kinds and value not in matches[0].choices and value != "none":
        texts = [kind for setting in matches for kind, _ in setting.kinds]
        raise ConfigError(f"--{name} has no kind {value!r}. {offer(value, texts) or 'Known: ' + ', '.join(texts) + '.'}")
    return list(chain.from_iterable(_sections(setting, options, name) for setting in matches))


def _sections(option: Option, options: Sequence[Option], name: str) -> list[Section]:
    """A group with its settings, or a union with its kinds. If there is only one kind, its settings too."""
    if not option.kinds:
        return [_settings_section(f"--{name}", option.doc, below(option, "", options), name, option)]
    beside = f" (with {_beside(option)})" if option.under else ""
    rows = tuple(HelpRow(kind + (" (default)" if kind == option.default else ""), text) for kind, text in option.kinds)
    section = Section(f"Kinds of --{as_typed(level_of(option), name)}{beside}", rows, option.doc)
    only = [_kind_section(option, kind, options, name) for kind, _ in option.kinds[:1]] if len(option.kinds) == 1 else []
    return [section, *only]


def _kind_section(option: Option, kind: str, options: Sequence[Option], name: str) -> Section:
    inner = below(option, kind, options)
    text = dict(option.kinds)[kind] + ("" if inner else " It has no settings.")
    if option.container is tuple:
        text = f"{dict(option.kinds)[kind]} Give the settings of each item in a YAML file."
    return _settings_section(f"--{as_typed(level_of(option), name)} {kind}", text, inner, name, option)


def _settings_section(heading: str, text: str, inner: Sequence[Option], name: str, outer: Option) -> Section:
    level = level_of(outer)
    rows = tuple(HelpRow(_left(setting).replace(f"--{level}", f"--{as_typed(level, name)}", 1), _full(setting)) for setting in inner)
    return Section(heading, rows, text)


def _everything(command: str, stage: Described) -> Page:
    """Every group and kind after the plain settings, each under its own heading."""
    options = stage.options
    top = [option for option in options if "." not in option.name]
    sections = [
        Section("Required", tuple(HelpRow(_left(setting), _full(setting)) for setting in top if setting.default == REQUIRED)),
        Section(
            "Options",
            tuple(HelpRow(_left(setting), _full(setting)) for setting in top if not _is_open(setting) and setting.default != REQUIRED),
        ),
    ]
    for option in (setting for setting in options if _is_open(setting)):
        sections += _sections(option, options, option.name)
        if len(option.kinds) > 1:
            sections += [_kind_section(option, kind, options, option.name) for kind, _ in option.kinds if below(option, kind, options)]
    sections.append(Section("Run", tuple(HelpRow(left, text) for left, text in RUN_OPTIONS.items())))
    return Page(stage.summary, _usage(command, stage), tuple(sections), wide=True)


def _is_open(option: Option) -> bool:
    """Whether settings or kinds lie below the option."""
    return option.is_group or bool(option.kinds) or _is_limit(option)


def _is_limit(option: Option) -> bool:
    """Whether it takes either a word or settings, as a guard does: `off`, or `warn`, `stop` and `patience`."""
    return option.default.startswith("{") and option.container is None


def _beside(option: Option) -> str:
    return " ".join(f"--{level} {kind}" for level, kind in option.under)


def _left(option: Option) -> str:
    if option.is_group:
        return f"--{level_of(option)}"
    several = " ..." if option.container is tuple else ""
    return f"--{level_of(option)} {metavar(option)}{several}"


def metavar(option: Option) -> str:
    """Return the word that stands for an option's value."""
    kind = option.type_text.removesuffix(", several").removesuffix(", by name")
    if option.kinds:
        return "KIND"
    if option.choices:
        listed = "|".join(option.choices)
        return listed if len(listed) <= 16 else "WORD"
    starts = {"path": "PATH", "model": "MODEL", "number": "X", "whole number": "N", "text": "TEXT", "list of": "LIST"}
    fits = [start for start in starts if kind.startswith(start)]
    return starts[max(fits, key=len)] if fits else "VALUE"


def _brief(option: Option) -> str:
    """One line: the first clause of its text, its kinds or words, its default."""
    return _joined(re.split(r"[;.] ", option.doc)[0].rstrip("."), option)


def _full(option: Option) -> str:
    """The whole text of an option."""
    return _joined(option.doc.rstrip().removesuffix("."), option) + (f" {whole('[required]')}" if option.default == REQUIRED else "")


def _joined(text: str, option: Option) -> str:
    """The text, with the kinds or words that it does not name, and the default."""
    names = [kind for kind, _ in option.kinds] or [word for word in option.choices if metavar(option) == "WORD"]
    if not all(re.search(rf"\b{re.escape(word)}\b", text) for word in names):
        if option.kinds:
            return f"{text.partition(': ')[0]}: {_kinds_text(option)}"
        text = f"{text}: {', '.join(names)}"
    default = _default(option)
    return f"{text} {whole(f'[default: {default}]')}" if default else text


def _kinds_text(option: Option) -> str:
    return ", ".join(whole(f"{kind} (default)") if kind == option.default and len(option.kinds) > 1 else kind for kind, _ in option.kinds)


def _default(option: Option) -> str:
    """The default in words; "" where there is none or it would not help."""
    text = option.default
    if option.is_group or text in {REQUIRED, "none", "{}", "[]", '""', "null"}:
        return ""
    if _is_limit(option):
        text = ", ".join(f"{name} {value}" for name, value in json.loads(text).items() if value is not None)
    text = text.strip('"')
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."
