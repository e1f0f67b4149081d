"""What a path given in settings means: a run directory, or something inside one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from palate.core import ConfigError, RunError

RETIRED = "retired.json"
"""The file of a run that `palate forget` retired."""

RUN_RECORD = "run.json"
"""The file of a run that says what it is, and from which settings it was made."""

MEMBERS = "members"
"""The folder of a run that has the members of an ensemble, each in a folder named by its number."""
_MODELS = ("model", "adapter")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def model_at(path: str) -> str:
    """Return the model directory that a path means: `model/` or `adapter/` of a run directory, else the path or hub name itself.

    Raises:
        ConfigError: the run trained several models.
        RunError: the run is retired.
    """
    refuse_retired(path)
    inside = _model_in(Path(path))
    if inside is None and (Path(path) / MEMBERS).is_dir():
        raise ConfigError(
            f"{path} holds an ensemble, and this setting takes one model. Name a member, such as {path}/{MEMBERS}/1, or join them with the "
            "stage average"
        )
    return path if inside is None else str(inside)


def is_hub_name(name: str) -> bool:
    """Whether a name can be that of a hub, OWNER/NAME, and not of something that is missing in a folder of this machine."""
    return _HUB_NAME.fullmatch(name) is not None and not Path(name.partition("/")[0]).exists()


def require_models(*paths: str) -> None:
    """Refuse what is neither here nor the name of a model on a hub. A command asks this of its words before it loads anything heavy.

    Raises:
        ConfigError: nothing is there.
    """
    for path in paths:
        if (why := absence_of(path)) is not None:
            raise ConfigError(why)


def absence_of(path: str) -> str | None:
    """Return why no model can be at a path, without asking a network; None where one is here, or a hub may have it."""
    if Path(path).exists():
        return None
    if not is_hub_name(path):
        return f"there is no model at {path}. Correct the path, or give a hub's name as OWNER/NAME."
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not (Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}").is_dir():
        return (
            f"there is no model at {path}: no such folder is here, the cache of the hub has none of this name, and HF_HUB_OFFLINE "
            "forbids to ask the hub. Correct the path, or unset HF_HUB_OFFLINE."
        )
    return None


def models_at(path: str) -> tuple[str, ...]:
    """Return the models that a path means: the members of a run that trained an ensemble, in order, else the path itself.

    Raises:
        ConfigError: a member has no model, or is missing: the run's record says how many there are.
        RunError: the run is retired.
    """
    refuse_retired(path)
    folder = Path(path) / MEMBERS
    if not folder.is_dir() or _model_in(Path(path)) is not None:
        return (path,)
    last = max([_recorded_members(Path(path)), *(int(place.name) for place in folder.iterdir() if place.name.isdigit())])
    found = tuple(str(folder / str(number)) for number in range(1, last + 1))
    for member in found:
        if _model_in(Path(member)) is None:
            raise ConfigError(
                f"{member} has no model: the run of this ensemble of {last} is not finished, or was copied without it. Finish the run, "
                "or copy the whole run"
            )
    return found


def file_at(path: str, name: str) -> Path:
    """Return the file that a path means: `name` in a run directory, else the path itself. Raises RunError where the run is retired."""
    refuse_retired(path)
    inside = Path(path) / name
    return inside if inside.is_file() else Path(path)


def refuse_retired(path: str | Path) -> None:
    """Refuse a run that was retired, and everything inside it.

    Raises:
        RunError: it is retired.
    """
    for place in (Path(path), *Path(path).parents):
        if (place / RETIRED).is_file():
            raise RunError(
                f"{place} is retired: it was made from something that `palate forget` withdrew ({RETIRED} says what). Run its pipeline "
                "again, which leaves that out, and use the new run."
            )


def _recorded_members(run: Path) -> int:
    """Return how many members the record of a run says it trains; 0 where there is no record."""
    try:
        return int(json.loads((run / RUN_RECORD).read_text(encoding="utf-8"))["config"]["members"]["count"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _model_in(directory: Path) -> Path | None:
    return next((directory / name for name in _MODELS if (directory / name).is_dir()), None)
