"""Outside dataset shapes, one a file, and the readers that tell them apart. See docs/data.md."""

from palate.data.formats.content import MEAN
from palate.data.formats.read import (
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_texts,
    read_thumbs,
    shape_at,
    stream_demonstrations,
    stream_texts,
)
from palate.data.formats.stream import SHAPES
from palate.data.formats.table import DropCount, Dropped, Table, count_dropped, dropped_summary
from palate.data.formats.thumbs import ThumbShape
from palate.data.formats.write import demonstration_row, preference_row, prompt_row, thumb_row, tools_of, turns_of

__all__ = [
    "MEAN",
    "SHAPES",
    "DropCount",
    "Dropped",
    "Table",
    "ThumbShape",
    "count_dropped",
    "demonstration_row",
    "dropped_summary",
    "preference_row",
    "prompt_row",
    "read_demonstrations",
    "read_preferences",
    "read_prompts",
    "read_texts",
    "read_thumbs",
    "shape_at",
    "stream_demonstrations",
    "stream_texts",
    "thumb_row",
    "tools_of",
    "turns_of",
]
