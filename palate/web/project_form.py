"""A new project from a form or a request: both keep to the bounds of `ProjectBody`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from palate.core import ConfigError
from palate.ratings import Project, Task
from palate.web.access import RequestContext
from palate.web.api_models import ProjectBody

BLANK: dict[str, Any] = {
    "name": "", "kind": "compare", "reason": "optional", "dimensions": "overall", "rules": "", "ties": True, "all_bad": True,
    "strength": False, "overlap": 1, "max_overlap": 0, "minutes": 15, "gold_percent": 0, "queue": "random", "text": "", "warning": "",
}  # fmt: skip

NUMBERS: Mapping[str, tuple[str, float]] = {
    "overlap": ("overlap", 1),
    "max_overlap": ("max_overlap", 1),
    "minutes": ("lease_seconds", 60),
    "gold_percent": ("gold_share", 0.01),
}
"""Fields of the form with a number: the body's field, and how many of its units one of the form's is."""

_WORDS = {
    "name": "1 to 120 characters.",
    "dimensions": "1 to 12 names of up to 60 characters, with commas between.",
    "rules": "Up to 200 rules of up to 2000 characters, one a line.",
    "kind": "Choose one of the list.",
    "reason": "Choose one of the list.",
    "queue": "Choose one of the list.",
}


class FormError(ConfigError):
    """A form that does not fit: words for each field at fault, by its name on the page."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("Nothing was made yet: look at what is marked.")
        self.fields = fields


def project_of(body: ProjectBody) -> Project:
    """The project asked for."""
    said = body.model_dump()
    task = said.pop("task")
    return Project(task=Task(**{**task, "dimensions": tuple(task["dimensions"]), "rules": tuple(task["rules"])}), **said)


def bounds() -> dict[str, tuple[float, float]]:
    """Least and most of each number of the form, in the form's units."""
    fields = ProjectBody.model_json_schema()["properties"]
    return {name: (fields[field]["minimum"] / unit, fields[field]["maximum"] / unit) for name, (field, unit) in NUMBERS.items()}


def read_form(visit: RequestContext) -> Project:
    """The project that the form asks for.

    Raises:
        FormError: a field is at fault.
    """
    faults: dict[str, str] = {}
    given: dict[str, Any] = {"name": visit.text("name").strip(), "queue": visit.text("queue")}
    for name, (field, unit) in NUMBERS.items():
        try:
            number = float(visit.text(name) or BLANK[name])
            given[field] = number if unit == 1 else round(number * unit, 9)
        except ValueError:
            faults[name] = _range(name)
    given["task"] = {
        "kind": visit.text("kind"),
        "dimensions": [word.strip() for word in visit.text("dimensions").split(",") if word.strip()] or ["overall"],
        "ties": visit.text("ties") == "yes",
        "all_bad": visit.text("all_bad") == "yes",
        "strength": visit.text("strength") == "yes",
        "reason": visit.text("reason"),
        "rules": [line.strip() for line in visit.text("rules").splitlines() if line.strip()],
    }
    try:
        body = ProjectBody.model_validate(given)
    except ValidationError as error:
        named = {field: name for name, (field, _) in NUMBERS.items()}
        for one in error.errors():
            field = str(one["loc"][1] if one["loc"][0] == "task" else one["loc"][0])
            name = named.get(field, field)
            faults[name] = _WORDS.get(name) or _range(name)
    if faults:
        raise FormError(faults)
    _check_together(body)
    return project_of(body)


def _check_together(body: ProjectBody) -> None:
    """Refuses what each field allows and all together do not."""
    faults = {
        "max_overlap": ("0, or at least the judgments an item.", 0 < body.max_overlap < body.overlap),
        "dimensions": ("Name each dimension once.", len(set(body.task.dimensions)) < len(body.task.dimensions)),
        "rules": ("This question needs a rule or more.", body.task.kind in {"rule", "probe"} and not body.task.rules),
    }
    if found := {name: words for name, (words, holds) in faults.items() if holds}:
        raise FormError(found)


def _range(name: str) -> str:
    least, most = bounds()[name]
    return f"A {'whole ' if NUMBERS[name][1] == 1 else ''}number from {least:g} to {most:g}."
