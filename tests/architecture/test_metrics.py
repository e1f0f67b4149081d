"""Every metric that can be logged is explained in docs/metrics.md."""

import re

from tests.support.metric_names import OPEN, documented, tails_in_code, things_of_objectives, undocumented


def test_every_metric_named_in_the_code_is_explained() -> None:
    tails = {OPEN.sub("<>", name).split("/", 1)[1] for name in documented()}
    found = tails_in_code()
    assert len(found) > 5
    assert {tail: place for tail, place in found.items() if tail not in tails} == {}


def test_every_metric_of_an_objective_is_explained() -> None:
    things = {name.split("/")[1] for name in documented()}
    found = things_of_objectives()
    assert len(found) > 10
    assert {thing: place for thing, place in found.items() if re.sub("_max$", "", thing) not in things} == {}


def test_names_are_matched_word_by_word(monkeypatch: object) -> None:
    known = {"online/score_<head>/mean", "sft/loss/mean"}
    import tests.support.metric_names as names

    monkeypatch.setattr(names, "documented", lambda: known)  # type: ignore[attr-defined]
    assert undocumented(["online/score_helpful/mean", "sft/loss/mean", "sft/loss/max", "online/score_/mean", "xsft/loss/mean"]) == [
        "online/score_/mean", "sft/loss/max", "xsft/loss/mean",
    ]  # fmt: skip
