"""What data sets call their columns: names of columns that may hold a prompt, and of columns that are no part of a row's text."""

from __future__ import annotations

from palate.data.cells import Columns, InvalidRow, quoted
from palate.data.formats.standard_rows import SYSTEM_COLUMNS

SIDES = ("chosen", "rejected")

QUESTION_NAMES = frozenset(
    {"question", "query", "instruction", "instructions", "input", "inputs", "user", "human", "ask", "request", "problem", "context"}
    | {"user_prompt", "user_input", "user_message", "user_query", "post", "title", "message", "text", "document", "article", "source_text"}
)
"""Names of columns that may hold what an answer answers."""

METADATA = frozenset(
    {"id", "source", "dataset", "subset", "split", "lang", "language", "category", "domain", "topic", "task", "type", "model", "license"}
    | {"chosen_model", "rejected_model", "chosen-model", "rejected-model", "rater", "annotator", "dimension", "url", "date", "created"}
)
"""Names of columns that say something about a row and are no part of it."""

SAID_BY_USER = frozenset({"question", "query", "instruction", "instructions", "user", "human", "ask", "request", "problem", "message"}) | {
    "user_prompt", "user_input", "user_message", "user_query",
}  # fmt: skip
"""Names of columns with what a user says, whose answer is an assistant's turn and not the rest of a text."""

USUAL_NAMES = {
    role: tuple(names.split())
    for role, names in {
        "chosen": (
            "chosen preferred better accepted winner win good positive best chosen_response response_chosen "
            "answer_chosen chosen_answer preferred_response better_response good_response preferred_answer better_answer good_answer"
        ),
        "rejected": (
            "rejected dispreferred worse loser lose bad negative worst rejected_response response_rejected "
            "answer_rejected rejected_answer worse_response bad_response dispreferred_answer worse_answer bad_answer"
        ),
        "prompt": (
            "prompt question query instruction instructions user_prompt user_input user_message user_query user human "
            "ask request problem task input message post context title article"
        ),
        "completion": (
            "completion answer response output reply target solution assistant generation model_answer model_response "
            "assistant_response model_output summary completions"
        ),
        "context": "input context article passage",
        "label": "label kto_tag desirable is_good liked",
        "system": "system system_prompt system_message",
        "text": "text content body document story",
    }.items()
}
"""What data sets call the columns of each role, the likeliest first; offered to people, never taken."""


def check_no_question(row: Columns) -> None:
    """Check that no further column of a pair of texts may hold the prompt. Words that both sides begin with are no prompt beside it."""
    if not all(isinstance(row[side], str) for side in SIDES) or str(row["chosen"]).lstrip().startswith("Human:"):
        return
    known = {*SIDES, *SYSTEM_COLUMNS, *METADATA}
    for name, value in row.items():
        if isinstance(value, str) and name not in known and (name in QUESTION_NAMES or len(value.split()) > 1):
            raise InvalidRow(
                f"the prompt may be in another column: `{name}` holds {quoted(value)}. If it is the prompt, set columns.prompt to {name}. "
                'If both sides begin with the prompt, set columns.prompt to ""'
            )
