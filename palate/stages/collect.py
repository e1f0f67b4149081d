"""Stage `collect`: raters compare completions, and their judgments become preferences."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palate.agreement import concluded, rater_noise_ceiling, smoothed_share
from palate.config.types import Amount, Count, Share
from palate.core import Comparison, Completion, ConfigError, Conversation, DataError, Judgment, Prompt, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name
from palate.data.exchange import Exchange, ExchangeItem, write_exchange
from palate.data.jsonl import write_rows
from palate.data.judgment_rows import judgment_row, voted_preference_row
from palate.evaluation.intervals import mean
from palate.evaluation.rater_votes import COMPARISONS, JUDGMENTS
from palate.judges.hybrid import Hybrid
from palate.judges.instruction_files import LEAST_RANKED
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.raters.answer_shares import answers_by_rater, rater_share, vote_of
from palate.raters.people import People
from palate.raters.rater import Answered, Ask, Rater, without_excluded
from palate.raters.simulated import OVERALL, Simulated
from palate.runs.run import Run
from palate.samplers.prompts import samples_at

MOST_AT_ONCE = 8
"""Completions at most that a rater sees at once."""

Samples = Sequence[tuple[Prompt, Mapping[int, Completion]]]
"""Prompts with their finished completions by number."""


@dataclass(frozen=True)
class Collect:
    """Have completions compared by raters, and conclude preferences.

    Attributes:
        samples: the completions to compare. One path, or several sources (docs/data.md).
        from_: who judges: people at `palate label`, simulated raters, a model as judge, its likelihood, or a judge and people (hybrid).
        dimensions: the dimensions that raters judge, one question for each; "overall" asks a single question.
        completions_per_comparison: completions that a rater sees at once: 2 for pairs; from 3 on a judge ranks that many of each prompt,
            and the people of a hybrid compare pairs of them.
        pairs_per_prompt: pairs of completions judged per prompt; none judges all pairs.
        limit: how many comparisons are judged, at most; none judges all.
        raters_per_comparison: raters per question; the label is the mean of their answers. For a judge these are principles.
        held_out: share of the prompts whose judgments are set aside to test reward models.
        prior: votes added to each question, half to each side: with 1, a single vote gives a label of 3/4 instead of 1. None are added
            where all raters give probabilities, as judges do.
    """

    samples: DataInput
    from_: People | Simulated | JudgeRater | LikelihoodRater | Hybrid
    dimensions: tuple[str, ...] = (OVERALL,)
    completions_per_comparison: Count = 2
    pairs_per_prompt: Count | None = None
    limit: Count | None = None
    raters_per_comparison: Count = 1
    held_out: Share = 0.1
    prior: Amount = 1.0

    def check(self) -> None:
        """Raise ConfigError when there is no dimension, too few raters, or raters who cannot see so many completions at once."""
        check_unweighted(self.samples)
        if not self.dimensions:
            raise ConfigError("dimensions is empty, but raters need a question. Use [overall]")
        if not 2 <= self.completions_per_comparison <= MOST_AT_ONCE:
            raise ConfigError(f"completions_per_comparison must be 2 to {MOST_AT_ONCE}, got {self.completions_per_comparison}")
        if self.completions_per_comparison > 2 and self.pairs_per_prompt is not None:
            raise ConfigError("pairs_per_prompt is for pairs. Leave it out: a ranking compares every two of its completions")
        self.from_.check(self.raters_per_comparison, self.dimensions, self.completions_per_comparison)

    def run(self, run: Run) -> None:
        """Write `judgments.jsonl`, what they compare, `preferences.jsonl` and `held_out.jsonl`."""
        rng = random.Random(derive_seed(run.seed, "collect"))
        samples = samples_at(run, self.samples)
        finished = [(prompt, {k: one for k, one in enumerate(completions) if not one.is_cut}) for prompt, completions in samples]
        cut_off = sum(map(len, (row[1] for row in samples))) - sum(map(len, (row[1] for row in finished)))
        asks, left_out = (self._pairs if self.completions_per_comparison == 2 else self._groups)(finished, rng)
        if not asks:
            least = "two" if self.completions_per_comparison == 2 else "three"
            raise DataError(
                f"{data_name(self.samples)}: no prompt has {least} different finished completions to compare. Sample more completions"
            )
        rater: Rater = self.from_
        answers, rater_figures = rater.answers(run, asks, self.raters_per_comparison, rng)
        answers = without_excluded(answers)
        write_rows(run.directory / JUDGMENTS, (judgment_row(judgment) for _, judgments in answers for judgment in judgments))
        # A hybrid answers the pairs of a ranking one by one. The ranking says which of them go together.
        whole = [ask[0] for ask in asks] if isinstance(self.from_, Hybrid) and self.completions_per_comparison > 2 else []
        items = {comparison.id: ExchangeItem.of(comparison) for comparison in (*(ask[0] for ask, _ in answers), *whole)}
        write_exchange(Exchange(tuple(items.values())), run.directory / COMPARISONS)
        # Prompts of one conversation and other columns stay on one side: a model is asked the same in all of them.
        names: dict[Conversation, str] = {}
        for (comparison, _), _ in answers:
            names.setdefault(comparison.prompt.conversation, comparison.prompt.id)
        ids = sorted(names.values())
        held_out = set(rng.sample(ids, round(self.held_out * len(ids))))
        for name, is_held_out in (("preferences.jsonl", False), ("held_out.jsonl", True)):
            part = [(ask, judgments) for ask, judgments in answers if (names[ask[0].prompt.conversation] in held_out) == is_held_out]
            write_rows(run.directory / name, (row for ask, judgments in part for row in self._preference_rows(ask, judgments)))
        run.summary({**left_out, "unfinished_completions": cut_off, **_summary(answers), **rater_figures})

    def _pairs(self, samples: Samples, rng: random.Random) -> tuple[list[Ask], dict[str, int]]:
        """Return the questions about pairs, and the number of pairs left out as equal."""
        asks: list[Ask] = []
        equal = 0
        for prompt, completions in samples:
            pairs = list(itertools.combinations(completions, 2))
            for one, other in rng.sample(pairs, min(self.pairs_per_prompt or len(pairs), len(pairs))):
                if completions[one].text == completions[other].text:
                    equal += 1
                    continue
                if len(asks) == self._most_asks:
                    return asks, {"equal_pairs": equal}
                asks += self._questions(prompt, completions, (one, other))
        return asks, {"equal_pairs": equal}

    def _groups(self, samples: Samples, rng: random.Random) -> tuple[list[Ask], dict[str, int]]:
        """Return the questions about three completions or more, one per prompt and dimension, and the numbers of what is left out.

        A prompt with fewer different completions than are seen at once is asked about all of them, from three on.
        """
        asks: list[Ask] = []
        equal = small = 0
        for prompt, completions in samples:
            different = sorted({completions[k].text: k for k in reversed(list(completions))}.values())
            equal += len(completions) - len(different)
            if len(different) < LEAST_RANKED:
                small += 1
            elif len(asks) < self._most_asks:
                numbers = rng.sample(different, min(self.completions_per_comparison, len(different)))
                asks += self._questions(prompt, completions, tuple(sorted(numbers)))
        return asks, {"equal_completions": equal, "small_prompts": small}

    @property
    def _most_asks(self) -> float:
        return (self.limit or math.inf) * len(self.dimensions)

    def _questions(self, prompt: Prompt, completions: Mapping[int, Completion], numbers: tuple[int, ...]) -> list[Ask]:
        """Return the questions about some of a prompt's completions, by their numbers, one per dimension."""
        name = f"{prompt.id}/{'-'.join(map(str, numbers))}"
        comparison = Comparison(name, prompt, tuple(completions[k] for k in numbers))
        return [(comparison, dimension) for dimension in self.dimensions]

    def _preference_rows(self, ask: Ask, judgments: Sequence[Judgment]) -> Iterator[dict[str, Any]]:
        """Yield a preference for every two completions of a question; it favours the chosen side.

        Its probability is the smoothed mean over raters, (sum + prior / 2) / (n + prior). A rater who answered several times counts once,
        with the mean of their answers. Their vote is the side that this mean favours.
        """
        comparison, dimension = ask
        by_rater = answers_by_rater(labels(judgments))
        raters = [rater for rater, _ in by_rater]
        for i, j in itertools.combinations(range(len(comparison.completions)), 2):
            shares = [rater_share(own, i, j) for _, own in by_rater]
            is_soft = all(judgment.first_probability(i, j) is not None for _, own in by_rater for judgment in own)
            share = smoothed_share(shares, 0.0 if is_soft else self.prior)
            pair = replace(comparison, completions=(comparison.completions[i], comparison.completions[j]))
            votes = [vote_of(one if share >= 0.5 else 1 - one) for one in shares]
            name = f"{comparison.id}/{dimension}" + (f"/{i}-{j}" if len(comparison.completions) > 2 else "")
            yield voted_preference_row(name, concluded(pair, share, dimension), votes, raters)


def labels(judgments: Sequence[Judgment]) -> Sequence[Judgment]:
    """Return the judgments that make a question's label: a reviewer's last decision alone, or else all of them."""
    return [judgment for judgment in judgments if judgment.is_decision][-1:] or judgments


def _summary(answers: Sequence[Answered]) -> dict[str, object]:
    """Return counts, and the agreement of two raters on a question, which limits how well anyone can predict a rater."""
    judgments_of = [(ask, [judgment for judgment in judgments if not judgment.is_decision]) for ask, judgments in answers]
    same = []
    for (comparison, _), judgments in judgments_of:
        by_rater = answers_by_rater(judgments)
        for i, j in itertools.combinations(range(len(comparison.completions)), 2) if len(by_rater) > 1 else ():
            one, other, *_ = (vote_of(rater_share(own, i, j)) for _, own in by_rater)
            same.append(float(one == other))
    every = [judgment for _, judgments in judgments_of for judgment in judgments]
    ranked = [judgment for judgment in every if sum(map(len, judgment.ranking)) == 2 == len(judgment.ranking)]
    first_wins = [float(judgment.ranking[0] == (0,)) for judgment in ranked if judgment.order is not None]
    summary: dict[str, object] = {
        "judgments": len(every),
        "questions": len(answers),
        "ties": sum(len(judgment.ranking) == 1 for judgment in every),
    }
    if first_wins:
        summary["shown_first_wins"] = mean(first_wins).value
    if same:
        agreement = sum(same) / len(same)
        summary |= {"agreement": agreement, "doubly_judged": len(same), "ceiling_from_agreement": rater_noise_ceiling(agreement).accuracy}
    return summary
