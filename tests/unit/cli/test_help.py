"""Help: short, grouped, and with every kind by name; the settings of a kind or group when it is named."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from palate.cli import main
from palate.cli.help_page import HelpRow, Page, Section
from palate.cli.parser import COMMANDS, GROUPS, Parser
from palate.cli.settings_table import Described, described
from palate.cli.stage_command import typed
from palate.cli.stage_help import page_of
from palate.pipeline.option import Option
from palate.pipeline.table import STAGES
from tests.support.toys import TOYS

TWO_SCREENS = 90
WIDTHS = (80, 120)


def shown(stage: str, *words: str, width: int = 80) -> str:
    """The page of a stage."""
    return page_of(stage, described(STAGES[stage]), words or ["--help"]).render(width)


def flat(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_help_of_a_stage_fits_on_two_screens(stage: str, width: int) -> None:
    lines = shown(stage, width=width).splitlines()
    assert len(lines) <= TWO_SCREENS
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(STAGES[stage].help[:40])
    start = next(number for number, line in enumerate(lines) if line.startswith("Usage:"))
    usage = " ".join(line.strip() for line in lines[start : lines.index("", start)])
    assert re.fullmatch(rf"Usage: palate {stage}( --[\w.]+ \w+( \.\.\.)?)* \[options\]", usage)


def unions() -> Iterator[tuple[str, Option]]:
    """(stage, option) of each setting with kinds, once for each of its places."""
    for stage in STAGES:
        for option in described(STAGES[stage]).options:
            if option.kinds:
                yield stage, option


def test_every_kind_and_preset_is_listed_by_name_on_the_first_page() -> None:
    found = list(unions())
    assert len(found) > 20
    for stage, option in found:
        text = flat(shown(stage))
        assert [kind for kind, _ in option.kinds if not re.search(rf"\b{kind}\b", text)] == [], (stage, option.name)
    online = flat(shown("online"))
    for name in ("ppo_clip", "gspo", "cispo", "dpo (default), ipo, hinge", "ziegler", "n-plus", "dr-grpo", "dapo"):
        assert name in online


def test_every_setting_of_every_kind_stands_on_the_page_of_its_kind_and_under_all() -> None:
    everything = {stage: flat(shown(stage, "--help", "all")) for stage in STAGES}
    for stage, union in unions():
        if union.container is tuple:
            continue
        level = f"{union.name}.NAME" if union.container is dict else union.name
        given = [word for at, kind in union.under for word in (f"--{at}", kind)]
        for kind, _ in union.kinds:
            text = flat(shown(stage, *given, f"--{level}", kind, "--help"))
            own = [one for one in described(STAGES[stage]).options if one.under == (*union.under, (level, kind))]
            for option in (one for one in own if one.name.count(".") == level.count(".") + 1):
                assert f"--{option.name}" in text
                assert f"--{option.name}" in everything[stage]


def test_a_kind_shows_its_own_settings_and_no_others() -> None:
    text = shown("online", "--method.objective", "gspo", "--help")
    assert "--method.objective.clip_high X" in text
    assert "[default: 0.0004]" in text
    for other in ("dual_clip", "beta", "--iterations", "--kl"):
        assert other not in text
    assert shown("online", "--help", "method.objective", "gspo") == text
    assert shown("online", "--method.objective=gspo", "--help") == text


def test_a_group_shows_its_settings_and_what_lies_below() -> None:
    text = shown("online", "--kl", "--help")
    assert "--kl.place reward|loss" in text
    assert "fixed_kl (default), adaptive_kl, target_kl, budget_kl" in flat(text)
    assert "--method" not in text
    assert shown("online", "--help", "kl") == text
    guards = shown("online", "--guards", "--help")
    assert "--guards.kl off" in guards
    assert "palate online --guards.kl --help" in guards
    assert "--guards.kl.patience N" in shown("online", "--guards.kl", "--help")


def test_a_union_without_a_kind_says_what_each_kind_is() -> None:
    text = flat(shown("online", "--method", "--help"))
    assert "policy_gradient (default) " in text
    assert "raft" in text
    objectives = flat(shown("online", "--method.objective", "--help"))
    assert "(with --method policy_gradient)" in objectives
    assert "(with --method online_dpo)" in objectives
    assert "online_dpo" not in flat(shown("online", "--method", "policy_gradient", "--method.objective", "--help"))


def test_names_that_the_user_chose_stay() -> None:
    text = shown("online", "--rewards.helpful", "judge", "--help")
    assert "--rewards.helpful.instructions " in text
    assert "NAME" not in text
    assert "--rewards.helpful.constraint.rate X" in shown("online", "--rewards.helpful", "judge", "--rewards.helpful.constraint", "--help")


def test_every_option_of_a_run_is_shown_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[str] = []
    whole = Parser.add_argument

    def noted(parser: Parser, *names: str, **how: Any) -> Any:
        added.extend(name.replace("_", "-") for name in names if name.startswith("--"))
        return whole(parser, *names, **how)

    monkeypatch.setattr(Parser, "add_argument", noted)
    typed("sample", [], STAGES)
    settings = {f"--{option.name}".replace("_", "-") for option in described(STAGES["sample"]).options}
    own = set(added) - settings
    assert "--extend" in own
    assert [name for name in own if not re.search(rf"{name}\b", shown("sample"))] == []


def test_help_after_a_whole_command_is_the_overview() -> None:
    words = ["--model", "m", "--prompts", "p.jsonl", "--iterations", "3", "--seed", "1", "--help"]
    assert shown("online", *words) == shown("online")
    assert "--iterations" in shown("online", "--iterations", "--help")
    assert "--kl" not in shown("online", "--iterations", "--help")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gaurds", "--help"], "palate online has no '--gaurds'. Did you mean '--guards'?"),
        (["--help", "gaurds"], "Did you mean '--guards'?"),
        (["--lr", "--help"], "Did you mean '--optimizer.lr'?"),
        (["--method.objective", "gsop", "--help"], "--method.objective has no kind 'gsop'. Did you mean 'gspo'?"),
    ],
)
def test_a_mistyped_name_in_help_is_offered_the_nearest(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["online", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_shows_the_page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["online", "--method.objective", "gspo", "--help"]) == 0
    assert capsys.readouterr().out == shown("online", "--method.objective", "gspo", "--help")
    assert main(["online", "-h"]) == 0
    assert capsys.readouterr().out == shown("online")


def test_a_stage_that_is_not_in_the_table_is_described_by_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", "--help"], TOYS) == 0
    out = flat(capsys.readouterr().out)
    for text in ("Usage: palate count --data PATH [options]", "what counts: plain (default), long", "--named.NAME PATH", "[default: 0.5]"):
        assert text in out
    assert main(["count", "--rule", "long", "--help"], TOYS) == 0
    assert "--rule.letters N fewest letters of a long word [default: 5]" in flat(capsys.readouterr().out)


def test_every_command_and_stage_stands_under_one_heading() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted((*COMMANDS, *STAGES))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_overview_is_grouped(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([]) == 0
    out = capsys.readouterr().out
    assert [line[:-1] for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")] == [*GROUPS, "Options"]
    assert len(out.splitlines()) <= 70
    assert max(map(len, out.splitlines())) <= width
    assert main([], {**STAGES, **TOYS}) == 0
    assert "Other stages:\n  count" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_a_short_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == COMMANDS[command]
    assert lines[2].startswith(f"Usage: palate {command} ")
    assert lines[2].endswith("[options]")
    assert lines[3] == ""


def test_a_page_is_laid_out_in_two_columns() -> None:
    rows = (HelpRow("--a X", "one two three four five six seven eight nine"), HelpRow("--a_very_long_name_of_an_option X", "short"))
    page = Page("Does it.", "palate x", (Section("Options", rows), Section("Empty")))
    assert page.render(40) == (
        "Does it.\n\nUsage: palate x\n\nOptions:\n"
        "  --a X   one two three four five six\n          seven eight nine\n"
        "  --a_very_long_name_of_an_option X\n          short\n"
    )
    assert "\033[1mOptions:\033[0m" in page.render(40, bold=True)
    assert page_of("x", Described("Does it.", ()), ["--help"]).render(80).startswith("Does it.")
