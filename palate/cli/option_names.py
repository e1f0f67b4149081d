"""Names of settings as typed: the setting that a word names, the settings below it, and the nearest name of a mistyped word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from palate.config.former_names import renamed
from palate.pipeline.option import Option

ANY = "NAME"
"""The part of an option's name that stands for a name that the user chooses (`rewards.NAME.weight`)."""


def canonical(name: str, options: Iterable[Option]) -> str:
    """Return the name with `NAME` in place of a name that the user chose: `rewards.helpful.weight` is `rewards.NAME.weight`."""
    for option in options:
        if option.container is dict and name.startswith(f"{option.name}."):
            _, _, rest = name.removeprefix(f"{option.name}.").partition(".")
            return f"{option.name}.{ANY}" + (f".{rest}" if rest else "")
    return name


def as_typed(known: str, name: str) -> str:
    """Return a canonical name with the names that the user chose in `name`: `rewards.NAME.weight` as `rewards.helpful.weight`."""
    chosen = name.split(".")
    parts = known.split(".")
    return ".".join(chosen[at] if part == ANY and at < len(chosen) and parts[:at] == chosen[:at] else part for at, part in enumerate(parts))


def level_of(option: Option) -> str:
    """Return the prefix of the settings below an option, without the last dot."""
    return f"{option.name}.{ANY}" if option.container is dict else option.name


def below(option: Option, kind: str, options: Iterable[Option]) -> list[Option]:
    """Return the settings directly below an option: of that kind, or of the group if the option has no kinds."""
    level = level_of(option)
    under = (*option.under, (level, kind)) if kind else option.under
    return [setting for setting in options if setting.name.rpartition(".")[0] == level and setting.under == under]


def variants(name: str, options: Iterable[Option], kinds: Mapping[str, str]) -> list[Option]:
    """Return the options of a canonical name that exist with the kinds given; a setting may exist under several kinds."""
    level = name.removesuffix(f".{ANY}")
    return [
        setting for setting in options if setting.name in (name, level) and all(kinds.get(at, kind) == kind for at, kind in setting.under)
    ]


def kinds_given(words: Sequence[str], options: Sequence[Option], around: str = "") -> dict[str, str]:
    """Return the kind of each setting whose value among the words is one of its kinds.

    Args:
        words: the words of a command.
        options: the stage's settings.
        around: a setting as typed. In a mapping only kinds of the same name count: for `rewards.a.url`, not those of `rewards.b`.
    """
    kinds: dict[str, str] = {}
    for name, value in pairs(words):
        known = canonical(name, options)
        if around and as_typed(known, around) not in {known, name}:
            continue
        if any(value == kind for setting in variants(known, options, {}) for kind, _ in setting.kinds):
            kinds[known] = value
    return kinds


def pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name and the first value, or "", of each option among the words, in their order."""
    options = []
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        follows = words[index + 1] if index + 1 < len(words) and not words[index + 1].startswith("--") else ""
        options.append((name, value if equals else follows))
    return options


def offer(word: str, known: Iterable[str]) -> str:
    """Return a sentence that offers what `word` is called now, or the known option most like it; "" where there is none.

    The last part of a dotted name counts most: for `--lr` it offers `--optimizer.lr`.
    """
    names = sorted(set(known), key=lambda name: (name.count("."), name))
    tails = {name: _tail(name) for name in names}
    if new := renamed(_tail(word), tails.values()):
        return f"It is called {next(name for name in names if tails[name] == new)!r} now."
    alike = [name for name in names if tails[name] == _tail(word)][:3]
    if not alike:
        alike = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not alike:
        close = difflib.get_close_matches(_tail(word), list(tails.values()), n=1, cutoff=0.75)
        alike = [name for name in names if tails[name] in close][:3]
    return f"Did you mean {' or '.join(map(repr, alike))}?" if alike else ""


def _tail(name: str) -> str:
    return name.removeprefix("--").rpartition(".")[2]
