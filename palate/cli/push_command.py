"""`palate push`: upload a run's model with its card to a repository of a model hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from palate.cli.parser import COMMANDS, Parser, say, underscored
from palate.core import ConfigError
from palate.pipeline.table import Stages

if TYPE_CHECKING:
    from palate.clients.hub_upload import HubFile
    from palate.evaluation.run_card import RunCard

CARD = "README.md"

MODEL_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json", "base.json", "reward.json",
    "report_card.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.jinja", "LICENSE*", "NOTICE*",
)  # fmt: skip
"""Names of files that a model consists of. No other file is uploaded unless somebody names it."""


def push_parser() -> Parser:
    """What `palate push` takes."""
    parser = Parser("push", COMMANDS["push"])
    parser.add_argument("run", type=Path, metavar="RUN", help="the run that made the model")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository on the hub; it is made if it does not exist")
    parser.add_argument("--private", action="store_true", help="only you and your organisation may see it")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch to commit to (default: main)")
    parser.add_argument("--license", default="", metavar="ID", help="the model's license, for its card (default: none is named)")
    parser.add_argument(
        "--base", metavar="OWNER/NAME", help="the repository that holds the base of an adapter, where the base is a folder of this machine"
    )
    parser.add_argument("--message", metavar="TEXT", help="the message of the commit (default: the name of the run)")
    parser.add_argument(
        "--also", nargs="+", default=[], metavar="FILE", help="further files of the run, such as summary.json; see what is in them first"
    )
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="list the files and their sizes; the network is not used")
    return parser


def push(words: list[str], stages: Stages) -> int:  # noqa: ARG001 (every command has this signature)
    """`palate push`; returns the exit status."""
    options = push_parser().parse([underscored(word) for word in words])
    from palate.clients.hub_upload import HubRepository
    from palate.evaluation.run_card import run_card
    from palate.runs.record import read_record

    check_repository(options.repository)
    card = run_card(options.run, name=options.repository.partition("/")[2], license_id=options.license)
    record = read_record(card.run)
    if record is None or record.status != "done":
        raise ConfigError(f"{card.run} is not finished. Finish it first, or name another run; `palate runs` lists them.")
    if options.base is not None:
        check_repository(options.base)
    files, left_out = files_of(card, options.also, options.base)
    if options.dry_run:
        for line in listing(files, left_out):
            say(line)
        say(f"Nothing was sent. Without --dry-run these files go to {options.repository}.")
        return 0
    repository = HubRepository.of(options.repository, revision=options.revision, private=options.private)
    for line in listing(files, left_out):
        say(line)
    say(f"uploaded: {repository.upload(files, options.message or f'{record.name}-{record.key}')}")
    return 0


def check_repository(name: str) -> None:
    """Refuse a name that no repository can have. Raises ConfigError."""
    word = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
    if not re.fullmatch(f"{word}/{word}", name, flags=re.ASCII) or ".." in name or "--" in name:
        raise ConfigError(f"{name!r} is not the name of a repository. Give OWNER/NAME, in letters, digits, '-', '_' and '.'.")


def files_of(card: RunCard, also: Sequence[str], base: str | None) -> tuple[list[HubFile], list[str]]:
    """Return what is uploaded, the card first, and the names of files beside the model that are not.

    Raises:
        ConfigError: a named file is not in the run, or takes the name of another; or as `with_base`.
    """
    from palate.clients.hub_upload import HubFile

    found = sorted(path for path in card.model.rglob("*") if path.is_file())
    parts = [path for path in found if any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)]
    if not any(path.suffix == ".safetensors" for path in parts):
        raise ConfigError(f"{card.model} has no weights (*.safetensors). Name the run that trained the model.")
    files = {CARD: HubFile(CARD, _card(card).encode())}
    files |= {name: with_base(HubFile(name, path), base) for path in parts if (name := path.relative_to(card.model).as_posix())}
    for name in also:
        path = card.run / name
        if not path.is_file() or not path.resolve().is_relative_to(card.run.resolve()):
            raise ConfigError(f"--also {name}: {card.run} holds no such file. Give the path of a file within the run.")
        inside = path.resolve().relative_to(card.run.resolve()).as_posix()
        if inside in files:
            raise ConfigError(f"--also {name}: the model has a file of this name, which is uploaded already. Leave it out.")
        files[inside] = HubFile(inside, path)
    left_out = [path.relative_to(card.model).as_posix() for path in found if path not in parts and path.name != CARD]
    return list(files.values()), left_out


def with_base(file: HubFile, base: str | None) -> HubFile:
    """Return a file of a model; one that names an adapter's base names `base` where the base is a folder of this machine.

    Raises:
        ConfigError: the base is such a folder, and `base` is None: nobody else could load the adapter.
    """
    from palate.clients.hub_upload import HubFile
    from palate.models.adapters import ADAPTER_FILE, BASE_FILE

    if not isinstance(file.content, Path) or file.content.name not in {ADAPTER_FILE, BASE_FILE}:
        return file
    adapter = json.loads((file.content.parent / ADAPTER_FILE).read_text(encoding="utf-8"))
    if not Path(adapter["base_model_name_or_path"]).is_absolute():
        return file
    if base is None:
        raise ConfigError(
            f"{file.content.parent} is an adapter of {adapter['base_model_name_or_path']}, a folder of this machine. "
            "Push that model first, and name its repository with --base"
        )
    key = "base_model_name_or_path" if file.content.name == ADAPTER_FILE else "base"
    return HubFile(file.name, json.dumps({**json.loads(file.content.read_text(encoding="utf-8")), key: base}, indent=1).encode())


def _card(card: RunCard) -> str:
    """Return the card that `palate card` left beside the weights, or a new one. A README that peft left is not one."""
    import yaml

    path = card.model / CARD
    written = path.read_text(encoding="utf-8") if path.is_file() else ""
    head = re.match(r"---\n(.*?)\n---\n", written, flags=re.DOTALL)
    try:
        metadata = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        metadata = None
    is_ours = isinstance(metadata, dict) and "palate" in (metadata.get("tags") or ())
    return written if is_ours else card.text


def listing(files: Sequence[HubFile], left_out: Sequence[str]) -> list[str]:
    """Return the lines that name the files, their sizes, and what is left out."""
    lines = [f"{megabytes(one.size):>12}  {one.name}" for one in files]
    lines.append(f"{megabytes(sum(one.size for one in files)):>12}  in all, {len(files)} files")
    if left_out:
        lines.append(f"not uploaded: {', '.join(left_out)}")
    return lines


def megabytes(size: int) -> str:
    """Return a size in the unit that people read."""
    return f"{size:,} bytes" if size < 100_000 else f"{size / 1e6:,.1f} MB"
