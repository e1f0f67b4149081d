"""Questions about written rules: items that each ask about one rule of a file, in a project with these rules and their guidelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from palate.config.settings import nearest
from palate.core import DataError
from palate.data.exchange.contents import Exchange, ExchangeItem, GuidelineText, SourceLocations, Vote
from palate.data.exchange.project import Project, Task, TaskKind
from palate.data.rule_file import RuleFile, guideline, normal

RULE = "rule"
"""The field of an item that names its rule."""

RULED: tuple[TaskKind, ...] = ("rule", "probe")


def rule_questions(exchange: Exchange, file: RuleFile, name: str, overlap: int = 1) -> Exchange:
    """Return the items as questions about rules. An item that names none is asked about each rule of the file.

    An item may name its rule by id, text or any wording. Raters are asked the rule's question. The guidelines hold all rules with their
    examples.

    Args:
        exchange: items with one completion, or without any to probe a model.
        file: the rules.
        name: the project's name.
        overlap: raters per question.

    Raises:
        DataError: an item compares completions, names another rule, or has judgments and names no rule. The message names the item.
    """
    judged = {vote.judgment.comparison for vote in exchange.votes}
    items: list[ExchangeItem] = []
    places: list[str] = []
    for number, item in enumerate(exchange.items):
        place = exchange.item_place(number)
        if item.task not in RULED:
            remedy = "Give it one completion, or `task: probe` and none"
            raise DataError(f"{place}: the item is to {item.task}, and --rules asks about rules. {remedy}.")
        if not item.fields.get(RULE) and item.id in judged:
            raise DataError(f"{place}: the item has judgments and does not name its rule. Give it the field `rule`.")
        asked = _asked(item, file, place)
        items += asked
        places += [place] * len(asked)
    kinds = list(dict.fromkeys(item.task for item in items))
    if len(kinds) > 1:
        raise DataError(f"{exchange.item_place(0)}: some items are to {kinds[0]}, others to {kinds[1]}. Put them into separate projects.")
    task = Task(kinds[0] if kinds else "rule", rules=tuple(rule.question for rule in file.rules))
    return replace(
        exchange,
        items=tuple(items),
        votes=tuple(_renamed(vote, file) for vote in exchange.votes),
        guidelines=(GuidelineText("1", guideline(file.rules)),),
        name=name,
        project=Project(name, task, overlap=overlap),
        places=SourceLocations(exchange.places.project, tuple(places), exchange.places.votes) if exchange.places.items else exchange.places,
    )


def _asked(item: ExchangeItem, file: RuleFile, place: str) -> Sequence[ExchangeItem]:
    named = str(item.fields.get(RULE) or "")
    if not named:
        return [replace(item, id=f"{item.id}/{rule.id}", fields={**item.fields, RULE: rule.question}) for rule in file.rules]
    rule = file.by_words.get(normal(named))
    if rule is None:
        raise DataError(f"{place}: {file.path} has no rule {named!r}. {nearest(named, [rule.id for rule in file.rules])}")
    return [replace(item, fields={**item.fields, RULE: rule.question})]


def _renamed(vote: Vote, file: RuleFile) -> Vote:
    rule = file.by_words.get(normal(vote.rule))
    return vote if rule is None else replace(vote, rule=rule.question)
