"""Models among the raters of `palate agreement`: a line for each, and people's votes without theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.agreement.analysis import JudgeFigures
from palate.agreement.estimates import Estimate
from palate.agreement.judge_agreement import NOT_MEASURED, agreement_with_people, clustered_mean
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.judge_habits import flips
from palate.agreement.ranking_habits import ranking_habits
from palate.data.exchange import Exchange, Vote
from palate.data.files import read_json
from palate.data.judge_names import judge_of
from palate.evaluation.judged_pairs import Questions, is_judge


def summary_of_judges(source: Path) -> Mapping[str, object]:
    """Return what the summary of a run of `collect` says about its judges; nothing where there is no such run."""
    file = source / "summary.json"
    summary = read_json(file) if file.is_file() else {}
    judges = summary.get("judges") if isinstance(summary, dict) else None
    return judges if isinstance(judges, dict) else {}


def people_alone(exchange: Exchange, dimension: str | None = None) -> Exchange | None:
    """Return the exchange without the votes of models; None where there are none, or nothing else on the dimension."""
    kinds = exchange.kinds()
    people = tuple(vote for vote in exchange.votes if not is_judge(vote.judgment.rater, kinds))
    if len(people) == len(exchange.votes) or not any(_counts(vote, dimension) for vote in people):
        return None
    return replace(exchange, votes=people)


def judge_figures(
    exchange: Exchange, dimension: str | None, rng: np.random.Generator, summary: Mapping[str, object]
) -> tuple[JudgeFigures, ...]:
    """Return a line for each model and dimension. The cost in the run's `summary` is a judge's where there is only one."""
    if not any(is_judge(rater, exchange.kinds()) for rater in exchange.kinds()):
        return ()
    if not any(vote.is_ranking for vote in exchange.votes):
        return tuple(replace(line, is_calibrated=_status(summary, line.judge)) for line in _lines_of_words(exchange, dimension, rng))
    questions = Questions()
    read = questions.take(exchange)
    people = [one for one in read.judgments if read.kinds[one.rater] not in {"model", "rule"}]
    comparisons, lines, same = list(questions.comparisons()), [], questions.same_pairs()
    cost = summary.get("cost")
    judges = {judge_of(rater): None for rater, kind in read.kinds.items() if kind == "model"}
    for judge in judges:
        mine = [one for one in read.judgments if judge_of(one.rater) == judge and dimension in (None, one.dimension)]
        for name in dict.fromkeys(one.dimension for one in mine):
            said, heard = ([one for one in part if one.dimension == name] for part in (mine, people))
            table = JudgeAnswers.of_judgments(said, heard, comparisons, questions.prompts, lambda _: False, same=same)
            found, turned = agreement_with_people(table, rng), flips(table)
            agrees = (found.judge.with_ties, found.judge.decided, found.people.decided) if found.pairs else (NOT_MEASURED,) * 3
            share = None if turned is None else turned.share
            paid = float(cost) if isinstance(cost, int | float) and len(judges) == 1 else None
            lines.append(
                JudgeFigures(judge, name, len(said), found.pairs, *agrees, share, paid, _status(summary, judge), ranking_habits(said))
            )
    return tuple(lines)


def _status(summary: Mapping[str, object], judge: str) -> bool | None:
    """Return whether a run calibrated a judge: its summary says so of each judge, or of all; None where it does not."""
    each, told = summary.get("calibrated_by_judge"), summary.get("calibrated")
    if isinstance(each, Mapping):
        told = each.get(judge)
    return told if isinstance(told, bool) else None


def _lines_of_words(exchange: Exchange, dimension: str | None, rng: np.random.Generator) -> Iterator[JudgeFigures]:
    """Yield the agreement of each model on questions with one word as an answer: whether a rule is broken, a criterion is met."""
    kinds, tested = exchange.kinds(), {item.id for item in exchange.items if item.gold is not None or item.is_qualification}
    counted = [vote for vote in exchange.votes if vote.is_counted and _counts(vote, dimension) and vote.judgment.comparison not in tested]
    words: dict[Hashable, dict[str, object]] = defaultdict(dict)
    for vote in counted:
        for question, word in _words(vote):
            words[question][vote.judgment.rater] = word
    people = {rater for rater, kind in kinds.items() if kind != "rule" and not is_judge(rater, kinds)}
    for judge in dict.fromkeys(judge_of(rater) for rater in kinds if is_judge(rater, kinds)):
        mine = {rater for rater in kinds if judge_of(rater) == judge}
        agrees: list[tuple[float, int]] = []
        others: list[tuple[float, int]] = []
        for number, given in enumerate(words.values()):
            said = [word for rater, word in given.items() if rater in mine]
            heard = [word for rater, word in given.items() if rater in people]
            agrees += [(float(np.mean([one == word for one in said])), number) for word in heard if said]
            others += [((heard.count(word) - 1) / (len(heard) - 1), number) for word in heard if said and len(heard) > 1]
        judge_share, people_share = (_mean(values, rng) for values in (agrees, others))
        votes = sum(vote.judgment.rater in mine for vote in counted)
        questions = len({number for _, number in agrees})
        yield JudgeFigures(judge, dimension or "overall", votes, questions, judge_share, judge_share, people_share, None)


def _words(vote: Vote) -> Iterator[tuple[Hashable, object]]:
    """Yield (question, answer) of a vote; criteria of which its rater is unsure are left out."""
    if vote.is_broken is not None:
        yield (vote.judgment.comparison, vote.rule), vote.is_broken
    yield from (((vote.judgment.comparison, criterion), word) for criterion, word in vote.grades.items() if word != "unsure")


def _mean(values: list[tuple[float, int]], rng: np.random.Generator) -> Estimate:
    return clustered_mean(np.array([value for value, _ in values]), np.array([number for _, number in values], dtype=np.int64), rng)


def _counts(vote: Vote, dimension: str | None) -> bool:
    return vote.entry != "undo" and dimension in (None, vote.judgment.dimension)
