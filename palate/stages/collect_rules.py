"""Stage `collect_rules`: people say which rules of a file completions break."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from palate.agreement.estimates import json_values
from palate.config.types import Count, RuleFileInput
from palate.core import Completion, ConfigError, DataError, Judgment, Prompt, derive_seed
from palate.data import cells
from palate.data.cells import InvalidRow
from palate.data.data_sources import DataInput, check_unweighted, data_name, taking_turns
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote, rule_questions, write_exchange
from palate.data.exchange.rule_questions import RULE
from palate.data.exclusions import excluded_now
from palate.data.rule_file import RuleFile, normal
from palate.evaluation.rater_votes import JUDGMENTS
from palate.evaluation.rule_figures import alpha_of, disagreement, is_badly_worded
from palate.evaluation.rule_tests import program_truths, shown
from palate.evaluation.rule_votes import RuledCompletion, by_rule, rule_votes
from palate.raters.people import People
from palate.raters.rule_raters import RuleRaters
from palate.runs.run import Run
from palate.samplers.prompts import samples_at


@dataclass(frozen=True)
class CollectRules:
    """Have completions judged by the rules of a file.

    Attributes:
        samples: the completions to judge. One path, or several sources (docs/data.md).
        rules: the file of rules.
        from_: who judges: people at `palate label`, or simulated people, who see what the rules' programs say.
        ids: rules that are asked about; all of them by default.
        limit: how many completions are judged, at most; none judges all.
        raters_per_question: people per completion and rule.
    """

    samples: DataInput
    rules: RuleFileInput
    from_: People | RuleRaters
    ids: tuple[str, ...] = ()
    limit: Count | None = None
    raters_per_question: Count = 1

    def check(self) -> None:
        """Raise ConfigError when there are fewer simulated people than a question needs."""
        check_unweighted(self.samples)
        if isinstance(self.from_, RuleRaters) and self.raters_per_question > self.from_.raters:
            raise ConfigError(
                f"raters_per_question must be at most {self.from_.raters}, the number of raters, got {self.raters_per_question}"
            )

    def run(self, run: Run) -> None:
        """Write `judgments.jsonl`, as `rules`, `palate agreement` and `palate label` read it."""
        whole = RuleFile.read(Path(self.rules))
        file = replace(whole, rules=whole.selected(self.ids))
        asked = rule_questions(Exchange(self._items(run)), file, run.name, self.raters_per_question)
        if not asked.items:
            raise DataError(f"{data_name(self.samples)}: there is no completion to judge. Sample some first")
        answered = self.from_.answers_about(run, asked) if isinstance(self.from_, People) else self._simulated(run, self.from_, file, asked)
        answered = _of_questions(answered, asked)
        excluded = excluded_now()
        answered = replace(answered, votes=tuple(vote for vote in answered.votes if not excluded.has_rater(vote.judgment.rater)))
        write_exchange(answered, run.directory / JUDGMENTS)
        judged, left_out = rule_votes(answered, file)
        run.dropped("judgments", list(left_out.elements()))
        votes = by_rule(judged)
        seed = derive_seed(run.seed, "agreement")
        figures: dict[str, object] = {}
        for rule in file.rules:
            own = votes.get(rule.id, [])
            alpha, count = alpha_of(own, seed), sum(len(one.votes) for one in own)
            if alpha is not None and is_badly_worded(alpha):
                run.say(disagreement(rule.id, alpha))
            figures[rule.id] = {
                "judgments": count,
                "broken": sum(one.num_broken for one in own) / count if count else None,
                "agreement": None if alpha is None else json_values(asdict(alpha)),
                "is_badly_worded": is_badly_worded(alpha),
            }
        run.summary({"questions": len(asked.items), "judgments": sum(len(one.votes) for one in judged), "rules": figures})

    def _items(self, run: Run) -> tuple[ExchangeItem, ...]:
        """Return the completions as items, and record those that are left out."""
        items: dict[object, ExchangeItem] = {}
        empty = 0
        for prompt, completions in taking_turns(samples_at(run, self.samples), lambda row: row[0].source_name):
            for number, completion in enumerate(completions):
                candidate = Candidate(completion.text, policy=completion.policy, tool_fields=completion.tool_fields)
                key = prompt.conversation, completion.text, completion.tool_fields
                empty += not (completion.text or completion.tool_fields)
                if (completion.text or completion.tool_fields) and key not in items:
                    items[key] = ExchangeItem(f"{prompt.id}/{number}", prompt.conversation, (candidate,), "rule", fields=_columns(prompt))
        run.dropped("completions", ["empty completion"] * empty)
        return tuple(items.values())[: self.limit]

    def _simulated(self, run: Run, raters: RuleRaters, file: RuleFile, asked: Exchange) -> Exchange:
        """Return the questions with the answers of simulated people.

        Raises:
            ConfigError: a rule has no program, so there is no truth that they could see.
        """
        if without := [rule.id for rule in file.rules if not rule.program]:
            raise ConfigError(
                f"simulated people see what a rule's program says, and {', '.join(without)} in {file.path} has none. Name other ids, or "
                "let people judge (from: people)"
            )
        questions = [_asked_about(item, file) for item in asked.items]
        truths = program_truths(file, questions)
        seed = derive_seed(run.seed, "raters of rules")
        votes: list[Vote] = []
        for item, one in zip(asked.items, questions, strict=True):
            is_broken = truths[shown(one), one.rule]
            own = raters.votes(item.id, one.rule, is_broken=is_broken, count=self.raters_per_question, seed=seed)
            votes += [Vote(Judgment(item.id, name, ()), is_broken=says, rule=str(item.fields[RULE])) for name, says in own]
        names = dict.fromkeys(vote.judgment.rater for vote in votes)
        return replace(asked, votes=tuple(votes), raters=tuple(RaterInfo(name, "simulated") for name in names))


def _asked_about(item: ExchangeItem, file: RuleFile) -> RuledCompletion:
    """Return an item as a completion and the rule that it is asked about."""
    candidate, rule = item.candidates[0], file.by_words[normal(str(item.fields[RULE]))]
    completion = Completion(candidate.text, policy=candidate.policy, tool_fields=candidate.tool_fields)
    return RuledCompletion(Prompt(item.id, item.conversation, item.fields), completion, rule.id)


def _of_questions(answered: Exchange, asked: Exchange) -> Exchange:
    """Return what was answered about the questions that were asked; a project of people may hold others."""
    wanted = {(item.conversation, item.candidates[0].text, item.fields[RULE]) for item in asked.items}
    items = [
        item for item in answered.items if item.candidates and (item.conversation, item.candidates[0].text, item.fields.get(RULE)) in wanted
    ]
    ids = {item.id for item in items}
    return replace(answered, items=tuple(items), votes=tuple(vote for vote in answered.votes if vote.judgment.comparison in ids))


def _columns(prompt: Prompt) -> dict[str, object]:
    """Return the columns of a prompt that a file can hold, for the rules' programs. The rule is not one of them."""
    kept: dict[str, object] = {}
    for name, value in prompt.fields.items():
        with suppress(InvalidRow):
            kept[name] = cells.json_value(value, name)
    kept.pop(RULE, None)
    return kept
