"""Completion: what is offered where the cursor is, asked of the shells themselves where they are installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palate.cli import main
from palate.cli.completion import HIDDEN, PARSERS, SHELLS, suggestions_for
from palate.cli.parser import COMMANDS
from palate.pipeline.table import STAGES
from tests.support.repository import ROOT
from tests.support.warm_python import executable

HEAVY = {"torch", "transformers", "pydantic", "rich", "numpy", "sqlalchemy"}


def offered(*words: str) -> list[str]:
    """The words offered in place of the last of `words`."""
    return [word for word, _ in suggestions_for(words, STAGES).words]


def test_every_command_can_be_completed() -> None:
    assert set(PARSERS) == set(COMMANDS)
    assert offered("") == [*COMMANDS, *STAGES]
    assert offered("re") == ["reward-check", "reference", "revise", "reward", "refresh", "rerank", "regrade", "report"]
    assert offered("online", "--unknown", "x") == offered("nothing", "-") == offered("nothing", "") == []


def test_options_are_offered_one_level_at_a_time() -> None:
    top = offered("online", "-")
    assert {"--model", "--method", "--method.", "--kl.", "--seed", "--dry-run", "--help"} <= set(top)
    assert "--kl" not in top
    assert not any("." in word[:-1] for word in top)
    assert offered("online", "--kl.") == ["--kl.estimator", "--kl.place", "--kl.control", "--kl.control.", "--kl.reference"]
    assert offered("online", "--kl.e") == ["--kl.estimator"]
    assert offered("online", "--guards.entropy_") == ["--guards.entropy_rise", "--guards.entropy_rise."]


def test_the_settings_offered_are_those_of_the_kind_that_is_given() -> None:
    level = "--method.objective."
    assert offered("online", level) == [f"{level}clip", f"{level}clip_high", f"{level}dual_clip"]
    assert offered("online", "--method.objective", "gspo", level) == [f"{level}clip", f"{level}clip_high"]
    assert offered("online", "--method.objective=cispo", level) == [f"{level}limit"]
    pairs = ("online", "--method", "online_dpo")
    assert "--method.advantage" not in offered(*pairs, "--method.")
    assert offered(*pairs, "--method.objective", "") == ["dpo", "ipo", "hinge"]
    assert "--rewards.helpful.instructions" in offered("online", "--rewards.helpful", "judge", "--rewards.helpful.")
    two = ("online", "--rewards.a", "judge", "--rewards.b", "http")
    assert "--rewards.a.instructions" in offered(*two, "--rewards.a.")
    assert "--rewards.b.instructions" not in offered(*two, "--rewards.b.")


def test_values_are_kinds_choices_presets_or_files() -> None:
    assert offered("online", "--method", "") == ["policy_gradient", "online_dpo", "raft"]
    assert offered("online", "--method=ra") == ["--method=raft"]
    assert offered("online", "--method", "=", "ra") == offered("online", "--method", "ra") == ["raft"]
    assert len(offered("online", "--method", "=")) == 3
    assert offered("online", "--dtype", "b") == ["bfloat16"]
    assert "dapo" in offered("online", "--preset", "d")
    assert offered("online", "--rewards.helpful", "j") == ["judge"]
    assert offered("direct", "--objective.parts", "dpo", "nc") == ["nca"]
    assert offered("exchange", "a", "b", "--to", "label") == ["label-studio"]
    assert offered("completion", "") == list(SHELLS)
    assert {"all", "kl"} <= set(offered("online", "--help", ""))
    for words in (("online", "--model", ""), ("online", "--out", ""), ("run", ""), ("exchange", "a", ""), ("run", "--runs", "")):
        assert suggestions_for(words, STAGES).files, words
    for words in (("online", "--iterations", ""), ("online", "--method", ""), ("run", "--only", ""), ("online", "--iterations", "3", "")):
        assert not suggestions_for(words, STAGES).files, words


def test_completion_loads_nothing_heavy() -> None:
    ask = f"main([{HIDDEN!r}, 'online', '--'])"
    code = f"import sys; from palate.cli import main; {ask}; print(*{HEAVY!r} & sys.modules.keys(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "--iterations\t" in done.stdout


def test_the_script_of_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')" in capsys.readouterr().err


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `palate` command in `bin/`, the scripts of all shells, and a file to complete."""
    folder = tmp_path_factory.mktemp("shells")
    command = folder / "bin" / "palate"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{executable()}" -m palate "$@"\n')
    command.chmod(0o755)
    (folder / "judged pairs.jsonl").write_text("{}")
    for shell in SHELLS:
        (folder / shell).write_text(subprocess.run([command, "completion", shell], capture_output=True, text=True, check=True).stdout)
    return folder


def asked(shell: str, script: str, folder: Path) -> list[str]:
    """Lines that a shell writes."""
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run([shell, "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


BASH = """
source ./bash
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _palate 2>/dev/null; printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["palate", "onl"], ["online"]),
        (["palate", "online", "--me"], ["--method", "--method."]),
        (["palate", "online", "--method", "=", "ra"], ["raft"]),
        (["palate", "online", "--method.objective", "gspo", "--method.objective.clip_"], ["--method.objective.clip_high"]),
        (["palate", "online", "--prompts", "jud"], ["judged pairs.jsonl"]),
        (["palate", "online", "--prompts", "=", "jud"], ["judged pairs.jsonl"]),
        (["palate", "online", "--iterations", "jud"], [""]),
    ],
)
def test_bash_completes(words: list[str], wanted: list[str], program: Path) -> None:
    listed = " ".join(f"'{word}'" for word in words)
    assert asked("bash", f"set -- {listed}\n{BASH}", program) == wanted


def test_bash_is_told_of_the_command(program: Path) -> None:
    assert asked("bash", "source ./bash; complete -p palate", program) == ["complete -F _palate palate"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_read_their_script(shell: str, program: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert subprocess.run([shell, "-n", f"./{shell}"], cwd=program, capture_output=True, check=False).returncode == 0


def test_fish_completes(program: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    assert asked("fish", "source ./fish; complete -C 'palate online --dtype b'", program) == ["bfloat16"]
    lines = asked("fish", "source ./fish; complete -C 'palate online --me'", program)
    assert [line.split("\t")[0] for line in lines] == ["--method", "--method."]
