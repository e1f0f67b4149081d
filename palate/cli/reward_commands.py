"""Commands about reward models: `score`, `reward-check`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, STDIO, Parser, say, underscored
from palate.config.artifacts import models_at, require_models
from palate.config.dimension_numbers import read_numbers
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.evaluation.reward_check.check_report import RewardCheck
    from palate.rewards.combination import RewardModels
    from palate.rewards.rule_scores import RuleScores


def score_parser() -> Parser:
    """What `palate score` takes."""
    parser = Parser("score", COMMANDS["score"])
    parser.add_argument("model", metavar="MODEL", help="a reward model, or the run that trained it")
    parser.add_argument("data", metavar="FILE", help="conversations, completions, samples or pairs (docs/data.md); - reads JSON lines")
    parser.add_argument("--out", default=STDIO, metavar="FILE", help="where to write; a file is continued after a stop (default: -)")
    parser.add_argument("--dimensions", nargs="+", default=[], metavar="NAME", help="dimensions that count (default: all)")
    parser.add_argument("--weights", nargs="+", default=[], metavar="WORD", help="weights, as DIMENSION=NUMBER (default: 1 each)")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="MODEL is a classifier of rules, and these are the rules")
    parser.add_argument("--combine", choices=("sum", "mean", "min", "max"), default="sum", help="how dimensions become one (default: sum)")
    _add_common(parser)
    return parser


def _add_common(parser: Parser) -> None:
    """The options that both commands share."""
    parser.add_argument("--also", nargs="+", default=[], metavar="PATH", help="further models: together they are an ensemble")
    parser.add_argument(
        "--ensemble", metavar="RULE", help="how their scores become one: mean, wco, uwo=0.5, mean_minus_sd=1, soft_min=1 (default: mean)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="most rows to read (default: all)")
    parser.add_argument("--max_length", type=int, metavar="N", help="most tokens; longer rows have no score (default: the model's)")
    parser.add_argument("--columns", nargs="+", default=[], metavar="WORD", help="what the columns hold, such as prompt=question")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="computes in (default: float32)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")


def score(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate score`; returns the exit status."""
    options = score_parser().parse([underscored(word) for word in words])
    _check_counts(options)
    require_models(options.model, *options.also)
    from palate.cli.inspection import columns_of
    from palate.core.process import computing_on
    from palate.data.formats import read_completion_groups
    from palate.evaluation.score_file import ScoreTally, scored_rows, write_scores
    from palate.rewards.combination import Combination

    weights = read_numbers(options.weights)
    with _opened(options.data) as path, computing_on(options.device):
        table = read_completion_groups(path, limit=options.limit, columns=columns_of(options.columns))
        models = _models(options) if options.rules is None else _rules(options)
        combination = Combination.of(models.heads, options.dimensions, weights, options.combine)
        for left_out in table.dropped[:3]:
            _tell(f"left out: {left_out.source}: {left_out.reason}")
        if len(table.dropped) > 3:
            _tell(f"left out: {len(table.dropped)} rows in all")
        if options.out == STDIO:
            import json

            tally = ScoreTally()
            for row in scored_rows(models, combination, table.rows, tally):
                say(json.dumps(row, ensure_ascii=False, allow_nan=False))
        else:
            tally = write_scores(models, combination, table.rows, Path(options.out), _identity(options, path))
    _tell(f"scored {tally}")
    return 0


def reward_check_parser() -> Parser:
    """What `palate reward-check` takes."""
    parser = Parser("reward-check", COMMANDS["reward-check"])
    parser.add_argument("model", metavar="MODEL", help="a reward model, or the run that trained it")
    parser.add_argument("data", metavar="PAIRS", help="judged pairs that it was not trained on (docs/data.md)")
    parser.add_argument("--dimensions", nargs="+", default=[], metavar="NAME", help="only pairs on these (default: all)")
    parser.add_argument("--combined", action="store_true", help="judge every pair by the sum of the dimensions")
    parser.add_argument(
        "--rating", default="mean", metavar="NAME", help="the rating that makes pairs, where rows hold ratings (default: mean)"
    )
    parser.add_argument("--by", metavar="COLUMN", help="a column to report by (default: subset, source or dataset)")
    parser.add_argument("--reassure", nargs="+", default=[], metavar="TEXT", help="phrases that must not win: two more adversarial sets")
    parser.add_argument("--attack_limit", type=float, default=0.5, metavar="SHARE", help="wins needed in adversarial sets (default: 0.5)")
    parser.add_argument("--reference", metavar="FILE", help="completions that the model knows (default: what its run was trained on)")
    parser.add_argument("--new", metavar="FILE", help="completions, such as a tuned policy's: does the ensemble disagree more on them?")
    parser.add_argument("--before", metavar="MODEL", help="another reward model, to compare the effect of length with")
    parser.add_argument(
        "--benchmark", choices=("rewardbench", "rewardbench-2"), help="PAIRS has this form: add the benchmark's own figures"
    )
    parser.add_argument("--best_of", type=int, metavar="K", help="completions per row of rewardbench-2 (default: all)")
    parser.add_argument("--require", action="store_true", help="exit with 5 unless the model passes")
    parser.add_argument("--card", action="store_true", help="write report_card.json beside MODEL, which `online` reads")
    parser.add_argument("--json", action="store_true", help="write everything as JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to a file")
    _add_common(parser)
    return parser


def reward_check(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate reward-check`; returns the exit status."""
    options = reward_check_parser().parse([underscored(word) for word in words])
    _check_counts(options)
    require_models(options.model, *options.also, *([] if options.before is None else [options.before]))
    if not 0 <= options.attack_limit <= 1:
        raise ConfigError(f"--attack_limit is a share from 0 to 1, got {options.attack_limit}.")
    if options.best_of is not None and options.benchmark != "rewardbench-2":
        raise ConfigError("--best_of says how many completions a row of rewardbench-2 has. Add --benchmark rewardbench-2.")
    if options.best_of is not None and options.best_of < 2:
        raise ConfigError(f"--best_of is {options.best_of}; give 2 or more: the right completion and a wrong one.")
    if options.benchmark is not None and (options.columns or options.rating != "mean"):
        raise ConfigError("--benchmark reads its own columns. Leave out --columns and --rating, or leave out --benchmark.")
    if options.card and (options.also or len(models_at(options.model)) > 1):
        raise ConfigError("--card writes what is known of one model, and these are an ensemble. Check each model alone.")
    from palate.cli.inspection import columns_of
    from palate.core import TrainingError
    from palate.core.process import computing_on
    from palate.evaluation.reward_check.check_file import CheckedFile, check_file, write_card
    from palate.evaluation.reward_check.check_report import CheckSettings
    from palate.rewards.combination import RewardModels

    settings = CheckSettings(
        tuple(options.dimensions), options.combined, options.by, tuple(options.reassure), options.attack_limit, options.dtype
    )
    file = CheckedFile(
        path=options.data,
        benchmark=options.benchmark,
        best_of=options.best_of,
        rating=options.rating,
        limit=options.limit,
        columns=columns_of(options.columns),
        reference=options.reference,
        new=options.new,
    )
    with computing_on(options.device):
        models = _models(options)
        if options.new is not None and len(models.members) < 2:
            raise ConfigError("--new asks where the members of an ensemble disagree, and there is one model. Name others with --also.")
        before = None if options.before is None else RewardModels.load((options.before,), dtype=options.dtype)
        check = check_file(models, file, settings, before)
    if options.card:
        _tell(f"wrote {write_card(check)}")
    _write(check, options)
    return TrainingError.exit_code if options.require and check.verdict != "passes" else 0


def _write(check: RewardCheck, options: argparse.Namespace) -> None:
    """Print the report, and write it to the file that the options name."""
    import json

    text = json.dumps(check.plain(), indent=2, ensure_ascii=False, allow_nan=False)
    if options.out is not None:
        from palate.data.files import write_atomic

        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(options.out, text + "\n")
    if options.json:
        say(text)
        return
    from palate.cli.reward_check_page import show_check
    from palate.runs.console import Console

    show_check(check, Console(highlight=False))


def _models(options: argparse.Namespace) -> RewardModels:
    from palate.rewards.combination import RewardModels
    from palate.rewards.ensemble import read_ensemble

    rule = None if options.ensemble is None else read_ensemble(options.ensemble)
    return RewardModels.load((options.model, *options.also), rule, options.dtype, options.max_length)


def _rules(options: argparse.Namespace) -> RuleScores:
    from palate.rewards.rule_scores import RuleScores

    if options.also or options.ensemble or options.max_length:
        raise ConfigError("--rules takes one classifier, without --also, --ensemble and --max_length. Leave these out.")
    return RuleScores.load(options.model, options.rules, options.dtype)


def _identity(options: argparse.Namespace, data: Path) -> dict[str, object]:
    """What decides the scores: the settings, and the content of models and data."""
    from palate.config.artifacts import model_at
    from palate.runs.digests import DigestCache

    digests = DigestCache()
    places = [Path(model_at(member)) for path in (options.model, *options.also) for member in models_at(path)]
    places += [] if options.rules is None else [options.rules]
    content = {str(place): digests.content(place) for place in (*places, data) if place.exists()}
    return {
        "content": content,
        **{name: str(value) if name == "rules" else value for name, value in sorted(vars(options).items()) if name != "device"},
    }


@contextmanager
def _opened(word: str) -> Iterator[Path]:
    """A context with the file that a word means; standard input becomes a file meanwhile."""
    if word != STDIO:
        yield Path(word)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin.jsonl"
        path.write_bytes(sys.stdin.buffer.read())
        yield path


def _check_counts(options: argparse.Namespace) -> None:
    for name in ("max_length", "limit"):
        if vars(options)[name] is not None and vars(options)[name] < 1:
            raise ConfigError(f"--{name} is {vars(options)[name]}; give 1 or more, or leave it out.")


def _tell(line: str) -> None:
    """Write a line to standard error: standard output may hold rows."""
    sys.stderr.write(f"{line}\n")
