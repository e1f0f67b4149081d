"""The table of stages: name, class and one line of help. A class is imported only when its stage is named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Protocol, cast

from palate.config.extras import not_installed
from palate.config.functions import load_function
from palate.config.own_members import is_import_path
from palate.config.settings import nearest
from palate.core import ConfigError

if TYPE_CHECKING:
    from palate.runs.run import Run

RESERVED = frozenset(
    {"stage", "seed", "device", "shard", "expect", "out", "runs", "fresh", "name", "help", "track", "launch", "extend", "keep_state"}
)
"""Words that stand beside a stage's settings in YAML or on the command line; no field may have these names."""


class Stage(Protocol):
    """A stage: a frozen dataclass whose fields are its configuration."""

    def check(self) -> None:
        """Check the settings before anything runs, when directories of earlier stages may not exist yet.

        Raises:
            ConfigError: settings contradict each other; the message says what to change.
        """
        ...

    def run(self, run: Run) -> None:
        """Do the work inside `run.directory`."""
        ...


@dataclass(frozen=True)
class StageEntry:
    """Where to find a stage's class.

    Attributes:
        target: `module:Class`.
        help: one line for `palate --help`, the same as the first line of the class's docstring.
        is_shared: whether several ranks share its work; without that one of them does all of it.
        words: the setting by name that words of the command line fill, as PATH or NAME=PATH; "" for a stage that takes options alone.
    """

    target: str
    help: str
    is_shared: bool = False
    words: str = ""

    def load(self) -> type[Stage]:
        """Import the stage's module, which may load torch, and return its class.

        Raises:
            ConfigError: the stage needs a package that is not installed.
        """
        module, name = self.target.split(":")
        try:
            cls = vars(importlib.import_module(module))[name]
        except ModuleNotFoundError as error:
            message = not_installed("this stage", error)
            if message is None:
                raise
            raise message from error
        if not (isinstance(cls, type) and is_dataclass(cls)):
            raise TypeError(f"{self.target} is not a dataclass")
        return cast("type[Stage]", cls)


Stages = Mapping[str, StageEntry]

STAGES: Stages = {
    "world": StageEntry("palate.stages.world:World", "Write the kitchen's corpus, demonstrations, prompts and tests."),
    "pretrain": StageEntry("palate.stages.pretrain:Pretrain", "Train a small language model from nothing on plain text.", is_shared=True),
    "sft": StageEntry("palate.stages.sft:SFT", "Fine-tune a model on demonstrations.", is_shared=True),
    "sample": StageEntry("palate.stages.sample:Sample", "Draw completions of prompts from a model.", is_shared=True),
    "revise": StageEntry(
        "palate.stages.revise:Revise",
        "Criticise and revise completions by a constitution's principles.",
        is_shared=True,
    ),
    "collect": StageEntry("palate.stages.collect:Collect", "Have completions compared by raters, and conclude preferences."),
    "reward": StageEntry("palate.stages.reward:Reward", "Train a reward model on preferences.", is_shared=True),
    "collect_rules": StageEntry("palate.stages.collect_rules:CollectRules", "Have completions judged by the rules of a file."),
    "rules": StageEntry(
        "palate.stages.train_rules:TrainRules",
        "Train a classifier that says whether a written rule is broken.",
        is_shared=True,
    ),
    "refresh": StageEntry("palate.stages.refresh:Refresh", "Train a reward model further, and show what that changed.", is_shared=True),
    "direct": StageEntry("palate.stages.direct:Direct", "Tune a policy on preferences directly, without a reward model.", is_shared=True),
    "online": StageEntry("palate.stages.online:Online", "Tune a policy on rewards of its completions, within a KL budget.", is_shared=True),
    "pair": StageEntry("palate.stages.pair:Pair", "Pair the best with the worst of sampled completions by a reward.", is_shared=True),
    "average": StageEntry("palate.stages.average:Average", "Average the weights of models that were tuned from one another."),
    "rerank": StageEntry("palate.stages.rerank:Rerank", "Keep the best of several completions by a reward.", is_shared=True),
    "evaluate": StageEntry("palate.stages.evaluate:Evaluate", "Measure what a model gained and lost.", is_shared=True),
    "regrade": StageEntry(
        "palate.stages.regrade:Regrade", "Ask other judges whether a gain on a rubric is real, or have completions graded."
    ),
    "compare": StageEntry("palate.stages.compare:Compare", "Say which of several policies wins on the same prompts.", words="policies"),
    "report": StageEntry("palate.stages.report:Report", "Write a report of the runs with tables and plots."),
}


def find_stage(stages: Stages, name: str, place: str) -> type[Stage]:
    """Return the class of the stage `name`.

    Raises:
        ConfigError: there is no such stage; `place` says where it was named.
    """
    if is_import_path(name):
        return own_stage(name, place)
    if name not in stages:
        raise ConfigError(f"{place}: there is no stage {name!r}. {nearest(name, stages)}")
    return stages[name].load()


def own_stage(path: str, place: str) -> type[Stage]:
    """Return the user's class of a stage at an import path. One process does the whole of its work.

    Raises:
        ConfigError: nothing is there, or it is not a frozen dataclass with `check` and `run`.
    """
    try:
        found = load_function(path)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    is_stage = isinstance(found, type) and is_dataclass(found) and all(callable(getattr(found, name, None)) for name in ("check", "run"))
    if not is_stage:
        raise ConfigError(
            f"{place}: {path!r} is not a stage. A stage is a frozen dataclass with the methods check(self) and run(self, run): "
            "see docs/python.md"
        )
    return cast("type[Stage]", found)
