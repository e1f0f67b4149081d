"""What a run says about its judges: requests, tokens and cost, abstentions by reason, and how often a verdict changes with the order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from palate.agreement import pair_answer
from palate.agreement.ranking_habits import ranking_habits
from palate.core import Judgment
from palate.data.judge_names import UNCALIBRATED, titled
from palate.judges.judge_model import JudgeReply, NoReply
from palate.raters.rater import Answered
from palate.runs.run import Run

FEW = 20
"""With fewer pairs nobody is said to answer always the same."""

MEASURE = "Measure it with `palate judge-fit`, and name its report card in `calibration`"
"""What to do about a judge without a report card."""

FAILURES = frozenset({"timeout", "unreachable", "status", "invalid", "error"})
"""Kinds of a request without an answer. A refusal is an answer of the model."""


@dataclass
class JudgeCounts:
    """What came of the requests so far. Equal requests are counted once in tokens and cost.

    Attributes:
        requests: replies and failures.
        failed: requests without an answer.
        failure: the first reason for that.
        budget: why the budget does not pay for more; "" while it does.
        paid: tokens read, tokens written and cost, by the key of the request.
    """

    requests: int = 0
    failed: int = 0
    failure: str = ""
    budget: str = ""
    paid: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Replies, and refusals."""
        return self.requests - self.failed

    def add(self, reply: JudgeReply | NoReply) -> None:
        """Count one more."""
        if isinstance(reply, JudgeReply):
            self.requests += 1
            self.paid[reply.key] = reply.tokens_in, reply.tokens_out, reply.cost
        elif reply.kind == "budget":
            self.budget = reply.reason
        else:
            self.requests += 1
            if reply.kind in FAILURES:
                self.failed += 1
                self.failure = self.failure or reply.reason


def note_uncalibrated(run: Run, place: str, judge: str, remedy: str = MEASURE) -> None:
    """Say and record that figures of a judge come from a model that nobody measured on people's labels."""
    source = f"{place} ({judge})"
    if source not in run.record.notes:  # a judge may be opened several times in a run
        run.note(source, [f"{UNCALIBRATED}, because nobody measured it on people's labels. {remedy}"])


def judge_summary(
    answers: Sequence[Answered], abstentions: Sequence[Mapping[str, object]], counts: JudgeCounts, *, is_calibrated: bool = False
) -> tuple[dict[str, object], list[str]]:
    """Return the figures of all judges and of each, and warnings for the user."""
    pairs: dict[str, list[list[Judgment]]] = defaultdict(list)
    for _, judgments in answers:
        own: dict[str, list[Judgment]] = defaultdict(list)
        for judgment in judgments:
            own[judgment.rater].append(judgment)
        for rater, both in own.items():
            pairs[rater].append(both)
    by_rater = {rater: _figures(both) for rater, both in sorted(pairs.items())}
    tokens_in, tokens_out, cost = (sum(column) for column in zip(*counts.paid.values(), strict=True)) if counts.paid else (0, 0, 0.0)
    summary: dict[str, object] = {
        "calibrated": is_calibrated,
        "requests": counts.requests,
        "failed": counts.failed,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost": round(cost, 9),
        "abstentions": dict(sorted(Counter(str(row["kind"]) for row in abstentions).items())),
        "abstained_questions": len({(row["comparison"], row["dimension"], row["rater"]) for row in abstentions}),
        **_figures([both for each in pairs.values() for both in each]),
        "by_rater": by_rater,
    }
    titles = {rater: titled(rater, is_calibrated=is_calibrated) for rater in sorted(pairs)}
    return summary, [warning for rater, title in titles.items() for warning in _warnings(title, pairs[rater])]


def _figures(questions: Sequence[Sequence[Judgment]]) -> dict[str, object]:
    """Return the number of pairs, and of those seen in both orders the flips: the share whose verdict changes with the order.

    Of rankings it returns their number, how often what is shown first is put first, and Kendall's tau between two orders.
    """
    rankings = [judgment for own in questions for judgment in own if sum(map(len, judgment.ranking)) > 2]
    pairs = [own for own in questions if sum(map(len, own[0].ranking)) == 2]
    turned = [both for both in pairs if len(both) == 2]
    flips = [pair_answer(one) != pair_answer(other) for one, other in turned]
    figures: dict[str, object] = {} if rankings and not pairs else {"pairs": len(pairs)}
    if flips:
        figures["flips"] = {"share": sum(flips) / len(flips), "n": len(flips)}
    habits = ranking_habits(rankings)
    if habits is None:
        return figures
    first = {"share": habits.first_place.value, "chance": habits.chance, "n": habits.rankings}
    tau = {} if habits.tau is None else {"tau_between_orders": {"mean": habits.tau.value, "n": habits.tau.n}}
    return {**figures, "comparisons": len(questions) - len(pairs), "shown_first_ranked_first": first, **tau}


def _warnings(rater: str, questions: Sequence[Sequence[Judgment]]) -> list[str]:
    every = [judgment for own in questions for judgment in own]
    if len(questions) < FEW:
        return []
    is_ranking = sum(map(len, every[0].ranking)) > 2
    if len({judgment.ranking for judgment in every}) == 1:
        (ranking,) = {judgment.ranking for judgment in every}
        advice = "its answers do not depend on the completions. Read some of its replies"
        if is_ranking:
            return [f"{rater} gives the places the same ranking in all {len(questions)} comparisons: {advice}"]
        side = {((0,), (1,)): "what it sees first", ((1,), (0,)): "what it sees second", ((0, 1),): "neither"}[ranking]
        if every[0].order is not None or ranking == ((0, 1),):
            return [f"{rater} prefers {side} in all {len(questions)} pairs: {advice}"]
    if not is_ranking and len({judgment.probability for judgment in every}) == 1:
        return [f"{rater} gives the same probability to all {len(questions)} pairs. Read some of its replies"]
    return []
