"""Progress and the live view: plain lines outside a terminal, figures with sparklines and warnings inside one."""

import io
import re

import pytest
from rich.console import Console

from palate.runs.live_metrics import LIVE_METRICS
from palate.runs.live_view import TICKS, View, has_view, sparkline
from palate.runs.progress import progress
from palate.runs.record import RunPlan
from palate.runs.run import open_run


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def drawn(view: View) -> list[str]:
    """The view's lines as a terminal of 90 columns shows them."""
    console = Console(file=io.StringIO(), width=90, force_terminal=False)
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 8, ""),
        ([3.0], 8, "▄"),
        ([2, 2, 2], 8, "▄▄▄"),
        ([0, 7], 8, "▁█"),
        (range(8), 8, TICKS),
        (range(16), 8, TICKS),
        (range(15, -1, -1), 8, TICKS[::-1]),
        ([0, 0, 0, 1, 1], 2, "▁█"),
    ],
)
def test_sparkline(values: list[float], width: int, line: str) -> None:
    assert sparkline(list(values), width) == line


def test_the_view_shows_figures_that_there_are_their_limits_and_the_warnings_that_hold() -> None:
    view = View("online", {"online/kl/mean": 6.0})
    assert drawn(view) == []
    for k in range(4):
        view.feed({"online/score/mean": k / 10, "online/kl/mean": float(k), "online/eos/share": 1.0, "online/unknown/mean": 5.0})
    view.warn({"kl": "the policy is far away; raise kl.coef"})
    lines = drawn(view)
    assert [line.split() for line in lines] == [
        ["score", "+0.30", "▁▃▆█"],
        ["KL,", "nats", "3.00", "of", "6.00", "▁▃▆█"],
        ["EOS", "100%", "▄▄▄▄"],
        ["warning:", "kl:", "the", "policy", "is", "far", "away"],
    ]
    view.warn({})
    assert len(drawn(view)) == 3


def test_a_long_warning_takes_one_line() -> None:
    view = View("online", {})
    view.warn({"kl": "word " * 60})
    assert len(drawn(view)) == 1


def test_a_run_in_a_terminal_is_drawn_with_its_earlier_rounds(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setenv("COLUMNS", "100")
    run = open_run(tmp_path, RunPlan("ppo", "online"))  # type: ignore[arg-type]
    with run.active():
        run.log(0, {"online/score/mean": 0.0})
        with run.progress(3, "online", {"online/score/mean": 2.0}) as advance:
            advance(1)
            for k in (1, 2):
                run.log(k, {"online/score/mean": float(k)})
                run.warn(k, {"kl": "far; do"} if k == 1 else {}, {"kl": "far; do"})
                advance(1, "score")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "3/3" in text
    assert re.search(r"score +\+2\.00 +of 2\.00 +▁▅█", text)
    assert "warning: kl: far" in text
    assert text.count("ppo, step 1: kl: far; do") == 1


def test_outside_a_terminal_there_are_plain_lines_now_and_then(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    out, now = io.StringIO(), [0.0]
    with progress(100, "online", stream=out, clock=lambda: now[0]) as advance:
        for _ in range(100):
            now[0] += 0.5
            advance(1, "score +1.00")
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "  online 20/100, about 40 s left  score +1.00"
    monkeypatch.setattr("sys.stderr", out)
    run = open_run(tmp_path, RunPlan("ppo", "online"))  # type: ignore[arg-type]
    with run.active(), run.progress(2, "online") as advance:
        run.log(0, {"online/score/mean": 0.0})
        run.warn(0, {"kl": "far"}, {"kl": "far"})
        run.warn(1, {}, {"kl": "far"})
        advance(2)
    assert out.getvalue().splitlines()[5:] == ["  ppo, step 0: kl: far"]


def test_only_stages_with_a_view_in_a_terminal_have_one() -> None:
    assert has_view("online", Terminal())
    assert not has_view("online", io.StringIO())
    assert not has_view("sft", Terminal())


def test_no_time_is_forecast_where_people_do_the_work() -> None:
    now = [0.0]
    forecast = ["  judged 1/4  ann", "  judged 2/4, about 40 s left  ann", "  judged 2/4, about 80 s left  ann"]
    for of_people, lines in ((True, ["  judged 1/4  ann", "  judged 2/4  ann"]), (False, forecast)):
        now[0], out = 0.0, io.StringIO()
        with progress(4, "judged", of_people=of_people, stream=out, clock=lambda: now[0]) as advance:
            for seconds, count in ((20.0, 1), (40.0, 1), (60.0, 0)):  # nobody judges the third time
                now[0] = seconds
                advance(count, "ann")
        assert out.getvalue().splitlines() == lines
        terminal = Terminal()
        with progress(4, "judged", of_people=of_people, stream=terminal) as advance:
            advance(2)
        assert ("-:--:--" in terminal.getvalue()) is not of_people


def test_what_an_earlier_process_did_does_not_count_as_fast() -> None:
    out, now = io.StringIO(), [5.0]
    with progress(100, "sample", stream=out, clock=lambda: now[0]) as advance:
        advance(50)  # an earlier process
        for _ in range(2):
            now[0] += 10
            advance(10)
    assert out.getvalue().splitlines() == ["  sample 60/100, about 40 s left", "  sample 70/100, about 30 s left"]


def test_every_line_has_a_form_for_its_number() -> None:
    assert [one for one in LIVE_METRICS if bool(one.line) != bool(one.form)] == []
