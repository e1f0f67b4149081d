"""Who says whether a completion breaks a written rule: the rule's own program, a classifier, or a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from palate.config.answers import Score
from palate.config.types import Input, RuleFileInput
from palate.core import ConfigError
from palate.data.rubrics import Criterion, Rubric
from palate.data.rule_file import RuleFile, WrittenRule
from palate.distributed.ranks import from_writer
from palate.judges.judge_kinds import JudgeModelKind
from palate.judges.judge_model import JudgeModel
from palate.judges.rubric_grading import OPTIONS, Asking, GradingItem, grade_all
from palate.rewards.batch import PartScores, ScoringBatch
from palate.rewards.function import FunctionProcess
from palate.rewards.learned import LearnedReward
from palate.rewards.part import check_timeout
from palate.rewards.rule_classifier import RuleClassifier, probability
from palate.rewards.worker import Setup
from palate.runs.run import Run

Source = Literal["program", "classifier", "judge"]


@dataclass(frozen=True)
class Breaches:
    """Whether b completions break r rules.

    Attributes:
        table: (b, r) probabilities that the rule is broken, NaN where nobody knows; a program says 0 or 1.
        reasons: why nobody knows, by the numbers of completion and rule.
    """

    table: Tensor
    reasons: Mapping[tuple[int, int], str]


@dataclass(frozen=True, kw_only=True)
class RuleCheck:
    """The rules that are checked, and who checks them: for each rule its program, else the classifier, else the judge.

    Attributes:
        file: a YAML or JSON file with rules.
        ids: the rules that are checked; all of them by default.
        model: a classifier that stage `rules` trained.
        judge: a model that judges by the text of the rule.
        ask: how the judge is asked: rule by rule with a written verdict (one_by_one) or by the probabilities of yes and no (options), or
            about all rules in one question (together).
        programs: whether a rule's own program decides, where it has one.
        timeout_seconds: seconds for a batch that a program checks.
    """

    file: RuleFileInput
    ids: tuple[str, ...] = ()
    model: Input | None = None
    judge: JudgeModelKind | None = None
    ask: Asking = "one_by_one"
    programs: bool = True
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_timeout("rules", self.timeout_seconds)
        if self.judge is not None:
            self.judge.check(OPTIONS if self.ask == "options" else (), 1)

    def open(self, name: str, learned: Callable[[str], LearnedReward], run: Run | None) -> OpenRules:
        """Return the rules with those who check them: programs run, models are loaded.

        Args:
            name: what messages call it.
            learned: gives the model at a path.
            run: the run, whose directory keeps the judge's answers.

        Raises:
            ConfigError: nobody can check one of the rules, there is no such rule, or a program cannot be imported.
            DataError: the file cannot be used.
            ModelError: the model is not a classifier of rules.
        """
        rules = RuleFile.read(Path(self.file)).selected(self.ids)
        sources = [self._source(rule) for rule in rules]
        if open_to_nobody := [rule.id for rule, source in zip(rules, sources, strict=True) if source is None]:
            raise ConfigError(
                f"{name}: nobody can say whether a completion breaks {', '.join(open_to_nobody)}. Name a classifier in `model` or a judge "
                "in `judge`" + ("" if self.programs else ", or let the rules' programs decide (programs: true)")
            )
        if self.judge is not None and "judge" in sources and run is None:
            raise ConfigError(f"{name}: a judge keeps its answers in the directory of a run, and there is none")
        with ExitStack() as started:
            processes: dict[int, FunctionProcess] = {}
            for k, (rule, source) in enumerate(zip(rules, sources, strict=True)):
                if source == "program":
                    setup = Setup(rule.program, batched=False)
                    processes[k] = FunctionProcess(f"{name}: rule {rule.id!r}", setup, self.timeout_seconds)
                    started.callback(processes[k].close)
            classifier = RuleClassifier(learned(self.model), self.model) if self.model is not None and "classifier" in sources else None
            judge = self.judge.open(run) if self.judge is not None and run is not None and "judge" in sources else None
            started.pop_all()
        return OpenRules(rules, tuple(source for source in sources if source is not None), processes, classifier, judge, self.ask)

    def _source(self, rule: WrittenRule) -> Source | None:
        if self.programs and rule.program:
            return "program"
        return "classifier" if self.model is not None else "judge" if self.judge is not None else None


@dataclass(frozen=True)
class OpenRules:
    """Rules with those who check them."""

    rules: tuple[WrittenRule, ...]
    sources: tuple[Source, ...]
    processes: Mapping[int, FunctionProcess] = field(default_factory=dict)
    classifier: RuleClassifier | None = None
    judge: JudgeModel | None = None
    ask: Asking = "one_by_one"

    @property
    def checkers(self) -> dict[str, str]:
        """Who checks each rule, in words, by the rule's id."""
        return {rule.id: self._checker(rule, source) for rule, source in zip(self.rules, self.sources, strict=True)}

    def _checker(self, rule: WrittenRule, source: Source) -> str:
        match source:
            case "program":
                return f"program {rule.program}"
            case "classifier":
                return f"classifier {'' if self.classifier is None else self.classifier.path}"
            case "judge":
                return f"judge {'' if self.judge is None else self.judge.name}"

    def breaches(self, batch: ScoringBatch) -> Breaches:
        """Return whether each completion breaks each rule. What cannot be checked has a reason, and is never 0."""
        columns: dict[int, Sequence[Score]] = {}
        for k, process in self.processes.items():
            outcome = from_writer(partial(process.score, batch))
            columns[k] = [self._of_program(self.rules[k], outcome, row, each.text) for row, (_, each) in enumerate(batch.each)]
        learned, judged = ([k for k, own in enumerate(self.sources) if own == source] for source in ("classifier", "judge"))
        if self.classifier is not None:
            questions = [self.rules[k].question for k in learned]
            rows = self.classifier.logits(batch.each, [questions] * len(batch))
            columns |= {k: [probability(row[at]) for row in rows] for at, k in enumerate(learned)}
        if self.judge is not None:
            rubric = Rubric(tuple(Criterion(self.rules[k].id, statement(self.rules[k]), 1.0) for k in judged))
            items = [GradingItem(prompt, completion, rubric) for prompt, completion in batch.each]
            grades = from_writer(partial(grade_all, self.judge, items, self.ask))
            columns |= {k: [own[self.rules[k].id] for own in grades] for k in judged}
        said = [[columns[k][row] for k in range(len(self.rules))] for row in range(len(batch))]
        table = torch.tensor([[float("nan") if isinstance(one, str) else one for one in row] for row in said], dtype=torch.float32)
        return Breaches(
            table.reshape(len(batch), len(self.rules)),
            {(row, k): one for row, own in enumerate(said) for k, one in enumerate(own) if isinstance(one, str)},
        )

    def _of_program(self, rule: WrittenRule, outcome: PartScores, row: int, text: str) -> Score:
        told = outcome.reasons.get(row, "")
        value = float(outcome.heads[""][row])
        if not told and not 0 <= value <= 1:
            told = f"gave {value:g}, which is not True, False or a probability"
        return f"rule {rule.id!r}: its program {rule.program} {told}, for the completion {text[:60]!r}" if told else value

    def close(self) -> None:
        """End the programs' processes, and close the judge's ledger."""
        for process in self.processes.values():
            process.close()
        if self.judge is not None:
            self.judge.close()


def statement(rule: WrittenRule) -> str:
    """Return what a judge says yes or no to, as a criterion of a rubric."""
    return f"The answer breaks this rule: {rule.text}"
