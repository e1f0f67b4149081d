"""The user's own programs that a file of rules names: their source is part of the key of a run that reads the file."""

from __future__ import annotations

from pathlib import Path

from palate.config.function_source import FunctionSource, source_of
from palate.core import ConfigError, DataError
from palate.data.rule_file import RuleFile


def program_sources(path: Path) -> tuple[FunctionSource, ...]:
    """Return what the programs in a file of rules are made of, each once; those of Palate and of Python's library are left out.

    A file or a program that cannot be read has no source. The stage that uses it says why.
    """
    try:
        programs = dict.fromkeys(rule.program for rule in RuleFile.read(path).rules if rule.program)
    except DataError:
        return ()
    sources: list[FunctionSource] = []
    for program in programs:
        try:
            sources.append(source_of(program))
        except ConfigError:
            continue
    return tuple(source for source in sources if source.file is not None)
