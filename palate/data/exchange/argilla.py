"""Records of Argilla 2: ranking questions, and rating questions for one candidate each."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import Conversation, DataError, Judgment
from palate.data import cells
from palate.data.cells import Columns, invalid
from palate.data.containers import SourceRow
from palate.data.conversations import conversation_or_text
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, RaterKind, Tiers, Vote, media_or_text
from palate.data.exchange.gather import Gathering
from palate.data.exchange.label_studio_page import dimensions_of
from palate.data.exchange.shape import Written, unheld
from palate.data.files import write_json
from palate.data.formats.dropped import Dropped
from palate.data.formats.write import turns_of

PROMPT_FIELDS = ("prompt", "instruction", "question", "chat", "conversation", "messages", "input")
MAX_RATING = 10
"""Argilla's highest rating, and so the most tiers of a ranking with ties."""

_CANDIDATE = re.compile(r"(?:candidate|response|completion|answer|output|generation|reply)[-_ ]?(?:\d+|[a-z])")
_UUIDS = uuid.UUID("6f2b1c62-3f0e-5d0e-9c86-3f1f2f1f9a10")


@dataclass(frozen=True)
class ArgillaShape:
    """Records as `to_json` writes them (`fields`, `responses`), or flat records of `to_datasets` (`QUESTION.responses`)."""

    name: str = "argilla"
    needs: str = "`fields` and `responses` by question (or columns `QUESTION.responses`)"
    loses: str = (
        "policies, gold, orders shown, reasons, times and guideline versions. Raters become UUIDs (the same UUID for the same pseudonym). "
        "A question with ties becomes one rating per candidate"
    )

    def fits(self, row: Columns) -> bool:
        """Whether it is a record."""
        is_record = isinstance(row.get("fields"), dict) and not {"prompt", "conversation"} & row.keys()
        return is_record or any(name.endswith(".responses") for name in row)

    def read(self, rows: Iterable[SourceRow], into: Gathering) -> None:
        """Make items of records, votes of people of responses, and votes of models of suggestions. Drafts are dropped."""
        into.each(rows, lambda entry: _take(entry, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write a list of records."""
        records, left_out = _records(exchange)
        write_json(path, records)
        return Written(len(records), tuple(left_out))


def _take(entry: SourceRow, into: Gathering) -> None:
    record = _nested(entry.row)
    fields = cells.mapping(cells.present(record, "fields"), "fields")
    responses = cells.mapping(record.get("responses") or {}, "responses")
    names = [name for name in fields if _CANDIDATE.fullmatch(_plain(name)) and fields[name] is not None]
    prompt_field = next((name for name in PROMPT_FIELDS if fields.get(name) is not None), None)
    conversation: Conversation = () if prompt_field is None else conversation_or_text(fields[prompt_field], f"fields.{prompt_field}")
    candidates = tuple(_candidate(fields[name], f"fields.{name}") for name in names)
    rest = {name: cells.json_value(value, f"fields.{name}") for name, value in fields.items() if name not in (*names, prompt_field)}
    metadata = cells.mapping(record.get("metadata") or {}, "metadata")
    rest |= {name: cells.json_value(value, f"metadata.{name}") for name, value in metadata.items()}
    item_id = entry.place if record.get("id") is None else cells.name(record["id"], "id")
    item = ExchangeItem(item_id, conversation, candidates, "compare" if len(candidates) == 2 else "rank", fields=rest)
    into.item(item, entry.source)
    keys = {_plain(name): number for number, name in enumerate(names)}
    for rater, dimension, tiers, kind in (*_answers(responses, keys, entry, into), *_suggested(record, keys)):
        into.vote(Vote(Judgment(item.id, into.rater(rater, kind), tiers, dimension)), entry.source)


def _nested(row: Columns) -> Columns:
    """The record of a flat row."""
    if isinstance(row.get("fields"), dict):
        return row
    questions = [name.removesuffix(".responses") for name in row if name.endswith(".responses")]
    fields: dict[str, object] = {}
    responses: dict[str, object] = {}
    metadata: dict[str, object] = {}
    for name, value in row.items():
        question = next((question for question in questions if name.startswith(f"{question}.")), None)
        if question is None and name not in ("id", "_server_id", "status"):
            (metadata if name.startswith("metadata.") else fields)[name.removeprefix("metadata.")] = value
    for question in questions:
        values = cells.sequence(row[f"{question}.responses"] or [], f"{question}.responses")
        users = cells.sequence(row.get(f"{question}.responses.users") or [], f"{question}.responses.users")
        statuses = cells.sequence(row.get(f"{question}.responses.status") or ["submitted"] * len(values), f"{question}.responses.status")
        if not len(values) == len(users) == len(statuses):
            raise invalid(f"{question}.responses", f"holds {len(values)} answers by {len(users)} users with {len(statuses)} statuses")
        answers = zip(values, users, statuses, strict=True)
        responses[question] = [{"value": value, "user_id": user, "status": status} for value, user, status in answers]
    return {"id": row.get("id"), "fields": fields, "responses": responses, "metadata": metadata}


def _candidate(value: object, field: str) -> Candidate:
    return media_or_text(cells.text(value, field))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _answers(responses: Columns, keys: Mapping[str, int], entry: SourceRow, into: Gathering) -> Iterator[tuple[str, str, Tiers, RaterKind]]:
    """(rater, dimension, tiers, kind) of each answer to a ranking question, and of each full set of ratings."""
    rated: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    times: dict[tuple[str, str], int] = defaultdict(int)  # answers of a rater to a question: a second set of ratings is a second vote
    for question, responses_to_it in responses.items():
        rated_candidate = _rated_candidate(question, keys)
        for number, response in enumerate(cells.sequence(responses_to_it, f"responses.{question}")):
            where = f"responses.{question}[{number}]"
            answer = cells.mapping(response, where)
            if (answer.get("status") or "submitted") != "submitted":
                into.drop(entry.source, f"a response that was not submitted: {where} is {cells.quoted(answer['status'])}")
                continue
            rater, value = cells.name(cells.present(answer, "user_id"), f"{where}.user_id"), answer.get("value")
            if isinstance(value, list):
                yield rater, _dimension(question), _ranked(value, keys, f"{where}.value"), "person"
            elif rated_candidate is not None:
                dimension, candidate = rated_candidate
                rated[rater, dimension, times[rater, question]][candidate] = cells.number(value, f"{where}.value")
                times[rater, question] += 1
            elif isinstance(value, dict):
                raise invalid(f"{where}.value", "is neither a ranking nor a rating")
            # answers to other kinds of questions (texts, labels) do not say which candidate is better
    for (rater, dimension, _), ratings in rated.items():
        if len(ratings) < len(keys):
            raise invalid("responses", f"rate {len(ratings)} of {len(keys)} candidates on {dimension!r} by {rater!r}; rate all of them")
        yield rater, dimension, _by_rating(ratings), "person"


def _suggested(record: Columns, keys: Mapping[str, int]) -> Iterator[tuple[str, str, Tiers, RaterKind]]:
    for question, entry in cells.mapping(record.get("suggestions") or {}, "suggestions").items():
        where = f"suggestions.{question}"
        suggestion = cells.mapping(entry, where)
        if isinstance(suggestion.get("value"), list):
            agent = cells.name(suggestion.get("agent") or "suggestion", f"{where}.agent")
            yield agent, _dimension(question), _ranked(suggestion["value"], keys, f"{where}.value"), "model"


def _dimension(question: str) -> str:
    return "overall" if question in ("ranking", "preference", "rank") else question


def _rated_candidate(question: str, keys: Mapping[str, int]) -> tuple[str, int] | None:
    """(dimension, candidate) of a rating question. Its name is the candidate's, with the dimension or `rating` before or after it."""
    plain = _plain(question)
    matches = [key for key in keys if re.search(rf"(?:^|_){re.escape(key)}(?:_|$)", plain)]
    if not matches:
        return None
    key = max(matches, key=len)
    at = plain.rfind(key)
    rest = (question[:at].rstrip("-_ ") or question[at + len(key) :].lstrip("-_ ")) or "overall"
    return ("overall" if rest.lower() in ("rating", "score") else rest), keys[key]


def _ranked(value: object, keys: Mapping[str, int], field: str) -> Tiers:
    """Tiers of a list of names, the best first, or of {value, rank}, where rank 1 is best and equal ranks are a tie."""
    tiers: dict[float, list[int]] = defaultdict(list)
    for place, entry in enumerate(cells.sequence(value, field)):
        ranked: Columns = cells.mapping(entry, field) if isinstance(entry, dict) else {"value": entry}
        key, rank = cells.name(ranked.get("value"), field), ranked.get("rank")
        if _plain(key) not in keys:
            raise invalid(field, f"names {key!r}, which is not among the candidates: {', '.join(keys) or 'none'}"[:300])
        tiers[place if rank is None else cells.number(rank, f"{field}.rank")].append(keys[_plain(key)])
    return tuple(tuple(sorted(tiers[rank])) for rank in sorted(tiers))


def _by_rating(ratings: Mapping[int, float]) -> Tiers:
    """Tiers of candidates by their ratings, the highest first."""
    return tuple(tuple(sorted(k for k in ratings if ratings[k] == rating)) for rating in sorted(set(ratings.values()), reverse=True))


def _records(exchange: Exchange) -> tuple[list[dict[str, Any]], list[Dropped]]:
    with_ties = {vote.judgment.dimension for vote in exchange.votes if any(len(tier) > 1 for tier in vote.tiers)}
    kinds, votes, left_out, records = exchange.kinds(), exchange.votes_of(), [], []
    dimensions = dimensions_of(exchange)
    for item in exchange.items:
        if len(item.candidates) < 2:
            raise DataError(
                f"item {item.id!r}: has {len(item.candidates)} candidates; an Argilla ranking takes two or more. Leave the item out."
            )
        responses: dict[str, list[dict[str, Any]]] = {name: [] for name in dimensions if name not in with_ties}
        suggestions: dict[str, dict[str, Any]] = {}
        for vote in votes[item.id]:
            judgment, tiers = vote.judgment, vote.tiers
            if not vote.is_ranking or len(tiers) > MAX_RATING:
                left_out.append(unheld(item.id, f"not a ranking of {MAX_RATING} tiers at most, or not kept"))
            elif judgment.dimension in with_ties:
                for place, tier in enumerate(tiers):
                    for number in tier:
                        rating = {"value": MAX_RATING - place, "user_id": _user(judgment.rater)}
                        responses.setdefault(f"{judgment.dimension}_candidate_{number + 1}", []).append(rating)
            else:
                value = [f"candidate_{tier[0] + 1}" for tier in tiers]
                if kinds[judgment.rater] == "model" and judgment.dimension not in suggestions:
                    suggestions[judgment.dimension] = {"value": value, "agent": judgment.rater, "score": None}
                else:
                    responses[judgment.dimension].append({"value": value, "user_id": _user(judgment.rater)})
        records.append(_record(item, responses, suggestions))
    return records, left_out


def _record(item: ExchangeItem, responses: object, suggestions: object) -> dict[str, Any]:
    prompt = {"prompt": turns_of(item.conversation)} if item.conversation else {}
    candidates = {f"candidate_{number}": each.media or each.text for number, each in enumerate(item.candidates, start=1)}
    metadata = {"stratum": item.stratum} if item.stratum else {}
    fields = {**prompt, **candidates}
    return {"id": item.id, "fields": fields, "metadata": metadata, "suggestions": suggestions, "responses": responses, "vectors": {}}


def _user(rater: str) -> str:
    """The rater as a UUID, which Argilla requires."""
    try:
        return str(uuid.UUID(rater))
    except ValueError:
        return str(uuid.uuid5(_UUIDS, rater))
