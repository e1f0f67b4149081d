"""`palate front`: choose completions by weights of dimensions, from stored scores and without asking a model again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.config.dimension_numbers import read_numbers
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.evaluation.front import FrontPoint

POINTS = 11


def front_parser() -> Parser:
    """What `palate front` takes."""
    parser = Parser("front", COMMANDS["front"])
    parser.add_argument("data", metavar="FILE", type=Path, help="samples with scores by dimension, as `palate score` writes them")
    parser.add_argument("--dimensions", nargs=2, metavar="NAME", help="the two that are traded off (default: the first two of the file)")
    parser.add_argument("--points", type=int, metavar="N", help=f"weights from one end to the other (default: {POINTS})")
    parser.add_argument("--floors", nargs="+", default=[], metavar="WORD", help="lowest scores, as DIMENSION=NUMBER (default: none)")
    parser.add_argument("--weights", nargs="+", default=[], metavar="WORD", help="in place of a front: weights, as DIMENSION=NUMBER")
    rule = "what --weights maximises: the weighted sum, or the worst dimension named (default: weighted)"
    parser.add_argument("--rule", choices=("weighted", "max_min"), default="weighted", help=rule)
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --weights: write each prompt with the completion that is chosen")
    parser.add_argument("--gold", metavar="FUNCTION", help="import path of a function that knows the truth")
    parser.add_argument("--beside", nargs="+", default=[], metavar="FILE", help="samples of other policies, scored alike: means of all")
    parser.add_argument("--json", action="store_true", help="write the figures as JSON")
    return parser


def front(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate front`; returns the exit status."""
    options = front_parser().parse([underscored(word) for word in words])
    floors, weights = read_numbers(options.floors, "floors"), read_numbers(options.weights)
    if options.out is not None and not weights:
        raise ConfigError("--out writes what one choice chooses. Give its --weights.")
    if options.rule != "weighted" and not weights:
        raise ConfigError("--rule says what --weights maximises; a front shows both rules. Give --weights, or leave out --rule.")
    if weights and (options.dimensions or options.points is not None):
        raise ConfigError("--dimensions and --points belong to a front, which --weights stands in place of. Leave out one or the other.")
    from palate.data.jsonl import write_rows
    from palate.evaluation import front as fronts
    from palate.evaluation.scored_samples import read_scored

    samples = read_scored(options.data)
    table, gold = samples.table, () if options.gold is None else samples.gold(options.gold)
    if weights:
        choice = fronts.Choice(weights, floors, options.rule)
        chosen = fronts.choose(table, choice)
        points = [fronts.point(table, "chosen", choice, chosen, gold)]
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            rows = zip(samples.rows, chosen.numbers, strict=True)
            write_rows(options.out, [{**row, "completions": [row["completions"][k]]} for row, k in rows])  # type: ignore[index]
    else:
        points = fronts.front(table, _two(options, table.dimensions), POINTS if options.points is None else options.points, floors, gold)
    points.append(fronts.everything(table, "all", gold))
    for path in options.beside:
        other = read_scored(Path(path))
        if set(other.table.dimensions) != set(table.dimensions):
            raise ConfigError(f"--beside: {path} has scores of {', '.join(other.table.dimensions)}, not {', '.join(table.dimensions)}.")
        points.append(fronts.everything(other.table, path, () if options.gold is None else other.gold(options.gold)))
    if options.json:
        say(json.dumps({"prompts": len(samples.rows), "unscored": samples.unscored, "points": [asdict(one) for one in points]}, indent=1))
    else:
        _show(points, len(samples.rows), samples.unscored, floors)
    return 0


def _two(options: argparse.Namespace, dimensions: Sequence[str]) -> tuple[str, str]:
    """Return the two dimensions of the front. Raises ConfigError where the file has one and none is named."""
    named = options.dimensions or dimensions[:2]
    if len(named) < 2:
        raise ConfigError(f"a front needs two dimensions, and {options.data} has scores of {named[0]} alone.")
    return named[0], named[1]


def _show(points: Sequence[FrontPoint], prompts: int, unscored: int, floors: Mapping[str, float]) -> None:
    """Print a table: a row per choice."""
    from rich.table import Table
    from rich.text import Text

    from palate.runs.console import Console

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("weight", no_wrap=True)
    for name in (*points[0].means, *points[0].gold, "moved"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for one in points:
        cells = [*one.means.values(), *(one.gold[name] for name in points[0].gold)]
        table.add_row(Text(one.name), *(f"{cell.value:.3f}" for cell in cells), f"{one.moved:.0%}")
    notes = [f"means over {prompts} prompts; weight: that of {next(iter(points[0].weights))}; all: every completion"]
    notes += [f"{unscored} completions have no score and cannot be chosen"] if unscored else []
    below = max(one.below for one in points)
    notes += [f"no completion of {below} prompts reaches {', '.join(f'{k}={v:g}' for k, v in floors.items())}"] if below else []
    Console(highlight=False).print(table, *notes, sep="\n", soft_wrap=True)
