"""Fields that are paths a run reads: part of its key by their content, resolved before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class InputMark:
    """Marks a field as a path that the run reads.

    Attributes:
        hub: whether a name of a model hub (`organisation/name`) may stand there too.
    """

    hub: bool = False


Input = Annotated[str, InputMark()]
"""A path; in a pipeline also `$stage/path/inside` or `$input`."""

ModelInput = Annotated[str, InputMark(hub=True)]
"""A model directory, as `Input`, or the name of a model on a hub."""
