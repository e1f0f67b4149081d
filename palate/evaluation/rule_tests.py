"""What a classifier says of held-out completions, under each rule's question and its held-out wordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palate.core import Completion, Conversation, DataError, Prompt
from palate.data.rule_file import RuleFile
from palate.evaluation.rule_figures import RulePrediction
from palate.evaluation.rule_votes import RuledCompletion
from palate.rewards.batch import ScoringBatch
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_check import OpenRules, RuleCheck
from palate.rewards.rule_classifier import RuleClassifier, probability

Shown = tuple[Conversation, Completion]
"""What was judged."""


def shown(one: RuledCompletion) -> Shown:
    """Return what was judged, as a key."""
    return one.prompt.conversation, Completion(one.completion.text, tool_fields=one.completion.tool_fields)


def program_truths(file: RuleFile, judged: Sequence[RuledCompletion]) -> dict[tuple[Shown, str], bool]:
    """Return whether each completion breaks each rule that has a program, by what was judged and the rule's id.

    Raises:
        ConfigError: a program cannot be imported.
        DataError: a program raised, or gave something else than True, False or a probability. The message names rule and completion.
    """
    ids = tuple(rule.id for rule in file.rules if rule.program)
    if not ids or not judged:
        return {}
    items = list({shown(one): (one.prompt, one.completion) for one in judged}.values())
    opened = RuleCheck(file=file.path, ids=ids).open("rules", no_model, None)
    try:
        table = known_breaches(opened, items)
    finally:
        opened.close()
    keys = list(dict.fromkeys(map(shown, judged)))
    return {(key, rule): row[k] > 0.5 for key, row in zip(keys, table, strict=True) for k, rule in enumerate(ids)}


def no_model(path: str) -> LearnedReward:
    """Refuse to load a model, where only programs are asked."""
    raise AssertionError(f"programs need no model, got {path}")


def known_breaches(opened: OpenRules, items: Sequence[tuple[Prompt, Completion]]) -> list[list[float]]:
    """Return the probability that each completion breaks each rule. Raises DataError where nobody can say, with the reason."""
    batch = ScoringBatch(tuple(prompt for prompt, _ in items), tuple((completion,) for _, completion in items))
    found = opened.breaches(batch)
    if found.reasons:
        reasons = list(dict.fromkeys(found.reasons.values()))
        raise DataError(f"{reasons[0]}" + (f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""))
    table: list[list[float]] = found.table.tolist()
    return table


def rule_predictions(
    classifier: RuleClassifier, file: RuleFile, judged: Sequence[RuledCompletion], truths: Mapping[tuple[Shown, str], bool]
) -> tuple[list[RulePrediction], list[str]]:
    """Return what the classifier says of each judged completion, under the question and under all held-out wordings.

    Also return the reason for each completion that it could not read.

    Args:
        classifier: the classifier.
        file: the rules.
        judged: the judgments to test on.
        truths: what programs say, by what was judged and the rule's id.
    """
    rules = {rule.id: rule for rule in file.rules}
    prompts = {conversation: k for k, conversation in enumerate(dict.fromkeys(one.prompt.conversation for one in judged))}
    questions = [(rules[one.rule].question, *rules[one.rule].held_out) for one in judged]
    logits = classifier.logits([(one.prompt, one.completion) for one in judged], questions)
    predictions: list[RulePrediction] = []
    reasons: list[str] = []
    for one, said in zip(judged, logits, strict=True):
        unread = [answer for answer in said if isinstance(answer, str)]
        if unread:
            reasons.append(unread[0].split(":")[0])
            continue
        truth, number = truths.get((shown(one), one.rule)), prompts[one.prompt.conversation]
        predictions += [
            RulePrediction(one.rule, "held_out" if k else "question", value, number, one.broken, max(len(one.votes), 1), truth)
            for k, logit in enumerate(said)
            if not isinstance(value := probability(logit), str)
        ]
    return predictions, reasons
