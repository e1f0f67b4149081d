"""Read the distinct prompts of a file, and keep those that leave room for a completion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palate.core import Completion, DataError, Prompt
from palate.data.data_sources import DataInput, content_beside_source, data_name, read_data
from palate.data.formats import RECOGNISED, ColumnTypes, Dropped, Table, format_of_file, read_prompts, read_samples
from palate.runs.run import Run
from palate.samplers.sampler import PromptReader
from palate.text.remarks import date_remarks
from palate.text.spans import prompt_ids
from palate.text.template import Unusable


def prompts_at(run: Run, data: DataInput, limit: int | None, columns: ColumnTypes = RECOGNISED) -> list[Prompt]:
    """Return the distinct prompts in the order of the files, and record the dropped rows in the run.

    Prompts with one text are different where the user's columns differ, such as the answer that a scoring function expects. Rows of pairs
    and judgments are about completions, and so are their columns: there each text is one prompt, with the columns of its first row. A
    prompt that several sources have is of the first of them.
    """
    about_completions: dict[str, bool] = {}

    def read(path: Path, *, limit: int | None, columns: ColumnTypes) -> Table[Prompt]:
        table = read_prompts(path, limit=limit, columns=columns)
        is_about_completions = format_of_file(path, columns).kind in {"preferences", "unpaired"}
        about_completions.update((prompt.source, is_about_completions) for prompt in table.rows)
        return table

    table, path = read_data(data, "prompts.jsonl", read, limit, columns), data_name(data)
    distinct: dict[object, Prompt] = {}
    repeated = []
    for prompt in table.rows:
        content = content_beside_source(prompt)
        first = distinct.setdefault(prompt.conversation if about_completions[prompt.source] else content, prompt)
        if first is not prompt:
            is_same = content_beside_source(first) == content
            repeated.append("the prompt of an earlier row" if is_same else "the prompt of an earlier row, with other columns")
    run.dropped(path, [row.kind for row in table.dropped] + repeated)
    run.columns_left_out(path, table.further)
    return list(distinct.values())


def samples_at(
    run: Run, data: DataInput, limit: int | None = None, columns: ColumnTypes = RECOGNISED
) -> list[tuple[Prompt, tuple[Completion, ...]]]:
    """Return the prompts of samples with their completions, in the order of the files, and record the dropped rows in the run.

    The completions of a prompt that several sources have belong together, under the prompt of the first of them.
    """
    table = read_data(data, "samples.jsonl", read_samples, limit, columns)
    run.dropped(data_name(data), [row.kind for row in table.dropped])
    groups: dict[object, tuple[Prompt, tuple[Completion, ...]]] = {}
    for prompt, completions in table.rows:
        first, before = groups.get(content_beside_source(prompt), (prompt, ()))
        groups[content_beside_source(prompt)] = first, before + completions
    return list(groups.values())


def fitting(run: Run, prompts: Sequence[Prompt], reader: PromptReader, max_tokens: int) -> list[Prompt]:
    """Return the prompts that leave room for a completion of `max_tokens` (or of half the model's limit), and record the others in the run.

    Prompts that the chat template refuses are recorded too.

    Raises:
        DataError: no prompt is left.
    """
    readable, refused = [], []
    for prompt in prompts:
        try:
            readable.append((prompt, len(prompt_ids(reader.tokenizer, prompt))))
        except Unusable as unusable:
            refused.append(Dropped(prompt.source or prompt.id, unusable.reason))
    if refused:
        run.dropped("prompts that the template refuses", [row.kind for row in refused])
    if prompts and not readable:
        raise DataError(f"none of the {len(prompts)} prompts can be used; the first, {refused[0].source}, says: {refused[0].reason}")
    run.note("prompts", date_remarks(reader.tokenizer))
    if reader.max_tokens is None:
        return [prompt for prompt, _ in readable]
    room = reader.max_tokens - min(max_tokens, reader.max_tokens // 2)
    fitting_prompts = [prompt for prompt, length in readable if length <= room]
    run.dropped(
        "prompts too long",
        [f"prompt longer than {room} tokens, which is what the model takes"] * (len(readable) - len(fitting_prompts)),
    )
    if not fitting_prompts:
        raise DataError(
            f"all {len(readable)} prompts are longer than {room} tokens, from {readable[0][0].source or readable[0][0].id} on: the model "
            f"takes {reader.max_tokens}, and completions need the rest. Lower sampling.max_tokens or use shorter prompts"
        )
    return fitting_prompts
