"""Stage `world`: write the files of an embedded world, in the formats of real data."""

from __future__ import annotations

from dataclasses import dataclass, field

from palate.core import ConfigError
from palate.data.jsonl import write_rows
from palate.kitchen import Kitchen
from palate.runs.run import Run


@dataclass(frozen=True)
class World:
    """Write the kitchen's corpus, demonstrations, prompts and tests.

    Attributes:
        kitchen: the world, and the sizes of its files.
    """

    kitchen: Kitchen = field(default_factory=Kitchen)

    def check(self) -> None:
        """Raise ConfigError when a size is not above 0, or below it where there may be none."""
        for name, size in vars(self.kitchen).items():
            may_be_none = name in {"revisions", "red_team", "rules", "rule_letters", "held_out_texts"}
            if size < 0 or (size == 0 and not may_be_none):
                raise ConfigError(f"kitchen.{name} must be {'0 or more' if may_be_none else 'above 0'}, got {size}")
        for name, share in (("revisions", self.kitchen.revisions), ("rule_letters", self.kitchen.rule_letters)):
            if share > 1:
                raise ConfigError(f"kitchen.{name} is a share: it must be at most 1, got {share}")
        if self.kitchen.rule_letters and not self.kitchen.rules:
            raise ConfigError("kitchen.rule_letters needs rules: true, so that the tokenizer knows all words of the rules")

    def run(self, run: Run) -> None:
        """Write corpus, demonstrations, prompts, held-out prompts, evals and the tokenizer."""
        self.kitchen.write(run.directory, run.seed, write_rows)
        run.summary({"files": sorted(path.name for path in run.directory.glob("*.jsonl"))})
