"""One setting of a stage in words. This file imports nothing, so that help and completion are quick."""

from __future__ import annotations

from dataclasses import dataclass

REQUIRED = "required"
"""The default of a setting that must be given."""


@dataclass(frozen=True)
class Option:
    """One setting of a stage.

    Attributes:
        name: dotted name (`objective.beta`).
        of: the `kind` that it belongs to, for a field of a member of a union; else empty.
        type_text: its type in words.
        default: its default as JSON, or `required`.
        doc: what it means, from the class's docstring.
        container: `tuple` or `dict` when it takes several values.
        is_group: whether it only holds the settings below it and does not take a value.
        kinds: the kinds that it takes, each with one line that says what the kind is.
        choices: the words that it takes, where they can be listed.
        under: the kinds that must be given for this setting to exist, outermost first, as (setting, kind).
        is_path: whether it names a file, a directory or a model.
    """

    name: str
    of: str
    type_text: str
    default: str
    doc: str
    container: type | None = None
    is_group: bool = False
    kinds: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    under: tuple[tuple[str, str], ...] = ()
    is_path: bool = False
