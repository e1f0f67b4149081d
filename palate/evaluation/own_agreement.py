"""How often one person's judgments agree with a crowd's and with the truth, on the same pairs of completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.agreement.estimates import wilson
from palate.config.functions import load_gold
from palate.core import Conversation
from palate.data.formats import read_preferences, read_samples

Pair = tuple[Conversation, frozenset[str]]


def agreement_sentences(mine: Path, crowd: Sequence[Path], samples: Path, gold: str | None, dimension: str) -> tuple[str, ...]:
    """Return a sentence on the crowd, and one on the truth where there is a function that knows it.

    Args:
        mine: preferences that one person's judgments gave.
        crowd: files of preferences that others gave.
        samples: the completions, with the columns that `gold` takes.
        gold: import path of the truth, or None.
        dimension: the dimension that was judged.
    """
    own = winners(mine, dimension)
    others: dict[Pair, str] = {}
    for path in crowd:
        others |= winners(path, dimension)
    sentences = [_sentence("the raters of the pipeline", own, others)]
    if gold is not None:
        sentences.append(_sentence("the truth", own, truths(samples, own, gold, dimension)))
    return tuple(sentence for sentence in sentences if sentence)


def winners(path: Path, dimension: str) -> dict[Pair, str]:
    """Return the text that is preferred, by prompt and pair; pairs without a preference are left out."""
    found: dict[Pair, str] = {}
    for row in read_preferences(path).rows:
        if row.dimension == dimension and row.probability != 0.5:
            best = row.chosen if row.probability > 0.5 else row.rejected
            found[row.prompt.conversation, frozenset((row.chosen.text, row.rejected.text))] = best.text
    return found


def truths(samples: Path, pairs: Mapping[Pair, str], gold: str, dimension: str) -> dict[Pair, str]:
    """Return the text that the truth prefers, for those of the pairs whose texts it tells apart."""
    judge = load_gold(gold)
    prompts = {prompt.conversation: prompt for prompt, _ in read_samples(samples).rows}
    found: dict[Pair, str] = {}
    for conversation, texts in pairs:
        prompt = prompts.get(conversation)
        if prompt is None:
            continue
        values = {text: judge(prompt.text, text, **prompt.fields)[dimension] for text in texts}
        best = max(values, key=values.__getitem__)
        if len(set(values.values())) > 1:
            found[conversation, texts] = best
    return found


def _sentence(whom: str, own: Mapping[Pair, str], others: Mapping[Pair, str]) -> str:
    both = [pair for pair in own if pair in others]
    if not both:
        return ""
    agreed = sum(own[pair] == others[pair] for pair in both)
    low, high = wilson(agreed, len(both))
    return f"You agree with {whom} on {agreed} of {len(both)} pairs (95 %: {low:.0%} to {high:.0%})."
