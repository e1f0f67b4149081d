"""Two tiny stages for tests of the machinery: they read real files, work in steps, and trip over a file when told to."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from palate.config.types import Input, ModelInput
from palate.core import ConfigError, TrainingError
from palate.pipeline.table import StageEntry
from palate.runs.run import Run


@dataclass(frozen=True)
class Plain:
    """Count words as they stand.

    Attributes:
        scale: what a word counts.
    """

    kind: Literal["plain"] = "plain"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ConfigError(f"plain: scale must be > 0, got {self.scale}")


@dataclass(frozen=True)
class Long:
    """Count long words only.

    Attributes:
        letters: fewest letters of a long word.
        scale: what a word counts.
    """

    kind: Literal["long"] = "long"
    letters: int = 5
    scale: float = 2.0


@dataclass(frozen=True)
class Pace:
    """How fast.

    Attributes:
        first_step: where it begins.
    """

    first_step: int = 0


@dataclass(frozen=True)
class Count:
    """Count the words of a file, one line a step.

    Attributes:
        data: the text.
        others: more texts, counted after it.
        named: texts by name.
        model: a model, only named.
        rate: a number.
        loudness: how it is said.
        rule: what counts.
        pace: how fast.
        trip: a file that, when there, says how the stage fails in its second step.
    """

    data: Input
    others: tuple[Input, ...] = ()
    named: dict[str, Input] = field(default_factory=dict)
    model: ModelInput | None = None
    rate: float | None = 0.5
    loudness: Literal["quiet", "loud"] = "quiet"
    rule: Plain | Long = field(default_factory=lambda: Plain(scale=3.0))
    pace: Pace = Pace()
    trip: str = ""

    def check(self) -> None:
        if self.loudness == "loud" and self.rate is None:
            raise ConfigError("loudness: loud needs a rate. Give rate a number.")

    def run(self, run: Run) -> None:
        lines = [line for path in (self.data, *self.others, *self.named.values()) for line in Path(path).read_text().splitlines()]
        mark = run.state / "step"
        start = int(mark.read_text()) if mark.exists() else 0
        run.rewind(start)
        for step in range(start, len(lines)):
            run.log(step, {"count/words/total": len(lines[step].split()) * self.rule.scale})
            mark.write_text(str(step + 1))
            if step == 1 and Path(self.trip).is_file():
                trip(Path(self.trip), run)
            run.check_stop()
        (run.directory / "out.txt").write_text("\n".join(lines))
        run.summary({"lines": len(lines), "first": start})


@dataclass(frozen=True)
class Join:
    """Join texts.

    Attributes:
        parts: the texts.
    """

    parts: tuple[Input, ...]

    def check(self) -> None:
        """Nothing contradicts anything."""

    def run(self, run: Run) -> None:
        (run.directory / "out.txt").write_text("".join(Path(part).read_text() for part in self.parts))


def trip(path: Path, run: Run) -> None:
    """Fails in the way written in the file."""
    match path.read_text():
        case "train":
            raise TrainingError("the loss is no number")
        case "crash":
            raise ZeroDivisionError("a mistake of ours")
        case "full":
            with Path("/dev/full").open("w") as file:
                file.write("more than there is room for")
        case "once":
            os.kill(os.getpid(), signal.SIGINT)
        case "twice":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


TOYS = {
    "count": StageEntry(f"{__name__}:Count", "Count the words of a file, one line a step."),
    "join": StageEntry(f"{__name__}:Join", "Join texts."),
}
