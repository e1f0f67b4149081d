"""Stage `collect`: raters compare completions, and their judgments become preferences."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.agreement import concluded, rater_noise_ceiling, smoothed_share
from palate.config.artifacts import file_at
from palate.config.types import Amount, Count, Input, Share
from palate.core import Comparison, Completion, ConfigError, Conversation, DataError, Judgment, Prompt, derive_seed
from palate.data.exchange import Exchange, ExchangeItem, write_exchange
from palate.data.formats import read_samples
from palate.data.jsonl import write_rows
from palate.data.judgment_rows import judgment_row, voted_preference_row
from palate.evaluation.intervals import mean
from palate.evaluation.rater_votes import COMPARISONS, JUDGMENTS
from palate.judges.hybrid import Hybrid
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.raters.answer_shares import answers_by_rater, rater_share, vote_of
from palate.raters.people import People
from palate.raters.rater import Answered, Ask, Rater
from palate.raters.simulated import OVERALL, Simulated
from palate.runs.run import Run


@dataclass(frozen=True)
class Collect:
    """Have completions compared by raters, and conclude preferences.

    Attributes:
        samples: the completions to compare.
        from_: who judges: people at `palate label`, simulated raters, a model as judge, its likelihood, or a judge and people (hybrid).
        dimensions: the dimensions that raters judge, one question for each; "overall" asks a single question.
        pairs_per_prompt: pairs of completions judged per prompt; none judges all pairs.
        limit: how many pairs are judged, at most; none judges all.
        raters_per_comparison: raters per question; the label is the mean of their answers. For a judge these are principles.
        held_out: share of the prompts whose judgments are set aside to test reward models.
        prior: votes added to each question, half to each side: with 1, a single vote gives a label of 3/4 instead of 1. None are added
            where all raters give probabilities, as judges do.
    """

    samples: Input
    from_: People | Simulated | JudgeRater | LikelihoodRater | Hybrid
    dimensions: tuple[str, ...] = (OVERALL,)
    pairs_per_prompt: Count | None = None
    limit: Count | None = None
    raters_per_comparison: Count = 1
    held_out: Share = 0.1
    prior: Amount = 1.0

    def check(self) -> None:
        """Raise ConfigError when there is no dimension, or too few raters."""
        if not self.dimensions:
            raise ConfigError("dimensions is empty, but raters need a question. Use [overall]")
        self.from_.check(self.raters_per_comparison, self.dimensions)

    def run(self, run: Run) -> None:
        """Write `judgments.jsonl`, what they compare, `preferences.jsonl` and `held_out.jsonl`."""
        rng = random.Random(derive_seed(run.seed, "collect"))
        table = read_samples(file_at(self.samples, "samples.jsonl"))
        run.dropped(self.samples, [row.kind for row in table.dropped])
        asks, equal, cut_off = self._asks(table.rows, rng)
        if not asks:
            raise DataError(f"{self.samples}: no prompt has two different finished completions to compare. Sample more completions")
        rater: Rater = self.from_
        answers, rater_figures = rater.answers(run, asks, self.raters_per_comparison, rng)
        write_rows(run.directory / JUDGMENTS, (judgment_row(judgment) for _, judgments in answers for judgment in judgments))
        items = {comparison.id: ExchangeItem.of(comparison) for (comparison, _), _ in answers}
        write_exchange(Exchange(tuple(items.values())), run.directory / COMPARISONS)
        # Prompts of one conversation and other columns stay on one side: a model is asked the same in all of them.
        names: dict[Conversation, str] = {}
        for (comparison, _), _ in answers:
            names.setdefault(comparison.prompt.conversation, comparison.prompt.id)
        ids = sorted(names.values())
        held_out = set(rng.sample(ids, round(self.held_out * len(ids))))
        for name, is_held_out in (("preferences.jsonl", False), ("held_out.jsonl", True)):
            part = [(ask, judgments) for ask, judgments in answers if (names[ask[0].prompt.conversation] in held_out) == is_held_out]
            write_rows(run.directory / name, (self._preference_row(ask, judgments) for ask, judgments in part))
        run.summary({"equal_pairs": equal, "unfinished_completions": cut_off, **_summary(answers), **rater_figures})

    def _asks(self, samples: Sequence[tuple[Prompt, tuple[Completion, ...]]], rng: random.Random) -> tuple[list[Ask], int, int]:
        """Return the questions, the number of pairs left out as equal, and of completions left out as unfinished."""
        asks: list[Ask] = []
        equal = cut_off = 0
        for prompt, completions in samples:
            finished = [k for k, completion in enumerate(completions) if not completion.is_cut]
            cut_off += len(completions) - len(finished)
            pairs = list(itertools.combinations(finished, 2))
            for i, j in rng.sample(pairs, min(self.pairs_per_prompt or len(pairs), len(pairs))):
                if completions[i].text == completions[j].text:
                    equal += 1
                    continue
                if len(asks) == (self.limit or math.inf) * len(self.dimensions):
                    return asks, equal, cut_off
                comparison = Comparison(f"{prompt.id}/{i}-{j}", prompt, (completions[i], completions[j]))
                asks += [(comparison, dimension) for dimension in self.dimensions]
        return asks, equal, cut_off

    def _preference_row(self, ask: Ask, judgments: Sequence[Judgment]) -> dict[str, Any]:
        """Return a preference by the smoothed mean over raters, (sum + prior / 2) / (n + prior); it favours the chosen side.

        A rater who answered several times counts once, with the mean of their answers. Their vote is the side that this mean favours.
        """
        comparison, dimension = ask
        by_rater = answers_by_rater(labels(judgments))
        shares = [rater_share(own) for _, own in by_rater]
        is_soft = all(judgment.probability is not None for _, own in by_rater for judgment in own)
        share = smoothed_share(shares, 0.0 if is_soft else self.prior)
        preference = concluded(comparison, share, dimension)
        votes = [vote_of(one if share >= 0.5 else 1 - one) for one in shares]
        return voted_preference_row(f"{comparison.id}/{dimension}", preference, votes, [rater for rater, _ in by_rater])


def labels(judgments: Sequence[Judgment]) -> Sequence[Judgment]:
    """Return the judgments that make a question's label: a reviewer's last decision alone, or else all of them."""
    return [judgment for judgment in judgments if judgment.is_decision][-1:] or judgments


def _summary(answers: Sequence[Answered]) -> dict[str, object]:
    """Return counts, and the agreement of two raters on a question, which limits how well anyone can predict a rater."""
    judgments_of = [[judgment for judgment in judgments if not judgment.is_decision] for _, judgments in answers]
    votes_of = [[vote_of(rater_share(own)) for _, own in answers_by_rater(judgments)] for judgments in judgments_of]
    same = [float(votes[0] == votes[1]) for votes in votes_of if len(votes) > 1]
    every = [judgment for judgments in judgments_of for judgment in judgments]
    first_wins = [float(judgment.ranking[0] == (0,)) for judgment in every if len(judgment.ranking) == 2 and judgment.order is not None]
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
