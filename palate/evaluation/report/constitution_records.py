"""The rows of the report's sections on a constitution: what its principles did, and what each model cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class PrincipleRow:
    """What one principle did in the rounds in which it was drawn.

    Attributes:
        principle: its id.
        dimension: its dimension.
        drawn: rounds in which it was drawn.
        changed: share of these rounds that changed the text.
        kept: rounds that kept the text, by reason, such as "no complaint" or "critique cut".
        gold: gold after less gold before, of the texts that were changed, by dimension; empty where no gold is known.
        preferred: how likely raters prefer what it made of a draft to the original, the mean of their labels; None where nobody compared.
    """

    principle: str
    dimension: str
    drawn: int
    changed: Estimate
    kept: Mapping[str, int]
    gold: Mapping[str, Estimate]
    preferred: Estimate | None = None


@dataclass(frozen=True, slots=True)
class RevisionRounds:
    """What critiques and revisions did to drafts.

    Attributes:
        constitution: its name and version.
        drafts: how many texts were revised.
        principles: a row per principle.
        gold: mean gold by dimension of the originals and of the texts after each round; () where no gold is known.
        gains: for each dimension the paired difference between the last round and the originals.
    """

    constitution: str
    drafts: int
    principles: tuple[PrincipleRow, ...]
    gold: tuple[Mapping[str, Estimate], ...]
    gains: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a model needed beside its training data, over every run that led to it.

    Attributes:
        variant: the model.
        human_labels: judgments of people, real or simulated.
        model_labels: judgments of models.
        tokens_read: tokens that models read to criticise, to revise and to judge.
        tokens_written: tokens that models wrote: samples, critiques, revisions, judgments and online training's completions.
    """

    variant: str
    human_labels: int
    model_labels: int
    tokens_read: int
    tokens_written: int
