"""How a verdict is obtained, which never changes silently: from probabilities of options, several samples, or a written verdict."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge

from palate.agreement.shares import PRIOR
from palate.judges.instruction_files import Instructions
from palate.judges.judge_model import JudgeReply, NoReply
from palate.judges.option_tokens import log_sum
from palate.judges.written_rankings import Tiers, ranking_in

T = TypeVar("T")

PAIR_VALUES = (1.0, 0.0, 0.5)
"""What the options of a pair stand for: the first is the better one, the second is, a tie."""

THOUGHTS = re.compile(r"<(think|thinking|reasoning)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""What a model that reasons writes before its answer, closed or not."""

END_OF_THOUGHTS = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)

GRADE = re.compile(
    r"^[\s*_#>]*(?:(?:score|mark|rating|verdict)[\s*_]*[:=][\s*_]*)?(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+(?:\.\d+)?))?[\s*_.]*$",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that is a grade and nothing else: `7`, `Score: 7`, `**Score: 7/10**`."""


@dataclass(frozen=True, slots=True)
class JudgeReading:
    """What a judge said about one question: how likely each value is.

    Attributes:
        shares: (value, probability) in ascending values. Values are marks; for a pair 1 for the first, 0 for the second, 0.5 for a tie.
        votes: number of replies that were counted; None where the probabilities are the model's.
    """

    shares: tuple[tuple[float, float], ...]
    votes: int | None = None

    @property
    def mean(self) -> float:
        """The expected value, sum of value times probability: of a pair the probability that the first is better, a tie counting half."""
        return math.fsum(value * share for value, share in self.shares)


@dataclass(frozen=True, slots=True)
class RankingReading:
    """What a judge said about three completions or more in one order.

    Attributes:
        shares: for every two places (0-1, 0-2, ..., 1-2, ...), how likely the completion at the earlier one is the better one.
        votes: number of replies that were counted; None where the probabilities are the model's.
        reply: the reply that was read, or the first of several; "" where the model did not have to write.
    """

    shares: tuple[float, ...]
    votes: int | None = None
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Abstention:
    """Why a judge has no opinion on a question. It is never a tie.

    Attributes:
        kind: one of `NoReplyKind`, or cut, no_verdict.
        reason: in words.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class OptionProbabilities:
    """The verdict is the model's probabilities of the options: a softmax of their log-probabilities.

    Attributes:
        min_mass: the least probability that the options must have together. With less the model wants to say something else, and abstains.
    """

    kind: Literal["options"] = "options"
    min_mass: Annotated[float, Ge(0)] = 0.1

    @property
    def draws(self) -> int:
        """Replies per question."""
        return 1

    def options(self, instructions: Instructions, count: int = 2) -> tuple[str, ...]:
        """Return the options that the model is asked for about `count` completions."""
        return instructions.labels(count)

    def read(self, instructions: Instructions, replies: Sequence[JudgeReply | NoReply]) -> JudgeReading | Abstention:
        """Return each option's probability among the options, p_k = exp(l_k) / sum_j exp(l_j). Source: Bai et al. 2022b, section 4.1."""
        logps = self._among(instructions.options, replies)
        if isinstance(logps, Abstention):
            return logps
        return JudgeReading(tuple(sorted(zip(_values(instructions), map(math.exp, logps), strict=True))))

    def rank(self, labels: Sequence[str], replies: Sequence[JudgeReply | NoReply]) -> RankingReading | Abstention:
        """Return P(i is better than j) = p_i / (p_i + p_j), where p_k is the probability that k is the best of all.

        That is Luce's choice axiom: which of two is better does not depend on what else is shown. Source: Luce 1959.
        Two completions that the model finds impossible as the best have no order, so it abstains.
        """
        logps = self._among(labels, replies)
        if isinstance(logps, Abstention):
            return logps
        unknown = [label for label, logp in zip(labels, logps, strict=True) if math.isinf(logp)]
        if len(unknown) > 1:
            return Abstention("no_verdict", f"no probability is known for {' and '.join(unknown)}, so nothing says which is better")
        return RankingReading(tuple(_odds(one - other) for one, other in itertools.combinations(logps, 2)))

    def _among(self, options: Sequence[str], replies: Sequence[JudgeReply | NoReply]) -> list[float] | Abstention:
        """Return the log of each option's probability among the options."""
        (reply,) = replies
        if isinstance(reply, NoReply):
            return Abstention(reply.kind, reply.reason)
        total = log_sum(reply.logps)
        if math.isinf(total) or math.exp(total) < self.min_mass:
            wanted = f", wanted to write {reply.text[:40]!r}" if reply.text.strip() else ""
            mass = 0.0 if math.isinf(total) else math.exp(total)
            return Abstention("no_verdict", f"the options {', '.join(options)} have a probability of {mass:.3g} together{wanted}")
        return [logp - total for logp in reply.logps]


@dataclass(frozen=True)
class WrittenVerdict:
    """The verdict stands at the end of one reply."""

    kind: Literal["written"] = "written"

    @property
    def draws(self) -> int:
        """Replies per question."""
        return 1

    def options(self, instructions: Instructions, count: int = 2) -> tuple[str, ...]:  # noqa: ARG002 (other verdicts need them)
        """Return (): the model writes."""
        return ()

    def read(self, instructions: Instructions, replies: Sequence[JudgeReply | NoReply]) -> JudgeReading | Abstention:
        """Return the verdict of the reply."""
        (reply,) = replies
        value = written_value(instructions, reply)
        return value if isinstance(value, Abstention) else JudgeReading(((value, 1.0),), 1)

    def rank(self, labels: Sequence[str], replies: Sequence[JudgeReply | NoReply]) -> RankingReading | Abstention:
        """Return the ranking of the reply as one vote on every two places."""
        (reply,) = replies
        ranking = _written_ranking(labels, reply)
        return ranking if isinstance(ranking, Abstention) else _counted([ranking], replies)


@dataclass(frozen=True)
class SampledVerdicts:
    """The verdict is the shares of verdicts among several replies, which are drawn at random.

    Attributes:
        n: number of replies per question.
        min_readable: the least share of replies that must hold a verdict. With fewer the judge abstains.
    """

    kind: Literal["samples"] = "samples"
    n: Annotated[int, Ge(2)] = 5
    min_readable: Annotated[float, Ge(0)] = 0.5

    @property
    def draws(self) -> int:
        """Replies per question."""
        return self.n

    def options(self, instructions: Instructions, count: int = 2) -> tuple[str, ...]:  # noqa: ARG002 (other verdicts need them)
        """Return (): the model writes."""
        return ()

    def read(self, instructions: Instructions, replies: Sequence[JudgeReply | NoReply]) -> JudgeReading | Abstention:
        """Return the shares of the verdicts. Replies without one are left out, and never count as a tie."""
        found = self._readable([written_value(instructions, reply) for reply in replies])
        if isinstance(found, Abstention):
            return found
        counts = Counter(found)
        return JudgeReading(tuple(sorted((value, count / len(found)) for value, count in counts.items())), len(found))

    def rank(self, labels: Sequence[str], replies: Sequence[JudgeReply | NoReply]) -> RankingReading | Abstention:
        """Return the shares of the rankings on every two places. Replies without a ranking are left out, and never count as a tie."""
        found = self._readable([_written_ranking(labels, reply) for reply in replies])
        return found if isinstance(found, Abstention) else _counted(found, replies)

    def _readable(self, values: Sequence[T | Abstention]) -> list[T] | Abstention:
        """Return the verdicts of the replies that hold one, or why they are too few."""
        found = [value for value in values if not isinstance(value, Abstention)]
        if not found or len(found) < self.min_readable * len(values):
            kind, reason = Counter((one.kind, one.reason) for one in values if isinstance(one, Abstention)).most_common(1)[0][0]
            return Abstention(kind, f"{len(found)} of {len(values)} replies hold a verdict: {reason}")
        return found


VerdictKind = OptionProbabilities | SampledVerdicts | WrittenVerdict
"""How a verdict is obtained."""


def _values(instructions: Instructions) -> tuple[float, ...]:
    """Return the value of each option."""
    return instructions.marks if instructions.scale == "pointwise" else PAIR_VALUES[: len(instructions.options)]


def written_value(instructions: Instructions, reply: JudgeReply | NoReply) -> float | Abstention:
    """Return the value of the last verdict in a whole reply. A reply that was cut off has none."""
    text = _whole(reply)
    if isinstance(text, Abstention):
        return text
    value = mark_in(text, instructions.marks) if instructions.scale == "pointwise" else _verdict_in(text, instructions)
    return Abstention("no_verdict", value) if isinstance(value, str) else value


def _written_ranking(labels: Sequence[str], reply: JudgeReply | NoReply) -> Tiers | Abstention:
    text = _whole(reply)
    if isinstance(text, Abstention):
        return text
    ranking = ranking_in(answer_of(text), labels)
    return Abstention("no_verdict", ranking) if isinstance(ranking, str) else ranking


def _whole(reply: JudgeReply | NoReply) -> str | Abstention:
    """Return the text of a reply that is whole, or why there is none."""
    if isinstance(reply, NoReply):
        return Abstention(reply.kind, reply.reason)
    if reply.cut:
        remedy = "; raise max_tokens" if reply.cut == "length" else ""
        return Abstention("cut", f"the reply was cut off (finish_reason: {reply.cut}){remedy}: {reply.text[-80:]!r}")
    return reply.text


def _counted(rankings: Sequence[Tiers], replies: Sequence[JudgeReply | NoReply]) -> RankingReading:
    """Return the share of rankings in which the earlier of every two places is the better one; a tie counts one half."""
    tiers = [{place: number for number, tier in enumerate(ranking) for place in tier} for ranking in rankings]
    shares = tuple(
        math.fsum(0.5 + 0.5 * ((tier[i] < tier[j]) - (tier[i] > tier[j])) for tier in tiers) / len(tiers)
        for i, j in itertools.combinations(range(len(tiers[0])), 2)
    )
    text = next((reply.text for reply in replies if isinstance(reply, JudgeReply)), "")
    return RankingReading(shares, len(rankings), text)


def _odds(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)), which holds at infinity too."""
    return 0.5 * (1 + math.tanh(logit / 2))


def mark_in(text: str, marks: Sequence[float]) -> float | str:
    """Return the last mark in the answer of a reply, between the lowest and the highest of the scale, or the reason why there is none.

    Marks among the model's thoughts do not count, and neither does one out of another number than the highest.
    """
    grades = GRADE.findall(answer_of(text))
    if not grades:
        return f"the judge gave no grade: {text[-80:]!r}"
    low, high = marks[0], marks[-1]
    grade, out_of = float(grades[-1][0]), grades[-1][1]
    if out_of and float(out_of) != high:
        return f"the judge gave {grade:g} out of {out_of}, on a scale up to {high:g}"
    if not low <= grade <= high:
        return f"the judge gave {grade:g} on a scale from {low:g} to {high:g}"
    return grade


def _verdict_in(text: str, instructions: Instructions) -> float | str:
    """Return the value of the last verdict: a line such as `B`, `Verdict: B` or `**Answer: B**`, or `[[B]]` anywhere."""
    words = "|".join(re.escape(option) for option in sorted(instructions.options, key=len, reverse=True))
    label = r"(?:(?:final\s+)?(?:verdict|answer|winner|choice)[\s*_]*[:=][\s*_]*)?(?:answer\s+)?"
    pattern = rf"^[\s*_#>]*{label}[\[(]*({words})[\])]*[\s*_.]*$|\[\[({words})\]\]"
    found = re.findall(pattern, answer_of(text), flags=re.IGNORECASE | re.MULTILINE)
    if not found:
        return f"the reply holds no verdict: {text[-80:]!r}"
    word = (found[-1][0] or found[-1][1]).lower()
    place = next(k for k, option in enumerate(instructions.options) if option.lower() == word)
    return PAIR_VALUES[place]


def answer_of(text: str) -> str:
    """Return a reply without the model's thoughts. Some servers leave out the tag that opens them, because it is part of the prompt."""
    return END_OF_THOUGHTS.split(THOUGHTS.sub("", text))[-1]


def smoothed(probability: float, votes: int | None) -> float:
    """Return (probability n + prior / 2) / (n + prior) for n replies that were counted, because a vote is not certainty.

    Probabilities of a model (`votes` None) stay as they are.
    """
    return probability if votes is None else (probability * votes + PRIOR / 2) / (votes + PRIOR)


def better(first: JudgeReading, second: JudgeReading) -> float:
    """Return the probability that the first of two completions has the higher mark, P(M1 > M2) + P(M1 = M2) / 2, for marks drawn alone."""
    wins = math.fsum(
        p * q * (1.0 if one > other else 0.5 if one == other else 0.0) for one, p in first.shares for other, q in second.shares
    )
    votes = [reading.votes for reading in (first, second) if reading.votes is not None]
    return smoothed(wins, min(votes, default=None))
