"""A new project from a form or an API request. Both obey the limits of `ProjectBody`."""

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
"""Number fields of the form: the field of the body, and the factor from the form's unit to the body's."""

_MESSAGES = {
    "name": "1 to 120 characters.",
    "dimensions": "1 to 12 names of up to 60 characters, separated by commas.",
    "rules": "Up to 200 rules of up to 2000 characters, one per line.",
    "kind": "Choose one from the list.",
    "reason": "Choose one from the list.",
    "queue": "Choose one from the list.",
}


class FormError(ConfigError):
    """A form with invalid fields.

    Attributes:
        fields: a message for each invalid field, by its name on the page.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("The project was not made yet. Correct the marked fields.")
        self.fields = fields


def project_of(body: ProjectBody) -> Project:
    """Return the project that a request asks for."""
    fields = body.model_dump()
    task = fields.pop("task")
    return Project(task=Task(**{**task, "dimensions": tuple(task["dimensions"]), "rules": tuple(task["rules"])}), **fields)


def bounds() -> dict[str, tuple[float, float]]:
    """Return the minimum and maximum of each number field, in the form's units."""
    fields = ProjectBody.model_json_schema()["properties"]
    return {name: (fields[field]["minimum"] / unit, fields[field]["maximum"] / unit) for name, (field, unit) in NUMBERS.items()}


def read_form(context: RequestContext) -> Project:
    """Return the project that the form asks for.

    Raises:
        FormError: a field is invalid.
    """
    messages: dict[str, str] = {}
    values: dict[str, Any] = {"name": context.text("name").strip(), "queue": context.text("queue")}
    for name, (field, unit) in NUMBERS.items():
        try:
            number = float(context.text(name) or BLANK[name])
            values[field] = number if unit == 1 else round(number * unit, 9)
        except ValueError:
            messages[name] = _range(name)
    values["task"] = {
        "kind": context.text("kind"),
        "dimensions": [word.strip() for word in context.text("dimensions").split(",") if word.strip()] or ["overall"],
        "ties": context.text("ties") == "yes",
        "all_bad": context.text("all_bad") == "yes",
        "strength": context.text("strength") == "yes",
        "reason": context.text("reason"),
        "rules": [line.strip() for line in context.text("rules").splitlines() if line.strip()],
    }
    try:
        body = ProjectBody.model_validate(values)
    except ValidationError as error:
        form_names = {field: name for name, (field, _) in NUMBERS.items()}
        for problem in error.errors():
            field = str(problem["loc"][1] if problem["loc"][0] == "task" else problem["loc"][0])
            name = form_names.get(field, field)
            messages[name] = _MESSAGES.get(name) or _range(name)
    if messages:
        raise FormError(messages)
    _check_together(body)
    return project_of(body)


def _check_together(body: ProjectBody) -> None:
    """Refuse combinations of fields that are valid one by one."""
    checks = {
        "max_overlap": ("Enter 0, or at least the judgments per item.", 0 < body.max_overlap < body.overlap),
        "dimensions": ("Name each dimension once.", len(set(body.task.dimensions)) < len(body.task.dimensions)),
        "rules": ("This question needs at least one rule.", body.task.kind in {"rule", "probe"} and not body.task.rules),
    }
    if messages := {name: message for name, (message, is_invalid) in checks.items() if is_invalid}:
        raise FormError(messages)


def _range(name: str) -> str:
    minimum, maximum = bounds()[name]
    return f"Enter a {'whole ' if NUMBERS[name][1] == 1 else ''}number from {minimum:g} to {maximum:g}."
