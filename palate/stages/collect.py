"""Stage `collect`: completions are compared by raters, and preferences concluded from what they say."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from palate.agreement import concluded, pair_answer, rater_noise_ceiling, smoothed_share
from palate.config.types import Amount, Count, Input, Share
from palate.core import Comparison, Completion, ConfigError, DataError, Judgment, Prompt, derive_seed
from palate.data.formats import tools_of
from palate.data.jsonl import write_rows
from palate.data.samples import answer, messages, read_samples
from palate.evaluation.intervals import mean
from palate.raters.people import People
from palate.raters.rater import Answered, Ask, Rater
from palate.raters.simulated import OVERALL, Simulated
from palate.runs.run import Run


@dataclass(frozen=True)
class Collect:
    """Have completions compared by raters, and conclude preferences.

    Attributes:
        samples: completions to compare.
        from_: who answers: people at `palate label`, or simulated raters.
        dimensions: what raters are asked about, one question each; "overall" for a single question.
        pairs_per_prompt: pairs judged of each prompt's completions; none takes all.
        limit: pairs at most; none takes all.
        raters_per_comparison: raters who answer each question; their shares of votes are the labels.
        held_out: share of prompts whose judgments are kept for testing reward models.
        prior: votes that a smoothed share adds half to each side: 1 vote counts as 3/4, not as certainty.
    """

    samples: Input
    from_: People | Simulated
    dimensions: tuple[str, ...] = (OVERALL,)
    pairs_per_prompt: Count | None = None
    limit: Count | None = None
    raters_per_comparison: Count = 1
    held_out: Share = 0.1
    prior: Amount = 1.0

    def check(self) -> None:
        """Checks who is asked, and about what."""
        if not self.dimensions:
            raise ConfigError("dimensions is empty: raters need a question; give [overall]")
        self.from_.check(self.raters_per_comparison)

    def run(self, run: Run) -> None:
        """Writes `judgments.jsonl`, `preferences.jsonl` and `held_out.jsonl`."""
        rng = random.Random(derive_seed(run.seed, "collect"))
        asks, equal, cut_off = self._asks(read_samples(self.samples), rng)
        if not asks:
            raise DataError(f"{self.samples}: no prompt has two different finished completions to compare; sample more of them")
        rater: Rater = self.from_
        answers, told = rater.answers(run, asks, self.raters_per_comparison, rng)
        write_rows(run.directory / "judgments.jsonl", (_judgment_row(j) for _, judged in answers for j in judged))
        ids = sorted({comparison.prompt.id for (comparison, _), _ in answers})
        tested = set(rng.sample(ids, round(self.held_out * len(ids))))
        for name, inside in (("preferences.jsonl", False), ("held_out.jsonl", True)):
            part = [(ask, judged) for ask, judged in answers if (ask[0].prompt.id in tested) == inside]
            write_rows(run.directory / name, (row for ask, judged in part for row in self._preference_rows(ask, judged)))
        run.summary({"equal_pairs": equal, "unfinished_completions": cut_off, **_summary(answers), **told})

    def _asks(self, samples: Sequence[tuple[Prompt, tuple[Completion, ...]]], rng: random.Random) -> tuple[list[Ask], int, int]:
        """The questions, the pairs left out because both sides are equal, and the completions left out because unfinished."""
        asks: list[Ask] = []
        equal = cut_off = 0
        for prompt, completions in samples:
            finished = [k for k, completion in enumerate(completions) if completion.stop == "eos"]
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

    def _preference_rows(self, ask: Ask, judged: Sequence[Judgment]) -> Iterator[dict[str, Any]]:
        """One preference: the smoothed share of votes, (votes + prior / 2) / (n + prior); chosen is whom it favours."""
        comparison, dimension = ask
        judged = labels(judged)
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


def labels(judged: Sequence[Judgment]) -> Sequence[Judgment]:
    """The judgments of a question that make its label: a reviewer's last decision alone, or else all of them."""
    return [one for one in judged if one.is_decision][-1:] or judged


def _summary(answers: Sequence[Answered]) -> dict[str, object]:
    """Counts, and the agreement of two raters on the same question, from which follows how well anyone could predict one."""
    answers = [(ask, [one for one in judged if not one.is_decision]) for ask, judged in answers]
    doubles = [[first_share(j) for j in judged[:2]] for _, judged in answers if len(judged) > 1]
    same = [float(a == b) for a, b in doubles]
    first = [float(j.ranking[0] == (0,)) for _, judged in answers for j in judged if len(j.ranking) == 2]
    summary: dict[str, object] = {
        "judgments": sum(len(judged) for _, judged in answers),
        "questions": len(answers),
        "ties": sum(len(j.ranking) == 1 for _, judged in answers for j in judged),
    }
    if first:
        summary["shown_first_wins"] = mean(first).value
    if same:
        agreement = sum(same) / len(same)
        summary |= {"agreement": agreement, "doubles": len(same), "ceiling_from_agreement": rater_noise_ceiling(agreement).accuracy}
    return summary


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
        **({"is_decision": True} if judgment.is_decision else {}),
        **{name: value for name in ("strength", "reason", "seconds", "guideline") if (value := getattr(judgment, name)) not in (None, "")},
    }
