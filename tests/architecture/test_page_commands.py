"""Commands and settings on the pages are those that Palate has: each command is parsed, and each block of YAML is read as settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from palate.cli.completion import PARSERS
from palate.cli.parser import HELP_WORDS, underscored
from palate.cli.stage_command import typed
from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import ConfigError
from palate.pipeline.plan import BESIDE, read_pipeline
from palate.pipeline.table import STAGES
from tests.support.pages import Block, Command, blocks_of, commands_of, page_paths
from tests.support.repository import ROOT

OTHER_YAML = {"docs/gates.md", "docs/methods/constitution.md", "docs/methods/judges.md", "docs/methods/rubrics.md", "docs/methods/rules.md"}
"""Pages with YAML files that are not pipelines: gates, constitutions, instructions, rubrics, rules. Their own tests read these."""

LEFT_OUT = ("Give it a value.", "required", "expected one argument")
"""Parts of messages about what is left out."""

PLACEHOLDERS = {"SHELL": "bash", "URL": "http://127.0.0.1:8000/v1"}
"""Words on the pages that stand for what the reader has, where any word would not do."""

NOT_HERE = "there is no module 'my_"
"""Part of the message about a module that a page writes. The tests that run the page import it."""


def faults(command: Command) -> list[str]:
    """What is wrong with a command; what it leaves out is a fault only where it is whole."""
    name, *words = (PLACEHOLDERS.get(word, word) for word in command.words)
    if not HELP_WORDS.isdisjoint(words):
        return []
    try:
        if name in STAGES:
            read_config(STAGES[name].load(), typed(name, [underscored(word) for word in words], STAGES)[0])
        elif name in PARSERS:
            parse(name, words)
    except ConfigError as error:
        return [f"{command.where}: palate {' '.join(command.words)}: {line}" for line in counted(error, is_whole=command.is_whole)]
    return []


def counted(error: ConfigError, *, is_whole: bool) -> list[str]:
    """The lines of a message that are faults of the page."""
    lines = [line for line in str(error).splitlines() if NOT_HERE not in line]
    return [line for line in lines if is_whole or not any(part in line for part in LEFT_OUT)]


def parse(name: str, words: Sequence[str]) -> None:
    """Parse the words of a command that is not a stage; what overrides a pipeline of ours is looked up in it."""
    try:
        options = PARSERS[name]().parse(words)
    except ConfigError:
        options = PARSERS[name]().parse([underscored(word) for word in words])
    if name in {"run", "plan"} and (ROOT / str(words[0])).is_file():
        read_pipeline(ROOT / words[0], options.assignments)


@pytest.mark.parametrize("page", page_paths(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_can_be_parsed(page: Path) -> None:
    assert [fault for command in commands_of(page) for fault in faults(command)] == []


def stages_in(value: object) -> Iterator[Mapping[str, object]]:
    """Every mapping with a stage, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("stage"), str):
            yield value
        else:
            for inside in value.values():
                yield from stages_in(inside)


def stage_faults(entry: Mapping[str, object]) -> list[str]:
    """What is wrong with the settings of a stage. A block may leave out what the page does not speak of."""
    kind = str(entry["stage"])
    if ":" in kind:
        return []
    own = {name: value for name, value in entry.items() if name not in BESIDE}
    try:
        read_config(STAGES[kind].load(), Settings(own, {(): kind}))
    except ConfigError as error:
        return counted(error, is_whole=False)
    return []


def block_faults(block: Block) -> list[str]:
    """What is wrong with a block of YAML. One without a stage holds settings that some stage must have."""
    read = yaml.safe_load(block.text)
    entries = list(stages_in(read))
    if entries:
        return [fault for entry in entries for fault in stage_faults(entry)]
    fragments = [read, *read.values()] if isinstance(read, dict) else []
    tried = [stage_faults({**fragment, "stage": name}) for name in STAGES for fragment in fragments if isinstance(fragment, dict)]
    return min(tried, key=len, default=["no stage has these settings"])


@pytest.mark.parametrize("page", page_paths(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_of_yaml_holds_settings_that_there_are(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    blocks = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.language == "yaml" and block.title != "axolotl.yaml"]
    found = [(block.line, faults) for block in blocks if (faults := block_faults(block))]
    assert found == [] or name in OTHER_YAML


def test_a_command_with_a_fault_is_found() -> None:
    def of(line: str, *, is_whole: bool = True) -> str:
        return " ".join(faults(Command(tuple(line.split()), "page", is_whole)))

    assert "has no '--optimiser.lr'" in of("sft --model m --data d --optimiser.lr 1")
    assert "needs 'data'" in of("sft --model m")
    assert of("sft --model m", is_whole=False) == ""
    assert "Did you mean 'dpo'?" in of("direct --model m --preferences p --objective dpp")
    assert "has no '--hold_out'" in of("init pairs.jsonl --model m --hold_out t")
    assert "there is no input or stage 'ppx'" in of("run configs/kitchen.yaml ppx.kl.control.coef=0")
    assert block_faults(Block("yaml", "", "a: {stage: sft, model: m, data: d, epoch: 2}", 1)) != []
    assert block_faults(Block("yaml", "", "kl: {control: {coeff: 1}}", 1)) != []
    assert block_faults(Block("yaml", "", "kl: {control: {coef: 1}}", 1)) == []
