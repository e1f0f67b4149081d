"""Make the tasks and the labelling configuration for Label Studio: what it imports and what its annotators see."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from palate.core import DataError
from palate.data.exchange.contents import Candidate, Exchange, ExchangeItem, RaterKind, Vote, is_clip
from palate.data.exchange.shape import unheld
from palate.data.formats.dropped import Dropped

Object = dict[str, Any]


def dimensions_of(exchange: Exchange) -> tuple[str, ...]:
    """The dimensions of the votes, in the order of their first vote; `overall` if there are no votes."""
    return tuple(dict.fromkeys(vote.judgment.dimension for vote in exchange.votes)) or ("overall",)


def is_ranked(exchange: Exchange) -> bool:
    """Whether the page ranks lists, because an item does not have exactly two candidates."""
    return any(len(item.candidates) != 2 for item in exchange.items)


def tasks_of(exchange: Exchange) -> tuple[list[Object], list[Dropped]]:
    """Every item as a task, and the votes that Label Studio cannot hold. Votes become annotations, those of models predictions.

    Raises:
        DataError: an item has fewer than two candidates.
    """
    ranked, kinds, left_out = is_ranked(exchange), exchange.kinds(), []
    votes, tasks = exchange.votes_of(), []
    for item in exchange.items:
        if len(item.candidates) < 2:
            raise DataError(
                f"item {item.id!r}: has {len(item.candidates)} candidates; Label Studio compares two or more. Leave the item out."
            )
        task: Object = {"data": _data(item, ranked=ranked), "annotations": [], "predictions": []}
        votes_held = []
        for vote in votes[item.id]:
            if vote.status == "kept" and vote.entry == "answer" and (vote.judgment.ranking or vote.is_all_bad or vote.is_skipped):
                votes_held.append(vote)
            else:
                left_out.append(unheld(item.id, "not a ranking, or not kept"))
        for group in _annotation_groups(votes_held):
            kind = kinds[group[0].judgment.rater]
            annotation = _annotation(group, kind, ranked=ranked)
            task["annotations" if kind != "model" else "predictions"].append(annotation)
        tasks.append(task)
    return tasks, left_out


def _data(item: ExchangeItem, *, ranked: bool) -> Object:
    data: Object = {"palate_id": item.id}
    if item.conversation:
        data["conversation"] = [{"role": turn.role if turn.role != "text" else "user", "content": turn.text} for turn in item.conversation]
    if ranked:
        entries = ({"id": str(number), **_entry(candidate)} for number, candidate in enumerate(item.candidates))
        return {**data, "items": list(entries)}
    first, second = item.candidates
    return {**data, "left": first.media or first.text, "right": second.media or second.text}


def _entry(candidate: Candidate) -> Object:
    if not candidate.media:
        return {"body": candidate.text}
    source = html.escape(candidate.media)
    return {"body": candidate.media, "html": f'<video controls src="{source}">' if is_clip(candidate.media) else f'<img src="{source}">'}


def _annotation_groups(votes: Sequence[Vote]) -> list[list[Vote]]:
    """Group the votes of one rater on several dimensions into one annotation. A second vote on a dimension begins another one."""
    groups: dict[tuple[str, bool, int], list[Vote]] = defaultdict(list)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for vote in votes:
        key = vote.judgment.rater, vote.judgment.dimension
        groups[vote.judgment.rater, vote.is_skipped, counts[key]].append(vote)
        counts[key] += 1
    return list(groups.values())


def _annotation(votes: Sequence[Vote], kind: RaterKind, *, ranked: bool) -> Object:
    results = [result for vote in votes for result in _results(vote, kind, ranked=ranked)]
    reasons = list(dict.fromkeys(vote.judgment.reason for vote in votes if vote.judgment.reason))
    if reasons:
        results.append(_result("reason", "textarea", {"text": reasons}, _target(ranked=ranked)))
    if kind == "model":
        return {"model_version": votes[0].judgment.rater, "result": results}
    seconds = [vote.judgment.seconds for vote in votes if vote.judgment.seconds is not None]
    timed = {"lead_time": max(seconds)} if seconds else {}
    return {"result": results, "was_cancelled": votes[0].is_skipped, **timed}


def _results(vote: Vote, kind: RaterKind, *, ranked: bool) -> list[Object]:
    control, tiers, target = f"dimension_{vote.judgment.dimension}", vote.tiers, _target(ranked=ranked)
    meta = {"palate": _meta(vote, kind)}
    results = []
    if tiers and ranked:
        buckets = {str(place): list(map(str, tier)) for place, tier in enumerate(tiers, start=1)}
        results.append(_result(control, "ranker", {"ranker": buckets}, target, meta))
    elif len(tiers) == 2:
        results.append(_result(control, "pairwise", {"selected": "left" if tiers[0] == (0,) else "right"}, target, meta))
    choices = [*(["tie"] if len(tiers) == 1 and not ranked else []), *(["all bad"] if vote.is_all_bad else [])]
    if choices or not results:
        results.append(_result(f"{control}_verdict", "choices", {"choices": choices}, target, meta))
    if vote.judgment.strength is not None:
        results.append(_result(f"{control}_strength", "rating", {"rating": vote.judgment.strength}, target, meta))
    return results


def _meta(vote: Vote, kind: RaterKind) -> Object:
    """What Label Studio does not have fields for. It keeps `meta`."""
    judgment = vote.judgment
    fields: Object = {"rater": judgment.rater, "kind": kind, "order": judgment.order, "dimension": judgment.dimension, "id": vote.id}
    fields |= {"guideline": judgment.guideline, "seconds": judgment.seconds, "time": vote.time}
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _target(*, ranked: bool) -> str:
    return "items" if ranked else "left,right"


def _result(control: str, kind: str, value: Object, target: str, meta: Object | None = None) -> Object:
    to_name = target if kind in ("pairwise", "ranker") else target.partition(",")[0]
    return {"from_name": control, "to_name": to_name, "type": kind, "value": value, **({"meta": meta} if meta else {})}


def page_of(exchange: Exchange) -> str:
    """The labelling configuration (XML) that shows these tasks. Paste it into the project (Labeling Interface, Code)."""
    ranked = is_ranked(exchange)
    lines = ["<View>"]
    if any(item.conversation for item in exchange.items):
        lines.append('  <Paragraphs name="conversation" value="$conversation" layout="dialogue" nameKey="role" textKey="content"/>')
    if ranked:
        lines.append('  <List name="items" value="$items" title="Candidates"/>')
    else:
        tags = [_tag(side, [item.candidates[number] for item in exchange.items]) for number, side in enumerate(("left", "right"))]
        lines += ['  <View style="display: flex; gap: 1em">', *(f'    <View style="flex: 1">{tag}</View>' for tag in tags), "  </View>"]
    for dimension in dimensions_of(exchange):
        lines += _controls(exchange, dimension, ranked=ranked)
    target = "items" if ranked else "left"
    lines += [f'  <Header value="Why?"/>\n  <TextArea name="reason" toName="{target}" rows="2" maxSubmissions="1"/>', "</View>"]
    return "\n".join(lines) + "\n"


def _controls(exchange: Exchange, dimension: str, *, ranked: bool) -> list[str]:
    name = f"dimension_{dimension}"
    target = "items" if ranked else "left"
    lines = [f"  <Header value={quoteattr(f'Which is better: {dimension}?')}/>"]
    if ranked:
        count = max(len(item.candidates) for item in exchange.items)
        buckets = "".join(f'<Bucket name="{place}" title="{place}"/>' for place in range(1, count + 1))
        lines.append(f'  <Ranker name={quoteattr(name)} toName="items">{buckets}</Ranker>')
        choices: tuple[str, ...] = ("all bad",)
    else:
        lines.append(f'  <Pairwise name={quoteattr(name)} toName="left,right"/>')
        choices = ("tie", "all bad")
    marks = "".join(f'<Choice value="{word}"/>' for word in choices)
    lines.append(f'  <Choices name={quoteattr(name + "_verdict")} toName="{target}" choice="multiple" showInline="true">{marks}</Choices>')
    if any(vote.judgment.strength is not None for vote in exchange.votes if vote.judgment.dimension == dimension):
        lines.append(f'  <Rating name={quoteattr(name + "_strength")} toName="{target}"/>')
    return lines


def _tag(side: str, candidates: Sequence[Candidate]) -> str:
    media = [candidate.media for candidate in candidates if candidate.media]
    if not media:
        return f'<Text name="{side}" value="${side}"/>'
    return f'<{"Video" if is_clip(media[0]) else "Image"} name="{side}" value="${side}"/>'
