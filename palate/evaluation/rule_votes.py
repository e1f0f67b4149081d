"""Judgments of rules: what raters said about each completion and rule, from pages, files and probes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from palate.core import Completion, Conversation, DataError, Prompt, is_anonymous
from palate.data.exchange import Exchange, ExchangeItem, Vote
from palate.data.rule_file import RuleFile, normal
from palate.evaluation.rater_votes import PROBE, read_judgments, reason_to_leave_out

OTHER_RULE = "its rule is not in the file of rules"


@dataclass(frozen=True)
class RuledCompletion:
    """What raters said about one completion and one rule.

    Attributes:
        prompt: what the completion answers.
        completion: its text, and the calls that it makes.
        rule: the rule's id.
        votes: (rater, whether the rule is broken) of each rater.
        decision: what a reviewer decided; None where nobody did.
    """

    prompt: Prompt
    completion: Completion
    rule: str
    votes: tuple[tuple[str, bool], ...] = ()
    decision: bool | None = None

    @property
    def broken(self) -> float:
        """The share of the raters who say that the rule is broken; 0 or 1 where a reviewer decided."""
        return float(self.decision) if self.decision is not None else self.num_broken / len(self.votes)

    @property
    def num_broken(self) -> int:
        """How many raters say that the rule is broken."""
        return sum(is_broken for _, is_broken in self.votes)


def read_rule_votes(path: Path, rules: RuleFile) -> tuple[list[RuledCompletion], Counter[str]]:
    """Return the judgments of rules in a file or a run, and how many are left out, by reason.

    Raises:
        DataError: it cannot be read, or holds no judgment of one of the rules.
    """
    exchange, place = read_judgments(path)
    judged, left_out = rule_votes(exchange, rules)
    if not judged:
        others = list(dict.fromkeys(vote.rule for vote in exchange.votes if vote.rule and normal(vote.rule) not in rules.by_words))
        holds = "; ".join(f"{count} x {reason}" for reason, count in left_out.most_common()) or "nothing"
        example = f" A judgment there is about {others[0]!r:.200}." if others else ""
        raise DataError(
            f"{place}: there is no judgment of a rule of {rules.path}, but {holds}.{example} Name the rules of the judgments in the file, "
            "with the words that raters saw"
        )
    return judged, left_out


def rule_votes(exchange: Exchange, rules: RuleFile) -> tuple[list[RuledCompletion], Counter[str]]:
    """Return what raters said about each completion and rule, and how many judgments are left out, by reason.

    The words that raters saw name the rule: its id, its text, or one of its wordings. A rater's last answer counts.
    """
    items, by_words = {item.id: item for item in exchange.items}, rules.by_words
    left_out = Counter(row.kind for row in exchange.dropped)
    found: dict[tuple[Conversation, str, str, str], RuledCompletion] = {}
    for vote in exchange.votes:
        item = items[vote.judgment.comparison]
        reason = _reason(vote, item)
        rule = by_words.get(normal(vote.rule or str(item.fields.get("rule", ""))))
        shown = None if reason else _shown(vote, item)
        if reason or rule is None or shown is None:
            left_out[reason or (OTHER_RULE if rule is None else "nobody answered in the dialogue")] += vote.entry != "undo"
            continue
        prompt, completion = shown
        key = prompt.conversation, completion.text, completion.tool_fields, rule.id
        one = found.get(key, RuledCompletion(prompt, completion, rule.id))
        found[key] = _with(one, vote)
    return [one for one in found.values() if one.votes or one.decision is not None], +left_out


def _reason(vote: Vote, item: ExchangeItem) -> str:
    """Return why it is not a judgment of a rule; "" for one."""
    if vote.is_broken is None:
        return "judgment that is not about a rule"
    if vote.entry == "adjudication" and vote.status == "kept":
        return ""
    reason = reason_to_leave_out(vote, item)
    return "" if reason == PROBE else reason


def _shown(vote: Vote, item: ExchangeItem) -> tuple[Prompt, Completion] | None:
    """Return the completion that was judged, and what it answers; None where a dialogue has no answer."""
    if item.candidates:
        candidate = item.candidates[0]
        return Prompt(item.id, item.conversation, item.fields), Completion(
            candidate.text, policy=candidate.policy, tool_fields=candidate.tool_fields
        )
    answers = [k for k, turn in enumerate(vote.dialogue) if turn.role == "assistant" and k]
    if not answers:
        return None
    last = vote.dialogue[answers[-1]]
    conversation = (*item.conversation, *vote.dialogue[: answers[-1]])
    return Prompt(f"{item.id}/{vote.judgment.rater}", conversation, item.fields), Completion(last.text, tool_fields=last.tool_fields)


def _with(one: RuledCompletion, vote: Vote) -> RuledCompletion:
    assert vote.is_broken is not None
    if vote.entry == "adjudication":
        return replace(one, decision=vote.is_broken)
    rater = vote.judgment.rater
    others = tuple(pair for pair in one.votes if pair[0] != rater or is_anonymous(rater))
    return replace(one, votes=(*others, (rater, vote.is_broken)))


def by_rule(judged: list[RuledCompletion]) -> Mapping[str, list[RuledCompletion]]:
    """Return the judgments of each rule, by its id."""
    found: dict[str, list[RuledCompletion]] = {}
    for one in judged:
        found.setdefault(one.rule, []).append(one)
    return found
