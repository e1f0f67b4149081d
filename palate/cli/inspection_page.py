"""The page of `palate inspect`: rows with marked and coloured tokens, then tables. Marks say everything that colours say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from palate.cli.inspection import Inspection, Overlap
from palate.runs.console import Console
from palate.text.inspect import InspectedRow, LengthQuantiles, Part, Piece, Repeats, Statistics, branch_parts, pieces

STYLES: dict[Part, str] = {"prompt": "cyan", "learned": "green", "masked": "yellow"}
MARKS: dict[Part, tuple[str, str]] = {"prompt": ("", ""), "learned": ("«", "»"), "masked": ("⟦", "⟧")}


def show(inspection: Inspection, tokenizer: PreTrainedTokenizerBase, console: Console) -> None:
    """Print rows, legend and statistics."""
    for example in inspection.examples:
        _show_row(example, tokenizer, console)
    if inspection.examples:
        console.print(_legend(), "", soft_wrap=True, sep="\n")
    numbers = inspection.statistics
    limit = "no limit of tokens" if inspection.max_tokens is None else f"at most {inspection.max_tokens} tokens"
    console.print(Text(f"{inspection.path}: {numbers.rows} {inspection.kind} ({limit})", style="bold"), soft_wrap=True)
    console.print(_lengths(numbers))
    for line in _statistics(numbers):
        console.print(Text(line), soft_wrap=True)
    for remark in numbers.remarks:
        console.print(Text(f"note: {remark}", style="yellow"), soft_wrap=True)
    for row in inspection.dropped:
        count = numbers.dropped[row.kind]
        console.print(Text(f"dropped: {count} x {row.kind}; first {Path(row.source).name}: {row.reason}", style="yellow"), soft_wrap=True)
    if inspection.further:
        names = ", ".join(inspection.further)
        console.print(Text(f"no text is made of the columns {names}. If one is part of it, use --columns", style="yellow"), soft_wrap=True)
    if inspection.proposal is not None:
        said = "the columns make no known shape, and are read as this line says. Write it in the stage's settings, if it is right:"
        console.print(Text(said, style="yellow"), Text(inspection.proposal.line, style="bold"), sep="\n", soft_wrap=True)
    if inspection.overlap is not None:
        for text in _shared(inspection.overlap):
            console.print(text, soft_wrap=True)


def _show_row(example: InspectedRow, tokenizer: PreTrainedTokenizerBase, console: Console) -> None:
    sizes = " + ".join(str(len(ids)) for ids in (example.trunk, *(branch.ids for branch in example.branches)))
    verdict = {None: "", True: ", desirable", False: ", undesirable"}[example.desirable]
    console.print(Text(f"{Path(example.source).name}  {sizes} tokens{verdict}", style="bold"), soft_wrap=True)
    console.print(_marked(pieces(tokenizer, example.trunk, ["prompt"] * len(example.trunk))), soft_wrap=True)
    for name, branch in zip(_names(example), example.branches, strict=True):
        line = Text().append(f"{name}: ", style="dim")  # of the name alone, not of what follows
        console.print(line.append_text(_marked(pieces(tokenizer, branch.ids, branch_parts(branch)))), soft_wrap=True)
    console.print()


def _names(example: InspectedRow) -> tuple[str, ...]:
    """Names of the branches: sides of a pair, or the parts of a demonstration that the template writes separately."""
    if example.probability is not None:
        return "chosen", "rejected"
    count = len(example.branches)
    return ("completion",) * count if count < 2 else tuple(f"completion, part {part} of {count}" for part in range(1, count + 1))


def _marked(tokens: Iterable[Piece]) -> Text:
    """The pieces as text: learned and masked pieces between their marks, special tokens in bold."""
    text = Text()
    part: Part = "prompt"
    for piece in tokens:
        if piece.part != part:
            text.append(MARKS[part][1], style=STYLES[part]).append(MARKS[piece.part][0], style=STYLES[piece.part])
            part = piece.part
        text.append(piece.text, style=f"bold reverse {STYLES[part]}" if piece.is_special else STYLES[part])
    return text.append(MARKS[part][1], style=STYLES[part])


def _legend() -> Text:
    text = Text("legend: ")
    text.append("prompt", style=STYLES["prompt"]).append("  ").append("«learned»", style=STYLES["learned"])
    text.append("  ").append("⟦masked: read, not learned⟧", style=STYLES["masked"]).append("  ")
    return text.append("special tokens", style="bold reverse").append(" appear as the tokenizer writes them")


def _lengths(numbers: Statistics) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("tokens", "least", "25 %", "median", "75 %", "95 %", "most", "mean"):
        table.add_column(title, justify="left" if title == "tokens" else "right")
    for name, lengths in (("prompt", numbers.prompt_tokens), ("completion", numbers.completion_tokens)):
        if lengths is not None:
            table.add_row(name, *_cells(lengths))
    return table


def _cells(lengths: LengthQuantiles) -> list[str]:
    counts = (lengths.least, lengths.quarter, lengths.median, lengths.three_quarters, lengths.p95, lengths.most)
    return [*map(str, counts), f"{lengths.mean:.1f}"]


def _statistics(numbers: Statistics) -> Iterable[str]:
    yield f"tokens: {numbers.tokens}, learned: {numbers.learned_tokens}"
    yield _repeated("rows that repeat an earlier row", numbers.repeated_rows)
    yield _repeated("rows whose prompt an earlier row has", numbers.repeated_prompts)
    if numbers.desirable_share is not None:
        yield f"desirable: {numbers.desirable_share:.1%}"
    if (pairs := numbers.pairs) is not None:
        yield f"longer wins: {_share(pairs.longer_wins_tokens)} by tokens, {_share(pairs.longer_wins_characters)} by characters"
        yield f"same length: {pairs.same_length_tokens} by tokens, {pairs.same_length_characters} by characters"
        yield f"ties (probability 0.5): {pairs.even}; sides that are the same tokens: {pairs.same_tokens}"
        yield f"rows with an empty side or equal sides: {numbers.unusable_sides_share:.1%} (dropped)"


def _repeated(what: str, repeats: Repeats) -> str:
    return f"{what}: {repeats.count}{_named(repeats)}"


def _named(repeats: Repeats) -> str:
    named = ", ".join(f"{Path(one).name} = {Path(other).name}" for one, other in repeats.examples)
    return f" ({named}{', ...' if repeats.count > len(repeats.examples) else ''})" if named else ""


def _share(share: float | None) -> str:
    return "no pair" if share is None else f"{share:.1%}"


def _shared(overlap: Overlap) -> Iterable[Text]:
    if not overlap.prompts.count:
        yield Text(f"no prompt is in {overlap.path} too", style="green")
        return
    yield Text(f"prompts that are in {overlap.path} too: {overlap.prompts.count}{_named(overlap.prompts)}", style="bold red")
    yield Text(f"whole rows that are in it too: {overlap.rows.count}{_named(overlap.rows)}", style="red")
    yield Text(
        "A model trained on one file would be tested on prompts it has seen. Remove these prompts from one of the two files.", style="red"
    )
