"""Judgments in and out: one outside shape a file, and what reads and writes them all. See docs/exchange.md."""

from palate.stores.exchange.content import (
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
from palate.stores.exchange.label_studio_page import page_of as label_studio_page
from palate.stores.exchange.lossless import vote_row
from palate.stores.exchange.read import READABLE, WRITABLE, join_items, read_exchange, write_exchange
from palate.stores.exchange.settings import Project, Task, TaskKind
from palate.stores.exchange.shape import Readable, Writable, Written
from palate.stores.exchange.table import guarded
from palate.stores.exchange.table import table as csv_table

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
