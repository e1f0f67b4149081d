"""Tasks of Label Studio with annotations: the tags Pairwise, Ranker, Choices, Rating and TextArea."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from palate.core import UNKNOWN_RATER, Conversation, Judgment
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.containers import SourceRow
from palate.data.conversations import conversation_or_text
from palate.data.exchange.contents import (
    RATER_KINDS,
    Candidate,
    Exchange,
    ExchangeItem,
    RaterKind,
    Tiers,
    Vote,
    media_or_text,
    shown_places,
)
from palate.data.exchange.gather import Gathering
from palate.data.exchange.label_studio_page import page_of, tasks_of
from palate.data.exchange.shape import Written
from palate.data.files import write_atomic, write_json
from palate.data.pseudonyms import pseudonym

PROMPT_NAMES = ("conversation", "messages", "chat", "dialogue", "prompt", "question", "instruction", "query")
"""Names in `data` that can hold the prompt. The first that is present counts."""

SIDES = (
    *(("left", "right"), ("text1", "text2"), ("answer1", "answer2"), ("response1", "response2"), ("completion1", "completion2")),
    *(("response_a", "response_b"), ("answer_a", "answer_b"), ("image1", "image2"), ("video1", "video2"), ("a", "b")),
)
"""Names in `data` that can hold the two sides of a pair."""

TIE, ALL_BAD = "tie", "all bad"


@dataclass(frozen=True)
class LabelStudioShape:
    """Tasks as Label Studio exports them as JSON (not JSON-MIN) and imports them: `data`, `annotations`, `predictions`."""

    name: str = "label-studio"
    needs: str = "`data` and `annotations` (export as JSON, not JSON-MIN)"
    loses: str = (
        "policies, gold, strata and further columns, so that annotators do not see who wrote what. Join them again with --items. "
        "Flags and written answers are lost, ratings of strength are kept"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is a task."""
        return isinstance(row.get("data"), dict) and bool({"annotations", "predictions", "id", "total_annotations"} & row.keys())

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make an item of each task, and a vote of each control of an annotation. A single control judges `overall`."""
        into.each(rows, lambda entry: _take(entry, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write the tasks, and beside them, with the ending `.xml`, the labelling configuration to paste."""
        page = path.with_suffix(".xml")
        tasks, left_out = tasks_of(exchange)
        write_json(path, tasks)
        write_atomic(page, page_of(exchange))
        return Written(len(tasks), tuple(left_out), (page,))


@dataclass
class _Answer:
    """What one annotation says about one dimension."""

    tiers: Tiers | None = None
    is_all_bad: bool = False
    strength: float | None = None
    meta: Mapping[str, object] = field(default_factory=dict)


def _take(entry: SourceRow, into: Gathering) -> None:
    row = entry.row
    data = cells.mapping(cells.present(row, "data"), "data")
    item, keys = _item(data, row, entry.place)
    into.item(item, entry.source)
    kinds: tuple[tuple[str, RaterKind], ...] = (("annotations", "person"), ("predictions", "model"))
    for field_name, kind in kinds:
        for number, annotation in enumerate(cells.sequence(row.get(field_name) or [], field_name)):
            where = f"{field_name}[{number}]"
            if isinstance(annotation, int) and not isinstance(annotation, bool):  # Label Studio exports predictions like this by default
                into.drop(entry.source, f"a number in place of its content: {where}")
                continue
            entries = cells.mapping(annotation, where)
            votes = list(_votes(entries, item, keys, where, kind))
            for about in _left_out(entries):
                into.drop(entry.source, f"{about}, which does not say how much better: {where}")
            if not votes:
                into.drop(entry.source, f"nothing said about which candidate is better: {where}")
            if number and votes and votes[0][0].judgment.rater == UNKNOWN_RATER:  # two annotators without a name need not be one person
                name = f"{UNKNOWN_RATER}-{number + 1}"
                votes = [(replace(vote, judgment=replace(vote.judgment, rater=name)), rater_kind) for vote, rater_kind in votes]
            for vote, rater_kind in votes:
                into.rater(vote.judgment.rater, rater_kind)
                into.vote(vote, entry.source)


def _item(data: Columns, row: Columns, place: str) -> tuple[ExchangeItem, dict[str, int]]:
    """The item, and the number of each candidate by its name in annotations."""
    prompt_name = next((name for name in PROMPT_NAMES if data.get(name) is not None), None)
    conversation: Conversation = () if prompt_name is None else conversation_or_text(data[prompt_name], f"data.{prompt_name}")
    lists = next((name for name, value in data.items() if name not in PROMPT_NAMES and _is_list_of_items(value)), None)
    sides = next((names for names in SIDES if all(name in data for name in names)), None)
    if lists is not None:
        entries = [cells.mapping(entry, f"data.{lists}") for entry in cells.sequence(data[lists], f"data.{lists}")]
        ids = [cells.name(entry.get("id"), f"data.{lists}.id") for entry in entries]
        if len(set(ids)) < len(ids):
            raise invalid(f"data.{lists}.id", f"names an item twice: {cells.quoted(ids)}")
        candidates = tuple(_candidate(entry, lists) for entry in entries)
        keys = {key: number for number, key in enumerate(ids)}
    elif sides is not None:
        candidates = tuple(media_or_text(cells.text(data[name], f"data.{name}")) for name in sides)
        keys = {"left": 0, "right": 1}
    else:
        known = ", ".join("/".join(names) for names in SIDES)
        raise invalid(
            "data", f"has {', '.join(map(repr, data)) or 'nothing'}; give candidates as a list of id and body, or as one of {known}"
        )
    given_id = data.get("palate_id", row.get("id"))
    item_id = place if given_id is None else cells.name(given_id, "id")
    return ExchangeItem(item_id, conversation, candidates, "rank" if lists is not None and len(candidates) > 2 else "compare"), keys


def _is_list_of_items(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) and "id" in entry for entry in value)


def _candidate(entry: Columns, field_name: str) -> Candidate:
    content = next((entry[name] for name in ("body", "text", "html", "title") if entry.get(name) is not None), None)
    return media_or_text(cells.text(content, f"data.{field_name}.body"))


def _votes(entry: Columns, item: ExchangeItem, keys: Mapping[str, int], where: str, kind: RaterKind) -> Iterator[tuple[Vote, RaterKind]]:
    results = [cells.mapping(result, f"{where}.result") for result in cells.sequence(entry.get("result") or [], f"{where}.result")]
    answers, reason = _answers(results, keys, len(item.candidates), where)
    is_skipped = cells.boolean(entry.get("was_cancelled") or False, f"{where}.was_cancelled")
    if is_skipped and not answers:
        meta = next((_meta(result, where) for result in results), {})
        answers = {cells.name(meta.get("dimension", "overall"), "dimension"): _Answer(meta=meta)}
    for dimension, answer in answers.items():
        meta = answer.meta
        order = _order(meta, kind, len(item.candidates), where)
        if order is not None and sorted(order) != list(range(len(item.candidates))):
            raise invalid(f"{where}.meta.palate.order", f"does not name each candidate once: {list(order)}")
        seconds = meta.get("seconds", entry.get("lead_time"))
        time = meta.get("time")
        judgment = Judgment(
            item.id,
            _rater(entry, meta, kind, where),
            () if answer.tiers is None else shown_places(answer.tiers, order),
            dimension,
            order,
            strength=answer.strength,
            reason=reason,
            seconds=None if seconds is None else cells.number(seconds, f"{where}.lead_time", least=0),
            guideline=cells.text(meta.get("guideline", ""), f"{where}.meta.palate.guideline"),
        )
        vote = Vote(
            judgment,
            id=cells.text(meta.get("id", ""), f"{where}.meta.palate.id"),
            time=_created(entry.get("created_at"), where) if time is None else cells.number(time, f"{where}.meta.palate.time"),
            is_all_bad=answer.is_all_bad,
            is_skipped=is_skipped,
        )
        yield vote, cells.choice(meta.get("kind", kind), f"{where}.meta.palate.kind", RATER_KINDS)


def _order(meta: Columns, kind: RaterKind, count: int, where: str) -> tuple[int, ...] | None:
    """The order that Palate wrote, or for a person's own annotation the task's, in which Label Studio shows it; None if unknown."""
    if meta.get("order") is not None:
        return cells.whole_numbers(meta["order"], f"{where}.meta.palate.order")
    return None if meta or kind == "model" else tuple(range(count))


def _answers(results: Sequence[Columns], keys: Mapping[str, int], count: int, where: str) -> tuple[dict[str, _Answer], str]:
    """The answers by dimension, and the reason. A control that is alone of its kind judges `overall`, whatever its name."""
    deciding = {cells.text(result.get("from_name"), "from_name") for result in results if result.get("type") in ("pairwise", "ranker")}
    answers: dict[str, _Answer] = {}
    reason = ""
    for number, result in enumerate(results):
        at = f"{where}.result[{number}]"
        kind = result.get("type")
        if kind not in ("pairwise", "ranker", "choices", "rating", "textarea"):
            continue  # results of other tags do not say which candidate is better
        control, value = cells.text(result.get("from_name"), f"{at}.from_name"), cells.mapping(result.get("value"), f"{at}.value")
        if _is_about_else(result, results):
            continue
        if kind == "textarea":
            lines = value.get("text")
            texts = [lines] if isinstance(lines, str) else cells.sequence(lines, f"{at}.value.text")
            reason = "\n".join([*([reason] if reason else []), *(cells.text(line, f"{at}.value.text") for line in texts)])
            continue
        meta = _meta(result, at)
        answer = answers.setdefault(cells.name(meta.get("dimension", _dimension(control, deciding)), f"{at}.from_name"), _Answer())
        answer.meta = answer.meta or meta
        if kind == "pairwise":
            answer.tiers = _pair(value, count, f"{at}.value.selected")
        elif kind == "ranker":
            answer.tiers = _ranked(value.get("ranker"), keys, f"{at}.value.ranker")
        elif kind == "rating":
            answer.strength = cells.number(value.get("rating"), f"{at}.value.rating")
        else:
            chosen = cells.sequence(value.get("choices"), f"{at}.value.choices")
            if TIE in chosen and answer.tiers is None:
                answer.tiers = (tuple(range(count)),)
            answer.is_all_bad = answer.is_all_bad or ALL_BAD in chosen
    return {name: answer for name, answer in answers.items() if answer.tiers is not None or answer.is_all_bad}, reason


def _is_about_else(result: Columns, results: Sequence[Columns]) -> bool:
    """Whether a rating is about one candidate or the prompt, such as its stars, or a text is one of several comments on candidates.

    `to_name` says what a control stands at. Palate's own stand at the first candidate, and their names or their `meta` say what they are.
    """
    kind, target, control = result.get("type"), result.get("to_name"), str(result.get("from_name", ""))
    if kind not in ("rating", "textarea") or not isinstance(target, str) or "," in target:
        return False
    if control.startswith("dimension_") or control == "reason" or _meta(result, "result"):
        return False
    compared = [str(other.get("to_name")) for other in results if other.get("type") in ("pairwise", "ranker")]
    candidates = {*(side for names in SIDES for side in names), *(name for names in compared if "," in names for name in names.split(","))}
    if kind == "textarea":  # one text can stand anywhere; one for each candidate is a comment on it
        return target in candidates and len({other.get("to_name") for other in results if other.get("type") == kind} & candidates) > 1
    return target in candidates or (target not in compared and bool(compared or target in PROMPT_NAMES))


def _left_out(entry: Columns) -> Iterator[str]:
    """What an annotation says of other things than the comparison, each kind once."""
    given = entry.get("result")
    results = [result for result in given if isinstance(result, dict)] if isinstance(given, list) else []
    about = (result for result in results if _is_about_else(result, results))
    yield from dict.fromkeys(f"a {result['type']} of {cells.quoted(result['to_name'])} alone" for result in about)


def _dimension(control: str, deciding: set[str]) -> str:
    """The dimension of a control: `dimension_NAME`, `dimension_NAME_strength` and `dimension_NAME_verdict` judge NAME."""
    if control.startswith("dimension_"):
        return control.removeprefix("dimension_").removesuffix("_strength").removesuffix("_verdict") or "overall"
    return control if len(deciding) > 1 and control in deciding else "overall"


def _pair(value: Columns, count: int, field_name: str) -> Tiers:
    selected = value.get("selected")
    if count != 2 or selected not in ("left", "right"):
        raise invalid(field_name, f"is {cells.quoted(selected)} for {count} candidates; a pair has left and right")
    return ((0,), (1,)) if selected == "left" else ((1,), (0,))


def _ranked(value: object, keys: Mapping[str, int], field_name: str) -> Tiers:
    """Tiers of an order (a list, or one named list), or of buckets named 1, 2, ..., where 1 is best."""
    if isinstance(value, list):
        return tuple((_number(key, keys, field_name),) for key in value)
    buckets = {name: cells.sequence(ids, field_name) for name, ids in cells.mapping(value, field_name).items()}
    if buckets.pop("_", None):
        raise invalid(field_name, "leaves candidates in no bucket; rank all of them")
    if len(buckets) == 1 and not next(iter(buckets)).isdecimal():
        return tuple((_number(key, keys, field_name),) for key in next(iter(buckets.values())))
    if not buckets or not all(name.isdecimal() and len(name) < 5 for name in buckets):
        raise invalid(
            field_name, f"has the buckets {', '.join(buckets) or 'none'}; name them 1, 2, ... from the best, or do not use buckets"
        )
    ordered = (buckets[name] for name in sorted(buckets, key=int))
    return tuple(tuple(_number(key, keys, field_name) for key in ids) for ids in ordered if ids)


def _number(value: object, keys: Mapping[str, int], field_name: str) -> int:
    key = cells.name(value, field_name)
    if key not in keys:
        raise invalid(field_name, f"names {key!r}, which is not among the candidates: {', '.join(keys)}"[:300])
    return keys[key]


def _meta(result: Columns, where: str) -> Columns:
    """What Palate wrote in the `meta` of a result, which Label Studio keeps."""
    meta = result.get("meta")
    own = meta.get("palate") if isinstance(meta, dict) else None
    return {} if own is None else cells.mapping(own, f"{where}.meta.palate")


def _rater(entry: Columns, meta: Columns, kind: RaterKind, where: str) -> str:
    """The rater: a number or a name, never an email address."""
    if meta.get("rater") is not None:
        return cells.name(meta["rater"], f"{where}.meta.palate.rater")
    if kind == "model":
        return cells.name(entry.get("model_version") or "prediction", f"{where}.model_version")
    who = entry.get("completed_by")
    if isinstance(who, dict):
        who = who.get("id")
        if who is None:
            raise invalid(f"{where}.completed_by", "has no id; export it with the number of each annotator")
    if who is None:
        return UNKNOWN_RATER
    return pseudonym(who, f"{where}.completed_by")


def _created(value: object, where: str) -> float | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(cells.text(value, f"{where}.created_at")).timestamp()
    except (ValueError, OverflowError) as error:
        raise invalid(f"{where}.created_at", f"is not a time: {cells.quoted(value)}") from error
