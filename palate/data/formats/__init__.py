"""Outside dataset shapes, one a file, and the readers that tell them apart. See docs/data.md."""

from palate.data.formats.dropped import DropCount, Dropped, Table, count_dropped, dropped_summary
from palate.data.formats.labelled_completions import LabelledCompletionFormat
from palate.data.formats.readers import (
    format_of_file,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_texts,
    read_unpaired,
    stream_demonstrations,
    stream_texts,
)
from palate.data.formats.row_types import MEAN
from palate.data.formats.stream import SHAPES
from palate.data.formats.write import demonstration_row, preference_row, prompt_row, thumb_row, tools_of, turns_of

__all__ = [
    "MEAN",
    "SHAPES",
    "DropCount",
    "Dropped",
    "LabelledCompletionFormat",
    "Table",
    "count_dropped",
    "demonstration_row",
    "dropped_summary",
    "format_of_file",
    "preference_row",
    "prompt_row",
    "read_demonstrations",
    "read_preferences",
    "read_prompts",
    "read_texts",
    "read_unpaired",
    "stream_demonstrations",
    "stream_texts",
    "thumb_row",
    "tools_of",
    "turns_of",
]
