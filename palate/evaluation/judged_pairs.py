"""The pairs that a judge and people judged, in one file or in two, joined by what they ask."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from palate.agreement.judge_answers import JudgeAnswers, Place, SamePairs
from palate.agreement.votes import pairs_of
from palate.core import Comparison, ConfigError, DataError, Judgment
from palate.data.exchange import Exchange, ExchangeItem, RaterKind
from palate.data.judge_names import JudgeName, family, judge_name, judge_of, model_words
from palate.data.marks import Mark, MarkedText
from palate.evaluation.rater_votes import reason_to_leave_out


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """What a judge and people said, by dimension.

    Attributes:
        judge: the judge's name.
        dimensions: answers by dimension, for the dimensions on which both judged a pair.
        marks: the judge's mean mark of each completion, by dimension; completions that nobody else judged count too.
        kinds: number of people's votes by kind of rater; simulated raters stand for people.
        data: digest of all judgments that count.
        is_joined_by_text: False where files without texts were joined by the names of items.
    """

    judge: str
    dimensions: dict[str, JudgeAnswers]
    marks: dict[str, dict[MarkedText, float]]
    kinds: dict[RaterKind, int]
    data: str
    is_joined_by_text: bool


def judged_pairs(
    judgments: Exchange,
    people: Exchange | None = None,
    judge: str | None = None,
    dimension: str | None = None,
    own: Sequence[str] = (),
    marks: Sequence[Mark] = (),
) -> JudgedPairs:
    """Return the pairs that a judge and people judged.

    Args:
        judgments: the judge's judgments; and people's, if they are not elsewhere.
        people: people's judgments.
        judge: the judge's name as a rater, with or without its principle. By default the only model among the raters.
        dimension: the only dimension that counts.
        own: policies that are the judge's own; by default its model, or its family where its model wrote nothing.
        marks: marks of single completions, of which those of the judge count.

    Raises:
        ConfigError: it is not clear which rater is the judge.
        DataError: the judge and people have no pair in common.
    """
    questions = Questions()
    mine = questions.take(judgments)
    theirs = mine if people is None else questions.take(people)
    name = judge_among(mine.kinds, judge)
    is_mine = {rater for rater in mine.kinds if rater == name or judge_of(rater) == name}
    is_person = {rater for rater, kind in theirs.kinds.items() if kind not in {"model", "rule"} and rater not in is_mine}
    said = [one for one in mine.judgments if one.rater in is_mine and dimension in (None, one.dimension)]
    heard = [one for one in theirs.judgments if one.rater in is_person and dimension in (None, one.dimension)]
    same = questions.same_pairs()
    places = [[_asked(one, same) for one in side] for side in (said, heard)]
    common = {one for asked in places[0] for one in asked} & {one for asked in places[1] for one in asked}
    if not common:
        numbers = [{place for asked in side for place, _ in asked} for side in places]
        raise _nothing_in_common(name, said, heard, dimension, numbers)
    comparisons = list(questions.comparisons())
    policies = {side.policy for comparison in comparisons for side in comparison.completions if side.policy}
    is_own = set(own or own_policies(name, policies)).__contains__
    tables, given = {}, {}
    for each in dict.fromkeys(one.dimension for one, asked in zip(said, places[0], strict=True) if not common.isdisjoint(asked)):
        parts = [[one for one in side if one.dimension == each] for side in (said, heard)]
        given[each] = mean_marks(mark for mark in marks if mark.rater in is_mine and mark.dimension in (None, each))
        marked = {place: given[each][key] for place, key in questions.places() if key in given[each]}
        tables[each] = JudgeAnswers.of_judgments(parts[0], parts[1], comparisons, questions.prompts, is_own, marked, same)
    kinds = Counter(theirs.kinds[one.rater] for one, asked in zip(heard, places[1], strict=True) if not common.isdisjoint(asked))
    return JudgedPairs(name, tables, given, dict(kinds), _digest(questions, [*said, *heard]), questions.has_texts or people is None)


def _asked(judgment: Judgment, same: SamePairs) -> list[tuple[Place, str]]:
    """Return the pairs that a judgment is about, at the places where they count, with its dimension."""
    own = [(one.judgment.comparison, one.first, one.second) for one in pairs_of([judgment])]
    return [(same.get(place, (place, False))[0], judgment.dimension) for place in own]


def is_judge(rater: str, kinds: Mapping[str, RaterKind]) -> bool:
    """Return whether a rater is a model: the file says so, or the name is a judge's."""
    return kinds[rater] == "model" or (kinds[rater] == "unknown" and judge_name(rater) is not None)


def own_policies(judge: str, policies: Iterable[str]) -> tuple[str, ...]:
    """Return the policies that are a judge's own model, or else those of its family, such as all that begin with `gpt`."""
    name = judge_name(judge)
    model = judge.removesuffix("_pair").removesuffix("_single").split("/")[0] if name is None else name.model
    known = sorted(policies)
    exact = tuple(policy for policy in known if model_words(policy) == model_words(model))
    return exact or tuple(policy for policy in known if family(model) and family(policy) == family(model))


@dataclass(frozen=True, slots=True)
class _Read:
    """The judgments of one file that count, in the numbers of the joined questions, and its raters."""

    judgments: tuple[Judgment, ...]
    kinds: dict[str, RaterKind]


@dataclass
class Questions:
    """The questions of one file or several. Those with the same conversation and candidates are one.

    With `parts_policies` they are apart where other policies wrote the same texts, for figures that credit a policy.
    """

    items: dict[Hashable, ExchangeItem] = field(default_factory=dict)
    has_texts: bool = True
    parts_policies: bool = False

    def take(self, exchange: Exchange) -> _Read:
        """Add the questions of a file and return its judgments. Hidden tests do not count."""
        places: dict[str, tuple[str, tuple[int, ...]]] = {}
        known: dict[str, ExchangeItem] = {item.id: item for item in exchange.items}
        for item in exchange.items:
            key, sides = _question(item)
            self.has_texts = self.has_texts and not isinstance(key, str)
            first = self.items.setdefault(key, replace(item, id=str(len(self.items))))
            numbers = _numbers(first, sides)
            while self.parts_policies and not _same_writers(first, item, numbers):
                key = (key, "by other policies")
                first = self.items.setdefault(key, replace(item, id=str(len(self.items))))
                numbers = _numbers(first, sides)
            places[item.id] = first.id, numbers
            writers = {number: item.candidates[place].policy for place, number in enumerate(numbers)}
            candidates = (replace(side, policy=side.policy or writers.get(k, "")) for k, side in enumerate(first.candidates))
            self.items[key] = replace(first, candidates=tuple(candidates))
        kept = []
        for vote in exchange.votes:
            item = known[vote.judgment.comparison]
            is_left_out = (
                vote.entry == "undo"
                or vote.is_broken is not None
                or vote.grades
                or item.gold is not None
                or reason_to_leave_out(vote, item)
            )
            if not is_left_out:
                tiers = vote.judgment.ranking or (tuple(range(len(item.candidates))),)  # all bad: a tie of all
                kept.append(replace(vote.judgment, ranking=tiers).renumbered(*places[item.id]))
        named = exchange.kinds()
        kinds: dict[str, RaterKind] = {rater: "model" if is_judge(rater, named) else kind for rater, kind in named.items()}
        return _Read(tuple(kept), kinds)

    def same_pairs(self) -> SamePairs:
        """Return where a pair of texts counts that stands in several questions: in the largest ranking that holds it, and in its cluster.

        So people's votes on single pairs meet a judge's rankings of the same completions.
        """
        counted: dict[Hashable, tuple[Place, str]] = {}
        same: dict[Place, tuple[Place, bool]] = {}
        for item in sorted(self.items.values(), key=lambda item: -len(item.candidates)):
            key, contents = _question(item)
            if not isinstance(key, tuple):
                continue  # without texts nobody knows which pairs are the same
            if self.parts_policies:
                contents = [f"{side.policy}\0{content}" for side, content in zip(item.candidates, contents, strict=True)]
            for i, j in itertools.combinations(range(len(contents)), 2):
                place = item.id, i, j
                own, first = counted.setdefault((key[0], tuple(sorted((contents[i], contents[j])))), (place, contents[i]))
                if own != place:
                    same[place] = own, first != contents[i]
        return same

    def comparisons(self) -> Iterable[Comparison]:
        """The questions with their texts and policies."""
        return (item.comparison() for item in self.items.values())

    def places(self) -> Iterable[tuple[tuple[str, int], MarkedText]]:
        """Yield ((question's id, candidate's number), what tells that candidate's text from others) of all candidates."""
        for item in self.items.values():
            prompt = tuple(turn.text.strip() for turn in item.conversation)
            yield from (((item.id, number), (prompt, candidate.text)) for number, candidate in enumerate(item.candidates))

    @property
    def prompts(self) -> dict[str, str]:
        """The prompt of each question: its conversation; without texts the number of its question in MT-bench, or the item itself."""
        return {item.id: _prompt(item) for item in self.items.values()}


def mean_marks(marks: Iterable[Mark]) -> dict[MarkedText, float]:
    """Return the mean mark of each completion, by the texts of its prompt and its own. A rater's last mark counts."""
    last = {(mark.key, mark.rater): mark.value for mark in marks}
    by_text: dict[MarkedText, list[float]] = {}
    for (key, _), value in last.items():
        by_text.setdefault(key, []).append(value)
    return {key: statistics.fmean(values) for key, values in by_text.items()}


def _question(item: ExchangeItem) -> tuple[Hashable, list[str]]:
    """What the item asks, as a key, and what tells its candidates apart. Without texts the key is the item's id."""
    contents = [candidate.text + candidate.media for candidate in item.candidates]
    if any(contents):
        return (tuple(turn.text.strip() for turn in item.conversation), tuple(sorted(contents))), contents
    policies = [candidate.policy for candidate in item.candidates]
    return item.id, policies if len(set(policies)) == len(policies) else [str(k) for k in range(len(policies))]


def _numbers(first: ExchangeItem, sides: list[str]) -> tuple[int, ...]:
    """Return the number that each side of the same question has in its first item."""
    ours = _question(first)[1]
    return tuple(range(len(ours))) if ours == sides else tuple(map(ours.index, sides))


def _same_writers(first: ExchangeItem, item: ExchangeItem, numbers: tuple[int, ...]) -> bool:
    """Return whether the same policies wrote both items' candidates, as far as both name them."""
    writers = [(first.candidates[number].policy, side.policy) for number, side in zip(numbers, item.candidates, strict=True)]
    return all(one == other for one, other in writers if one and other)


def _prompt(item: ExchangeItem) -> str:
    if item.conversation:
        return json.dumps([turn.text for turn in item.conversation])
    return str(item.fields.get("question_id", item.id))


def judge_among(kinds: Mapping[str, RaterKind], wanted: str | None) -> str:
    """Return the judge's name among raters of these kinds. Raises ConfigError where there is no such rater, or several."""
    models = list(dict.fromkeys(judge_of(rater) for rater, kind in kinds.items() if kind == "model"))
    if wanted is not None:
        if wanted not in kinds and wanted not in models:
            raise ConfigError(f"--judge {wanted}: there is no such rater. {_listed(models or list(kinds))}")
        return wanted
    if not models:
        raise ConfigError(f"no rater is a model, so it is not clear who is the judge. Name it with --judge. {_listed(list(kinds))}")
    if len(models) > 1:
        versions = Counter((name.model, name.instructions) for name in map(judge_name, models) if isinstance(name, JudgeName))
        twice = next((f"{model}/{instructions}" for (model, instructions), count in versions.items() if count > 1), "")
        problem = (
            f"{twice} judged under several versions of its instructions, and each is another judge"
            if twice
            else "there are several judges, and a model under another prompt is another judge"
        )
        raise ConfigError(f"{problem}. Choose one with --judge. {_listed(models)}")
    return models[0]


def _listed(raters: Sequence[str]) -> str:
    shown = ", ".join(raters[:6]) + (f" and {len(raters) - 6} more" if len(raters) > 6 else "")
    return f"There are {shown}." if raters else "There are no raters."


def _nothing_in_common(
    judge: str, said: Sequence[Judgment], heard: Sequence[Judgment], dimension: str | None, places: Sequence[set[Place]]
) -> DataError:
    if not said or not heard:
        who = judge if not said else "any person"
        on = "" if dimension is None else f" on {dimension}"
        return DataError(f"there is no judgment of {who}{on} here. Give files with judgments of both; --people names that of people.")
    ours, theirs = places
    if ours & theirs:
        dimensions = (", ".join(sorted({one.dimension for one in part})) for part in (said, heard))
        return DataError("{} judged {}, and people judged {}. Give judgments on one dimension.".format(judge, *dimensions))
    return DataError(
        f"{judge} and people judged no pair in common ({len(ours)} and {len(theirs)} pairs). Pairs are joined by the texts of prompt "
        "and completions, and without texts by the items' names. Give judgments of the same completions."
    )


def _digest(questions: Questions, judgments: Iterable[Judgment]) -> str:
    """Return a digest of judgments by what they are about, whatever the files and their items are called."""
    keys = {item.id: json.dumps(key) for key, item in questions.items.items()}
    rows = sorted(
        json.dumps(
            [keys[one.comparison], one.rater, one.dimension, one.tiers, one.order, one.probability, one.is_consistent]
            + ([one.probabilities] if one.probabilities else [])
        )
        for one in judgments
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
