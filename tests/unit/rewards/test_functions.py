"""The user's functions, in real processes."""

import math
import os
from pathlib import Path

import pytest

from palate.core import Completion, ConfigError, Message, Prompt, TrainingError
from palate.rewards import function as function_module
from palate.rewards.batch import PartScores, ScoringBatch, ScoringContext
from palate.rewards.function import FunctionReward
from tests.support.waiting import LIMIT_SECONDS, wait_until
from tests.unit.rewards.conftest import DEADLINES, batch

CONTEXT = ScoringContext("mine", None, None)  # type: ignore[arg-type]


def outcome(function: str, scored: ScoringBatch, **settings: object) -> PartScores:
    scorer = FunctionReward(function=function, **settings).open(CONTEXT)  # type: ignore[arg-type]
    try:
        return scorer.score(scored)
    finally:
        scorer.close()


def test_a_function_gets_prompt_completion_and_the_fields_it_names(module) -> None:
    name = module("""
        def plain(prompt, completion):
            return len(completion)
        def by_name(prompt, completion, answer, ended, conversation):
            return (completion == answer) + 10 * ended + 100 * len(conversation) + 1000 * (conversation[0]["content"] == prompt)
        def every(prompt, completion, **fields):
            return sorted(fields) == ["answer", "completion_ids", "conversation", "ended"]
    """)
    scored = ScoringBatch(
        (Prompt("a", (Message("user", "one"),), {"answer": "yes"}), Prompt("b", (Message("user", "two"),))),
        ((Completion("yes", stop="eos"), Completion("no", stop="length")), (Completion("so", stop="eos"),)),
    )
    assert outcome(f"{name}:plain", scored).heads[""].tolist() == [3, 2, 2]
    assert outcome(f"{name}:by_name", scored).heads[""].tolist() == [1111, 1100, 1110]
    assert outcome(f"{name}:every", scored).heads[""].tolist() == [1, 1, 1]


@pytest.mark.parametrize("batched", [False, True])
def test_a_function_gets_the_ids_that_were_sampled(module, batched) -> None:
    name = module("""
        def one(completion, completion_ids):
            return sum(completion_ids)
        def many(completions, completion_ids):
            return [sum(ids) for ids in completion_ids]
    """)
    scored = ScoringBatch((Prompt("a", (Message("user", "q"),)),), ((Completion("yes", ids=(5, 2)), Completion("only a text")),))
    assert outcome(f"{name}:{'many' if batched else 'one'}", scored, batched=batched).heads[""].tolist() == [7, 0]


def test_a_batched_function(module) -> None:
    name = module("""
        import numpy as np
        def many(prompts, completions, answer):
            return np.array([len(prompts) + 10 * (text == right) for text, right in zip(completions, answer)])
    """)
    assert outcome(f"{name}:many", batch("yes", "no", answer="yes"), batched=True).heads[""].tolist() == [12, 2]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("float('nan')", "gave nan"),
        ("float('inf')", "gave inf"),
        ("None", "gave 'None' (NoneType), not a number"),
        ("'3'", "gave '3' (str), not a number"),
        ("{'helpful': 1}", "not a number"),
        ("10 ** 400", "not one finite number"),
        ("1e39", "gave 1e+39, which is too large"),
        ("__import__('numpy').complex64(1 + 2j)", "(complex64), not a number"),
        ("__import__('numpy').zeros(2)", "not one finite number"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("missing", "raised NameError"),
    ],
)
def test_a_bad_value_is_a_reason_of_that_completion_alone(module, body, reason) -> None:
    name = module(f"def f(prompt, completion):\n    return {body} if completion == 'bad' else 1\n")
    found = outcome(f"{name}:f", batch("good", "bad", "good"))
    assert found.heads[""].tolist()[::2] == [1, 1]
    assert math.isnan(found.heads[""][1])
    assert list(found.reasons) == [1]
    assert reason in found.reasons[1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[1.0]", "gave 1 scores for 2 completions"),
        ("[1.0] * 3", "gave 3 scores for 2 completions"),
        ("None", "not a list of 2 scores"),
        ("'12'", "not a list of 2 scores"),
        ("{'a': 1, 'b': 2}", "not a list of 2 scores"),
        ("{1.0, 2.0}", "not a list of 2 scores"),
        ("5", "not a list of 2 scores"),
        ("[1.0, None]", "gave 'None' (NoneType), not a number"),
        ("1 / 0", "raised ZeroDivisionError"),
    ],
)
def test_bad_answers_of_a_batched_function(module, body, reason) -> None:
    name = module(f"def f(prompts, completions):\n    return {body}\n")
    found = outcome(f"{name}:f", batch("a", "b"), batched=True)
    assert reason in found.reasons[1]
    assert (0 in found.reasons) == (body != "[1.0, None]")


def test_a_column_that_is_missing_is_a_reason(module) -> None:
    name = module("def f(prompt, completion, answer):\n    return 1\n")
    assert "needs an argument 'answer', which is neither" in outcome(f"{name}:f", batch("a")).reasons[0]
    assert "nor a column of the rows (mark)" in outcome(f"{name}:f", batch("a", mark=1)).reasons[0]


@pytest.mark.parametrize("batched", [False, True])
def test_a_function_is_called_by_the_names_of_its_arguments(module, batched) -> None:
    name = module("""
        def one(answer, completion, *, ended=None, fields=None, other=5, **rest):
            return (completion == answer) + 10 * ended + 100 * (fields["prompt"] == "mine") + 1000 * (rest["prompt"] == "q") + 10000 * other
        def many(completions, ground_truth, **kwargs):
            right = [text == truth for text, truth in zip(completions, ground_truth)]
            return [r + 10 * (sorted(kwargs) == ["answer", "completion_ids", "conversation", "ended", "prompt", "prompts"]) for r in right]
        def by_place(first, second, /):
            return len(second) if isinstance(second, str) else [len(text) for text in second]
    """)
    asked = Prompt("a", (Message("user", "q"),), {"answer": "yes", "prompt": "mine", "ground_truth": "yes"})
    scored = ScoringBatch((asked,), ((Completion("yes", stop="eos"), Completion("no", stop="length")),))
    if batched:
        assert outcome(f"{name}:many", scored, batched=True).heads[""].tolist() == [11, 10]
    else:
        assert outcome(f"{name}:one", scored).heads[""].tolist() == [51111, 51100]
    assert outcome(f"{name}:by_place", scored, batched=batched).heads[""].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("arguments", "batched", "message"),
    [
        ("question, answer", False, "takes question, answer, and not completion"),
        ("completions, ground_truth", False, "set batched: true if it takes lists"),
        ("prompt, completion", True, "leave out batched if it scores one completion at a time"),
        ("", False, "takes no argument, and not completion"),
        ("prompt, /", False, "not completion"),
    ],
)
def test_a_function_that_does_not_take_a_completion_is_refused(module, arguments, batched, message) -> None:
    name = module(f"def f({arguments}):\n    return 1\n")
    with pytest.raises(ConfigError, match="called by the names of its arguments") as caught:
        FunctionReward(function=f"{name}:f", batched=batched).open(CONTEXT)
    assert message in str(caught.value)


def test_a_function_that_was_edited_is_not_started_again(module, tmp_path) -> None:
    name = module("import os\ndef f(prompt, completion):\n    return os._exit(1) if completion == 'end' else 1\n")
    scorer = FunctionReward(function=f"{name}:f").open(CONTEXT)
    scorer.score(batch("end"))
    assert not scorer.score(batch("a", "end")).reasons.get(0)
    with (tmp_path / f"{name}.py").open("a") as file:
        file.write("# another\n")
    with pytest.raises(TrainingError, match=r"rewards\.mine: .* was edited while the run used it"):
        scorer.score(batch("a"))


@pytest.mark.parametrize(
    "hang",
    [
        "__import__('time').sleep(3600)",
        "__import__('re').match('(a+)+$', 'a' * 40 + 'b')",  # holds the interpreter's lock: no thread could stop it
        "[__import__('signal').signal(15, 1), __import__('time').sleep(3600)]",
    ],
)
def test_a_hang_ends_at_the_deadline_and_the_next_batch_is_scored(module, hang) -> None:
    name = module(f"import os\ndef f(prompt, completion):\n    return ({hang}) if completion == 'hang' else os.getpid()\n")
    for deadline in DEADLINES:
        scorer = FunctionReward(function=f"{name}:f", timeout_seconds=deadline).open(CONTEXT)
        found, again = scorer.score(batch("a", "hang", "b")), scorer.score(batch("a", "b"))
        scorer.close()
        if 0 not in found.reasons and not again.reasons:
            break
    pid = int(found.heads[""][0])
    assert found.reasons == dict.fromkeys((1, 2), f"gave no score within {deadline:g} s (timeout_seconds)")
    wait_until(lambda: not Path(f"/proc/{pid}").exists())  # the warm process takes its children's ends when it comes to it
    assert not again.reasons
    assert int(again.heads[""][0]) != pid


def test_what_a_hanging_function_started_is_killed_with_it(module) -> None:
    name = module("""
        import subprocess
        def f(prompt, completion):
            child = subprocess.Popen(["sleep", "3600"])  # longer than anybody waits
            if completion == "pid":
                return child.pid
            child.wait()
    """)
    for deadline in DEADLINES:
        found = outcome(f"{name}:f", batch("pid", "wait"), timeout_seconds=deadline)
        if 0 not in found.reasons:
            break
    child = Path(f"/proc/{int(found.heads[''][0])}/stat")

    def is_dead() -> bool:
        try:
            return child.read_text().split()[2] == "Z"
        except OSError:
            return True

    wait_until(is_dead)


@pytest.mark.parametrize(("end", "code"), [("os._exit(3)", 3), ("sys.exit(4)", 4), ("os.kill(os.getpid(), 11)", -11)])
def test_a_process_that_ends_is_a_reason_and_is_started_again(module, end, code, monkeypatch) -> None:
    monkeypatch.setattr(function_module, "GOODBYE_SECONDS", LIMIT_SECONDS)
    name = module(f"import os, sys\ndef f(prompt, completion):\n    return ({end}) if completion == 'end' else 1\n")
    scorer = FunctionReward(function=f"{name}:f").open(CONTEXT)
    found = scorer.score(batch("a", "end", "b"))
    assert found.heads[""][0] == 1
    assert found.reasons == dict.fromkeys((1, 2), f"its process ended with code {code}")
    assert not scorer.score(batch("a")).reasons
    scorer.close()


def test_what_a_function_prints_and_changes_stays_its_own(module) -> None:
    name = module("""
        import os
        print("noise", flush=True)
        def f(prompt, completion):
            print("more noise", flush=True)
            os.environ["CHANGED"] = "1"
            os.chdir("/")
            return 1
    """)
    here = Path.cwd()
    assert outcome(f"{name}:f", batch("a")).heads[""].tolist() == [1]
    assert "CHANGED" not in os.environ
    assert Path.cwd() == here


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("os", "does not name a function"),
        ("os:nothing", "has no 'nothing'"),
        ("os:sep", "cannot be called"),
        ("__import__('os').system('true'):f", "there is no module"),
        ("", "does not name a function"),
    ],
)
def test_a_path_that_names_no_function(path, message) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.mine: ") as caught:
        FunctionReward(function=path).open(CONTEXT)
    assert message in str(caught.value)


def test_a_module_that_cannot_be_imported(module) -> None:
    for text, message in (
        ("1 / 0", "raised ZeroDivisionError"),
        ("import os\nos._exit(7)", "with code 7"),
        ("def f(:", "raised SyntaxError"),
    ):
        with pytest.raises(ConfigError, match=message):
            FunctionReward(function=f"{module(text)}:f").open(CONTEXT)


def test_the_process_of_a_scorer_that_is_dropped_ends(module) -> None:
    name = module("import os\ndef f(prompt, completion):\n    return os.getpid()\n")
    scorer = FunctionReward(function=f"{name}:f").open(CONTEXT)
    pid = int(scorer.score(batch("a")).heads[""][0])
    assert Path(f"/proc/{pid}").exists()
    del scorer
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize("deadline", [0, -1, math.inf, math.nan])
def test_a_timeout_is_a_time(deadline) -> None:
    with pytest.raises(ConfigError, match="timeout_seconds"):
        FunctionReward(function="a:b", timeout_seconds=deadline)
