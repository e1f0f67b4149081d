"""Outside dataset shapes, one per file, and the readers that recognise them. See docs/data.md."""

from palate.data.formats.column_types import (
    RECOGNISED,
    Alpaca,
    ColumnTypes,
    LLaMAFactoryPreference,
    QuestionAnswer,
    Recognised,
    ShareGPT,
    type_named,
)
from palate.data.formats.completion_groups import BenchmarkKind, BenchmarkRow, CompletionGroup, read_benchmark, read_completion_groups
from palate.data.formats.dropped import DropCount, Dropped, Further, Table, count_dropped, dropped_summary
from palate.data.formats.labelled_completions import LabelledCompletionFormat
from palate.data.formats.proposals import Proposal, propose
from palate.data.formats.readers import (
    format_of_file,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_samples,
    read_texts,
    read_unpaired,
    stream_demonstrations,
    stream_texts,
)
from palate.data.formats.row_types import MEAN, RowKind
from palate.data.formats.stream import SHAPES, UnknownShapeError
from palate.data.formats.write import (
    answer,
    completion_row,
    demonstration_row,
    messages,
    preference_row,
    prompt_row,
    sample_row,
    tools_of,
    turns_of,
    unpaired_row,
)

__all__ = [
    "MEAN",
    "RECOGNISED",
    "SHAPES",
    "Alpaca",
    "BenchmarkKind",
    "BenchmarkRow",
    "ColumnTypes",
    "CompletionGroup",
    "DropCount",
    "Dropped",
    "Further",
    "LLaMAFactoryPreference",
    "LabelledCompletionFormat",
    "Proposal",
    "QuestionAnswer",
    "Recognised",
    "RowKind",
    "ShareGPT",
    "Table",
    "UnknownShapeError",
    "answer",
    "completion_row",
    "count_dropped",
    "demonstration_row",
    "dropped_summary",
    "format_of_file",
    "messages",
    "preference_row",
    "prompt_row",
    "propose",
    "read_benchmark",
    "read_completion_groups",
    "read_demonstrations",
    "read_preferences",
    "read_prompts",
    "read_samples",
    "read_texts",
    "read_unpaired",
    "sample_row",
    "stream_demonstrations",
    "stream_texts",
    "tools_of",
    "turns_of",
    "type_named",
    "unpaired_row",
]
