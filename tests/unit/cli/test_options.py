"""Options of a stage: the same name may belong to several kinds, and each value is read by the kind that is given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from palate.cli import main
from palate.cli.option_names import offer
from palate.pipeline.table import StageEntry
from palate.runs.record import list_runs
from palate.runs.run import Run


@dataclass(frozen=True)
class Clip:
    """Clips.

    Attributes:
        clip: a share.
    """

    kind: Literal["clip"] = "clip"
    clip: float = 0.2


@dataclass(frozen=True)
class Tight:
    """Clips closely.

    Attributes:
        clip: a whole number.
        high: another.
    """

    kind: Literal["tight"] = "tight"
    clip: int = 3
    high: int = 4


@dataclass(frozen=True)
class Pair:
    """Pairs.

    Attributes:
        beta: how closely.
    """

    kind: Literal["pair"] = "pair"
    beta: float = 0.1


@dataclass(frozen=True)
class First:
    """One way.

    Attributes:
        loss: its loss.
    """

    kind: Literal["first"] = "first"
    loss: Clip | Tight = field(default_factory=Clip)


@dataclass(frozen=True)
class Second:
    """Another way.

    Attributes:
        loss: its loss.
    """

    kind: Literal["second"] = "second"
    loss: Pair | Tight = field(default_factory=Pair)


@dataclass(frozen=True)
class Many:
    """Several names.

    Attributes:
        model: the names.
    """

    kind: Literal["many"] = "many"
    model: tuple[str, ...] = ()


@dataclass(frozen=True)
class One:
    """One name.

    Attributes:
        model: the name.
    """

    kind: Literal["one"] = "one"
    model: str = ""


@dataclass(frozen=True)
class Mixed:
    """Hold unions whose kinds share names.

    Attributes:
        way: how.
        parts: by name.
    """

    way: First | Second = field(default_factory=First)
    parts: dict[str, Many | One] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing contradicts anything."""

    def run(self, run: Run) -> None:
        """Does nothing."""


STAGES = {"mixed": StageEntry(f"{__name__}:Mixed", "Hold unions whose kinds share names.")}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["--way.loss", "tight", "--way.loss.clip", "7"], {"kind": "first", "loss": {"kind": "tight", "clip": 7, "high": 4}}),
        (["--way.loss.clip", "0.5"], {"kind": "first", "loss": {"kind": "clip", "clip": 0.5}}),
        (["--way", "second", "--way.loss", "tight"], {"kind": "second", "loss": {"kind": "tight", "clip": 3, "high": 4}}),
        (["--way", "second", "--way.loss.beta", "2"], {"kind": "second", "loss": {"kind": "pair", "beta": 2.0}}),
    ],
)
def test_every_kind_is_accepted_with_its_own_settings(words: list[str], way: dict[str, object]) -> None:
    assert main(["mixed", *words], STAGES) == 0
    ((_, record),) = list_runs(Path("runs"))
    assert record.config["way"] == way


def test_a_name_in_a_mapping_takes_several_words_where_its_kind_does() -> None:
    words = ["--parts.a", "many", "--parts.a.model", "x", "y"]
    words += ["--parts.b", "one", "--parts.b.model", "z", "--parts.c", "many", "--parts.c.model", "w"]
    assert main(["mixed", *words], STAGES) == 0
    ((_, record),) = list_runs(Path("runs"))
    parts = {"a": {"kind": "many", "model": ["x", "y"]}, "b": {"kind": "one", "model": "z"}, "c": {"kind": "many", "model": ["w"]}}
    assert record.config["parts"] == parts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--way.loss", "tight", "--way.loss.clip", "0.5"], "--way.loss.clip: way.loss.clip: "),
        (["--way.loss", "clip", "--way.loss.high", "1"], "--way.loss.high: Clip has no 'high'."),
        (["--way.loss", "pair"], "way.loss has no kind 'pair'. Known: clip, tight."),
        (["--way.loss", "thight"], "way.loss has no kind 'thight'. Did you mean 'tight'?"),
        (["--parts.a", "one", "--parts.a.model", "x", "y"], "--parts.a.model: "),
        (["--parts.a", "one", "--parts.a.modle", "x"], "palate mixed has no '--parts.a.modle'. Did you mean '--parts.a.model'?"),
        (["--parts", "one"], "--parts holds several, by name. Give each a name: --parts.NAME KIND."),
        (["--high", "1"], "palate mixed has no '--high'. Did you mean '--way.loss.high'?"),
    ],
)
def test_a_value_is_checked_by_the_kind_that_is_given(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mixed", *words], STAGES) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists() or not list_runs(Path("runs"))


def test_the_setting_that_stands_highest_is_offered_first() -> None:
    text = offer("--lr", ["--a.b.lr", "--optimizer.lr"])
    assert 0 < text.index("--optimizer.lr") < text.index("--a.b.lr")
