"""Read and write judgments in the shapes of other tools, one shape per file. See docs/exchange.md."""

from palate.data.exchange.contents import (
    Candidate,
    Exchange,
    ExchangeItem,
    Gold,
    GuidelineText,
    RaterInfo,
    RaterKind,
    Tiers,
    Vote,
)
from palate.data.exchange.convert import READABLE, WRITABLE, join_items, read_exchange, write_exchange
from palate.data.exchange.label_studio_page import page_of as label_studio_page
from palate.data.exchange.lossless import vote_row
from palate.data.exchange.project import Project, Task, TaskKind
from palate.data.exchange.rule_questions import rule_questions
from palate.data.exchange.shape import Readable, Writable, Written
from palate.data.exchange.spreadsheet import guarded
from palate.data.exchange.spreadsheet import table as csv_table

__all__ = [
    "READABLE",
    "WRITABLE",
    "Candidate",
    "Exchange",
    "ExchangeItem",
    "Gold",
    "GuidelineText",
    "Project",
    "RaterInfo",
    "RaterKind",
    "Readable",
    "Task",
    "TaskKind",
    "Tiers",
    "Vote",
    "Writable",
    "Written",
    "csv_table",
    "guarded",
    "join_items",
    "label_studio_page",
    "read_exchange",
    "rule_questions",
    "vote_row",
    "write_exchange",
]
