"""Feedback as data to learn from: demonstrations, comparisons and single verdicts, in the files that stages read. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from palate.core import Completion, DataError, Demonstration, Message, Preference, Prompt, UnpairedPreference
from palate.core.nouns import UNKNOWN_RATER
from palate.data.cells import InvalidRow, mapping, sequence, text
from palate.data.conversations import conversation, is_plain
from palate.data.formats import demonstration_row, preference_row, unpaired_row
from palate.data.jsonl import Row, read_rows, write_rows
from palate.data.pseudonyms import masked

FILES = {"demonstrations": "demonstrations.jsonl", "comparisons": "preferences.jsonl", "single verdicts": "unpaired.jsonl"}
"""What feedback becomes, and the file of each."""

SOURCE = "feedback.jsonl"

UNREADABLE = (InvalidRow, KeyError, TypeError, IndexError)
"""What is raised by a row that is not feedback."""


@dataclass(frozen=True)
class FeedbackData:
    """What was said about answers.

    Attributes:
        demonstrations: answers that users wrote.
        preferences: pairs of answers with the better one.
        unpaired: single answers that are wanted, or not.
        others: number of comments, numeric ratings and comparisons of equal texts, which no stage learns from.
        replaced: number of rows that a later word of the same rater replaced.
    """

    demonstrations: tuple[Demonstration, ...]
    preferences: tuple[Preference, ...]
    unpaired: tuple[UnpairedPreference, ...]
    others: int
    replaced: int = 0

    @staticmethod
    def read(path: Path) -> FeedbackData:
        """Read a file of feedback. Where one rater says something twice about the same answers, the last word counts.

        Raises:
            DataError: the file cannot be read, or a row is not feedback; the message names it.
        """
        last: dict[object, tuple[int, Row]] = {}
        said = 0
        for number, row in read_rows(path):
            said += 1
            last.pop(about_of(row), None)
            last[about_of(row)] = number, row
        demonstrations, preferences, unpaired, others = list[Demonstration](), list[Preference](), list[UnpairedPreference](), 0
        for number, row in last.values():
            try:
                found = _datum(row)
            except UNREADABLE as error:
                raise not_feedback(path, number, error) from error
            match found:
                case Demonstration():
                    demonstrations.append(found)
                case Preference():
                    preferences.append(found)
                case UnpairedPreference():
                    unpaired.append(found)
                case None:
                    others += 1
        return FeedbackData(tuple(demonstrations), tuple(preferences), tuple(unpaired), others, said - len(last))

    def rows(self) -> dict[str, list[Row]]:
        """Return the rows of each kind."""
        return dict(
            zip(
                FILES,
                (
                    [demonstration_row(one) for one in self.demonstrations],
                    [preference_row(one) for one in self.preferences],
                    [unpaired_row(one) for one in self.unpaired],
                ),
                strict=True,
            )
        )


def feedback_file(store: Path) -> Path:
    """Return the file of feedback in the server's folder. Raises DataError where there is none."""
    path = store / SOURCE
    if not path.is_file():
        raise DataError(f"{path} does not exist. Name the folder of `palate serve --store`, after users gave feedback.")
    return path


def write_feedback_files(store: Path, folder: Path) -> Iterator[str]:
    """Write what the server's folder holds as files that stages read; yield a line about each.

    Raises:
        DataError: there is no feedback, or it cannot be read.
    """
    path = feedback_file(store)
    data = FeedbackData.read(path)
    for kind, rows in data.rows().items():
        place = folder / FILES[kind]
        write_rows(place, rows)
        yield f"{place}: {len(rows)} {kind}"
    if data.others:
        yield f"{data.others} comments, numbers or comparisons of equal texts stay in {path}: no stage learns from them"
    if data.replaced:
        yield f"{data.replaced} earlier words were replaced: their rater said something else about the same answers later"


def _datum(row: Row) -> Demonstration | Preference | UnpairedPreference | None:
    """Return what a row of feedback says."""
    name, metric, value = text(row["feedback_id"], "feedback_id"), text(row["metric_name"], "metric_name"), row["value"]
    prompt, answers = prompt_of(row, name), answers_of(row)
    turns = prompt.conversation
    if metric == "demonstration":
        answer = Message("text" if is_plain(turns) else "assistant", text(value, "value"))
        return Demonstration((*turns, answer), (len(turns),))
    if metric == "comparison":
        sides = mapping(value, "value")
        chosen, rejected = (answers[cast("int", sides[side])] for side in ("chosen", "rejected"))
        if chosen.text.strip() == rejected.text.strip():
            return None  # nothing tells the two apart
        return Preference(prompt, chosen, rejected, votes=((rater_of(row), 1.0),))
    if isinstance(value, bool):
        return UnpairedPreference(prompt, answers[cast("int", row.get("choice", 0))], value, id=name)
    return None


def about_of(row: Row) -> tuple[object, ...]:
    """Return who said something about what: of rows with the same, the last one counts. A comparison is about its two answers."""
    metric, value = row.get("metric_name"), row.get("value")
    rater = row.get("rater") or row.get("feedback_id")  # of a rater without a name nobody knows what else they said
    if metric == "comment":
        rater = row.get("feedback_id")  # a second comment adds to the first
    answers = frozenset(map(str, value.values())) if metric == "comparison" and isinstance(value, dict) else row.get("choice")
    return row.get("inference_id"), metric, answers, rater


def rater_of(row: Row) -> str:
    """Return the pseudonym of the rater of a row."""
    return masked(text(row.get("rater") or UNKNOWN_RATER, "rater"))


def prompt_of(row: Row, name: str) -> Prompt:
    """Return the prompt of the answers in a row, with its columns."""
    given = row["prompt"]
    turns = (Message("text", given),) if isinstance(given, str) else conversation(given, "prompt")
    return Prompt(name, turns, mapping(row.get("fields", {}), "fields"))


def answers_of(row: Row) -> list[Completion]:
    """Return the answers in a row as `samples.jsonl` holds them, without their tokens."""
    entries = [mapping(value, "completions") for value in sequence(row["completions"], "completions")]
    return [Completion(text(entry["text"], "text"), policy=text(entry.get("policy", ""), "policy")) for entry in entries]


def not_feedback(path: Path, number: int, error: Exception) -> DataError:
    """Return what is said about a row that cannot be read."""
    return DataError(f"{path}:{number}: this is not feedback ({error}). Take the line out, or restore the file.")
