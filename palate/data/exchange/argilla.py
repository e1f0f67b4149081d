"""Records of Argilla 2: ranking questions, and rating questions that name a candidate each."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.core import Conversation, DataError, Judgment
from palate.data.containers import Found
from palate.data.exchange import cells
from palate.data.exchange.cells import Columns, invalid
from palate.data.exchange.exchange import Candidate, Exchange, ExchangeItem, RaterKind, Tiers, Vote
from palate.data.exchange.gather import Gathering
from palate.data.exchange.label_studio_page import dimensions_of
from palate.data.exchange.media import media_or_text
from palate.data.exchange.shape import Written, unheld
from palate.data.files import write_json
from palate.data.formats.dropped import Dropped
from palate.data.formats.write import turns_of

ASKED = ("prompt", "instruction", "question", "chat", "conversation", "messages", "input")
HIGHEST = 10
"""The highest rating that Argilla knows; a ranking with ties has as many tiers at most."""

_CANDIDATE = re.compile(r"(?:candidate|response|completion|answer|output|generation|reply)[-_ ]?(?:\d+|[a-z])")
_UUIDS = uuid.UUID("6f2b1c62-3f0e-5d0e-9c86-3f1f2f1f9a10")


@dataclass(frozen=True)
class ArgillaShape:
    """Records as `to_json` writes them (`fields`, `responses`), or flat as `to_datasets` does (`QUESTION.responses`)."""

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

    def read(self, rows: Iterable[Found], into: Gathering) -> None:
        """Nothing; records become items, responses votes of people, suggestions votes of models. Drafts are dropped."""
        into.each(rows, lambda found: _take(found, into))

    def write(self, exchange: Exchange, path: Path) -> Written:
        """What was written: a list of records."""
        records, left_out = _records(exchange)
        write_json(path, records)
        return Written(len(records), tuple(left_out))


def _take(found: Found, into: Gathering) -> None:
    record = _nested(found.row)
    fields = cells.mapping(cells.present(record, "fields"), "fields")
    responses = cells.mapping(record.get("responses") or {}, "responses")
    names = [name for name in fields if _CANDIDATE.fullmatch(_plain(name)) and fields[name] is not None]
    asked = next((name for name in ASKED if fields.get(name) is not None), None)
    conversation: Conversation = () if asked is None else cells.asked(fields[asked], f"fields.{asked}")
    candidates = tuple(_candidate(fields[name], f"fields.{name}") for name in names)
    rest = {name: cells.plain(value, f"fields.{name}") for name, value in fields.items() if name not in (*names, asked)}
    metadata = cells.mapping(record.get("metadata") or {}, "metadata")
    rest |= {name: cells.plain(value, f"metadata.{name}") for name, value in metadata.items()}
    item_id = found.place if record.get("id") is None else cells.name(record["id"], "id")
    item = ExchangeItem(item_id, conversation, candidates, "compare" if len(candidates) == 2 else "rank", fields=rest)
    into.item(item, found.source)
    keys = {_plain(name): number for number, name in enumerate(names)}
    for rater, dimension, tiers, kind in (*_answers(responses, keys, found, into), *_suggested(record, keys)):
        order = tuple(range(len(candidates)))
        into.vote(Vote(Judgment(item.id, into.rater(rater, kind), tiers, dimension, order)), found.source)


def _nested(row: Columns) -> Columns:
    """A flat row as a record."""
    if isinstance(row.get("fields"), dict):
        return row
    flat = [name.removesuffix(".responses") for name in row if name.endswith(".responses")]
    fields: dict[str, object] = {}
    responses: dict[str, object] = {}
    metadata: dict[str, object] = {}
    for name, value in row.items():
        question = next((one for one in flat if name.startswith(f"{one}.")), None)
        if question is None and name not in ("id", "_server_id", "status"):
            (metadata if name.startswith("metadata.") else fields)[name.removeprefix("metadata.")] = value
    for question in flat:
        values = cells.sequence(row[f"{question}.responses"] or [], f"{question}.responses")
        users = cells.sequence(row.get(f"{question}.responses.users") or [], f"{question}.responses.users")
        statuses = cells.sequence(row.get(f"{question}.responses.status") or ["submitted"] * len(values), f"{question}.responses.status")
        if not len(values) == len(users) == len(statuses):
            raise invalid(f"{question}.responses", f"holds {len(values)} answers by {len(users)} users, {len(statuses)} statuses")
        answers = zip(values, users, statuses, strict=True)
        responses[question] = [{"value": value, "user_id": user, "status": status} for value, user, status in answers]
    return {"id": row.get("id"), "fields": fields, "responses": responses, "metadata": metadata}


def _candidate(value: object, field: str) -> Candidate:
    return media_or_text(cells.text(value, field))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _answers(responses: Columns, keys: Mapping[str, int], found: Found, into: Gathering) -> Iterator[tuple[str, str, Tiers, RaterKind]]:
    """(rater, dimension, tiers, kind) of each answer to a ranking question, and of each full set of ratings."""
    rated: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    times: dict[tuple[str, str], int] = defaultdict(int)  # how often a rater answered a question: a second set of ratings is a second vote
    for question, given in responses.items():
        about = _rated_candidate(question, keys)
        for number, entry in enumerate(cells.sequence(given, f"responses.{question}")):
            where = f"responses.{question}[{number}]"
            answer = cells.mapping(entry, where)
            if (answer.get("status") or "submitted") != "submitted":
                into.drop(found.source, f"a response that was not submitted: {where} is {cells.shown(answer['status'])}")
                continue
            rater, value = cells.name(cells.present(answer, "user_id"), f"{where}.user_id"), answer.get("value")
            if isinstance(value, list):
                yield rater, _dimension(question), _ranked(value, keys, f"{where}.value"), "person"
            elif about is not None:
                rated[rater, about[0], times[rater, question]][about[1]] = cells.number(value, f"{where}.value")
                times[rater, question] += 1
            elif isinstance(value, dict):
                raise invalid(f"{where}.value", "is neither a ranking nor a rating")
            # answers to questions of another kind (texts, labels) say nothing about which candidate is better
    for (rater, dimension, _), ratings in rated.items():
        if len(ratings) < len(keys):
            raise invalid("responses", f"rate {len(ratings)} of {len(keys)} candidates on {dimension!r} by {rater!r}; all are needed")
        yield rater, dimension, _by_rating(ratings), "person"


def _suggested(record: Columns, keys: Mapping[str, int]) -> Iterator[tuple[str, str, Tiers, RaterKind]]:
    for question, entry in cells.mapping(record.get("suggestions") or {}, "suggestions").items():
        where = f"suggestions.{question}"
        said = cells.mapping(entry, where)
        if isinstance(said.get("value"), list):
            agent = cells.name(said.get("agent") or "suggestion", f"{where}.agent")
            yield agent, _dimension(question), _ranked(said["value"], keys, f"{where}.value"), "model"


def _dimension(question: str) -> str:
    return "overall" if question in ("ranking", "preference", "rank") else question


def _rated_candidate(question: str, keys: Mapping[str, int]) -> tuple[str, int] | None:
    """(dimension, candidate) of a rating question: its name is the candidate's with the dimension, or `rating`, before or behind."""
    plain = _plain(question)
    found = [key for key in keys if re.search(rf"(?:^|_){re.escape(key)}(?:_|$)", plain)]
    if not found:
        return None
    key = max(found, key=len)
    at = plain.rfind(key)
    rest = (question[:at].rstrip("-_ ") or question[at + len(key) :].lstrip("-_ ")) or "overall"
    return ("overall" if rest.lower() in ("rating", "score") else rest), keys[key]


def _ranked(value: object, keys: Mapping[str, int], field: str) -> Tiers:
    """Names from the best, or {value, rank} with rank 1 the best; equal ranks are a tie."""
    tiers: dict[float, list[int]] = defaultdict(list)
    for place, entry in enumerate(cells.sequence(value, field)):
        said: Columns = cells.mapping(entry, field) if isinstance(entry, dict) else {"value": entry}
        key, rank = cells.name(said.get("value"), field), said.get("rank")
        if _plain(key) not in keys:
            raise invalid(field, f"names {key!r}, which is not among the candidates: {', '.join(keys) or 'none'}"[:300])
        tiers[place if rank is None else cells.number(rank, f"{field}.rank")].append(keys[_plain(key)])
    return tuple(tuple(sorted(tiers[rank])) for rank in sorted(tiers))


def _by_rating(ratings: Mapping[int, float]) -> Tiers:
    """Candidates by their ratings, the highest first."""
    return tuple(tuple(sorted(k for k in ratings if ratings[k] == rating)) for rating in sorted(set(ratings.values()), reverse=True))


def _records(exchange: Exchange) -> tuple[list[dict[str, Any]], list[Dropped]]:
    with_ties = {vote.judgment.dimension for vote in exchange.votes if any(len(tier) > 1 for tier in vote.tiers)}
    kinds, votes, left_out, records = exchange.kinds(), exchange.votes_of(), [], []
    asked = dimensions_of(exchange)
    for item in exchange.items:
        if len(item.candidates) < 2:
            raise DataError(f"item {item.id!r}: has {len(item.candidates)} candidates; an Argilla ranking takes two or more. Leave it out.")
        responses: dict[str, list[dict[str, Any]]] = {name: [] for name in asked if name not in with_ties}
        suggestions: dict[str, dict[str, Any]] = {}
        for vote in votes[item.id]:
            judgment, tiers = vote.judgment, vote.tiers
            if not vote.is_ranking or len(tiers) > HIGHEST:
                left_out.append(unheld(item.id, f"not a ranking of {HIGHEST} tiers at most, or not kept"))
            elif judgment.dimension in with_ties:
                for place, tier in enumerate(tiers):
                    for number in tier:
                        rating = {"value": HIGHEST - place, "user_id": _user(judgment.rater)}
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
    asked = {"prompt": turns_of(item.conversation)} if item.conversation else {}
    offered = {f"candidate_{number}": one.media or one.text for number, one in enumerate(item.candidates, start=1)}
    metadata = {"stratum": item.stratum} if item.stratum else {}
    fields = {**asked, **offered}
    return {"id": item.id, "fields": fields, "metadata": metadata, "suggestions": suggestions, "responses": responses, "vectors": {}}


def _user(rater: str) -> str:
    """The rater as a UUID, which Argilla asks for."""
    try:
        return str(uuid.UUID(rater))
    except ValueError:
        return str(uuid.uuid5(_UUIDS, rater))
