"""Stage `collect`: completions are compared by raters, and preferences concluded from what they say."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.agreement import concluded, pair_answer, rater_noise_ceiling, smoothed_share
from palate.core import Comparison, Completion, ConfigError, DataError, Judgment, Prompt, derive_seed
from palate.evaluation.intervals import mean
from palate.raters.simulated import OVERALL, Crowd, SimulatedRater, oracle_accuracy
from palate.recipes.config import Amount, Count, Input, Share
from palate.recipes.records import answer, messages, read_samples
from palate.rewards.functions import load_function
from palate.stores.formats import tools_of
from palate.stores.jsonl import write_rows
from palate.stores.runs import Run

CEILING_SAMPLE = 2000
Ask = tuple[Comparison, str]
"""A comparison and the dimension asked about."""


@dataclass(frozen=True)
class Collect:
    """Have completions compared by raters, and conclude preferences.

    Attributes:
        samples: completions to compare.
        gold: import path of the function whose scores simulated raters look at, say package.module:function.
        crowd: the simulated raters.
        dimensions: what raters are asked about, one question each; "overall" for a single question.
        pairs_per_prompt: pairs judged of each prompt's completions; none takes all.
        opinions: raters who answer each question; their shares of votes are the labels.
        second_opinions: share of questions that one rater more answers: with two or more the agreement is known.
        held_out: share of prompts whose judgments are kept for testing reward models.
        prior: votes that a smoothed share adds half to each side: 1 vote counts as 3/4, not as certainty.
    """

    samples: Input
    gold: str
    crowd: Crowd = field(default_factory=Crowd)
    dimensions: tuple[str, ...] = (OVERALL,)
    pairs_per_prompt: Count | None = None
    opinions: Count = 1
    second_opinions: Share = 0.15
    held_out: Share = 0.1
    prior: Amount = 1.0

    def check(self) -> None:
        """Checks dimensions and opinions."""
        if not self.dimensions:
            raise ConfigError("dimensions is empty: raters need a question; give [overall]")
        if self.opinions > self.crowd.raters:
            raise ConfigError(f"opinions must not exceed the crew's {self.crowd.raters} raters, got {self.opinions}: nobody answers twice")

    def run(self, run: Run) -> None:
        """Writes `judgments.jsonl`, `preferences.jsonl` and `held_out.jsonl`."""
        raters = self.crowd.hire(load_function(self.gold), derive_seed(run.seed, "crowd"))
        rng = random.Random(derive_seed(run.seed, "collect"))
        asks, equal, cut_off = self._asks(read_samples(self.samples), rng)
        if not asks:
            raise DataError(f"{self.samples}: no prompt has two different finished completions to compare; sample more of them")
        answers: list[tuple[Ask, list[Judgment]]] = []
        with run.progress(len(asks), "collect") as advance:
            for comparison, dimension in asks:
                chosen = rng.sample(raters, min(self.opinions + (rng.random() < self.second_opinions), len(raters)))
                orders = [rng.choice(((0, 1), (1, 0))) for _ in chosen]
                judged = [rater.judge(comparison, dimension, order, run.seed) for rater, order in zip(chosen, orders, strict=True)]
                answers.append(((comparison, dimension), judged))
                advance(1)
        write_rows(run.directory / "judgments.jsonl", (_judgment_row(j) for _, judged in answers for j in judged))
        ids = sorted({comparison.prompt.id for comparison, _ in asks})
        tested = set(rng.sample(ids, round(self.held_out * len(ids))))
        for name, inside in (("preferences.jsonl", False), ("held_out.jsonl", True)):
            part = [(ask, judged) for ask, judged in answers if (ask[0].prompt.id in tested) == inside]
            write_rows(run.directory / name, (row for ask, judged in part for row in self._preference_rows(ask, judged)))
        run.summary({"equal_pairs": equal, "unfinished_completions": cut_off, **self._summary(answers, raters)})

    def _asks(self, samples: Sequence[tuple[Prompt, tuple[Completion, ...]]], rng: random.Random) -> tuple[list[Ask], int, int]:
        """The questions, the pairs left out because both sides are equal, and the completions left out because unfinished."""
        asks: list[Ask] = []
        equal = cut_off = 0
        for prompt, completions in samples:
            finished = [k for k, completion in enumerate(completions) if completion.stop == "end"]
            cut_off += len(completions) - len(finished)
            pairs = list(itertools.combinations(finished, 2))
            for i, j in rng.sample(pairs, min(self.pairs_per_prompt or len(pairs), len(pairs))):
                if completions[i].text == completions[j].text:
                    equal += 1
                    continue
                comparison = Comparison(f"{prompt.id}/{i}-{j}", prompt, (completions[i], completions[j]))
                asks += [(comparison, dimension) for dimension in self.dimensions]
        return asks, equal, cut_off

    def _preference_rows(self, ask: Ask, judged: Sequence[Judgment]) -> Iterator[dict[str, Any]]:
        """One preference: the smoothed share of votes, (votes + prior / 2) / (n + prior); chosen is whom it favours."""
        comparison, dimension = ask
        votes = [first_share(judgment) for judgment in judged]
        share = smoothed_share(votes, self.prior)
        preference = concluded(comparison, share, dimension)
        yield {
            "id": f"{comparison.id}/{dimension}",
            "prompt": messages(comparison.prompt),
            **tools_of(comparison.prompt.conversation),
            "chosen": answer(comparison.prompt, preference.chosen),
            "rejected": answer(comparison.prompt, preference.rejected),
            "probability": preference.probability,
            "dimension": dimension,
            "votes": [vote if share >= 0.5 else 1 - vote for vote in votes],
            "raters": [judgment.rater for judgment in judged],
        }

    def _summary(self, answers: Sequence[tuple[Ask, Sequence[Judgment]]], raters: Sequence[SimulatedRater]) -> dict[str, object]:
        """Counts, agreement of two raters on the same question, and how well anyone could predict a rater (two ways)."""
        doubles = [[first_share(j) for j in judged[:2]] for _, judged in answers if len(judged) > 1]
        same = [float(a == b) for a, b in doubles]
        ceilings = {
            name: _ceiling(raters, [ask for ask, _ in answers if name in (ask[1], OVERALL)]) for name in (*self.dimensions, OVERALL)
        }
        first = [float(j.ranking[0] == (0,)) for _, judged in answers for j in judged if len(j.ranking) == 2]
        summary: dict[str, object] = {
            "judgments": sum(len(judged) for _, judged in answers),
            "questions": len(answers),
            "ties": sum(len(j.ranking) == 1 for _, judged in answers for j in judged),
            "ceilings": ceilings,
        }
        if first:
            summary["shown_first_wins"] = mean(first).value
        if same:
            agreement = sum(same) / len(same)
            summary |= {"agreement": agreement, "doubles": len(same), "ceiling_from_agreement": rater_noise_ceiling(agreement).accuracy}
        return summary


def _ceiling(raters: Sequence[SimulatedRater], asks: Sequence[Ask]) -> float:
    """The best accuracy that anyone could reach in predicting a random rater, over (at most 2,000 of) the questions."""
    # Drawn, not every k-th: questions about the same pair follow one another, and a stride that they divide hears one dimension only.
    some = random.Random(0).sample(asks, min(CEILING_SAMPLE, len(asks)))
    return sum(oracle_accuracy(raters, comparison, dimension) for comparison, dimension in some) / len(some)


def first_share(judgment: Judgment) -> float:
    """1 when the comparison's first completion won, 0 when its second, one half for a tie; whatever order it was shown in."""
    return 1 - pair_answer(judgment) / 2


def _judgment_row(judgment: Judgment) -> dict[str, Any]:
    return {
        "comparison": judgment.comparison,
        "rater": judgment.rater,
        "ranking": [list(tier) for tier in judgment.ranking],
        "dimension": judgment.dimension,
        "order": list(judgment.order),
    }
