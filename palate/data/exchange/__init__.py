"""Judgments in and out: one outside shape a file, and what reads and writes them all. See docs/exchange.md."""

from palate.data.exchange.content import (
    Candidate,
    Exchange,
    Gold,
    Guideline,
    Item,
    RaterCard,
    RaterKind,
    Tiers,
    Vote,
)
from palate.data.exchange.label_studio_page import page_of as label_studio_page
from palate.data.exchange.lossless import vote_row
from palate.data.exchange.read import READABLE, WRITABLE, join_items, read_exchange, write_exchange
from palate.data.exchange.settings import Project, Task, TaskKind
from palate.data.exchange.shape import Readable, Writable, Written
from palate.data.exchange.table import guarded
from palate.data.exchange.table import table as csv_table

__all__ = [
    "READABLE",
    "WRITABLE",
    "Candidate",
    "Exchange",
    "Gold",
    "Guideline",
    "Item",
    "Project",
    "RaterCard",
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
    "vote_row",
    "write_exchange",
]
