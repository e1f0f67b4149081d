"""`palate reward-check` names what is wrong with reward models that were trained wrong in a known way, and passes a sound one.

The models are real ones of two layers, trained by stage `reward`.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli import main
from palate.data.jsonl import write_rows
from palate.evaluation.reward_check.attacks import attack_results
from palate.evaluation.reward_check.score_book import ScoreBook
from palate.rewards.combination import RewardModels
from palate.rewards.learned import ReportCard
from palate.testing.tokenizers import WORDS as OTHER_WORDS
from tests.support.planted_rewards import WORDS, a_row, a_world, cooks_tokenizer, halo_label, length_label, train

pytestmark = pytest.mark.slow

PHRASE = "the cook has two."
Checked = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write_rows(folder / "test.jsonl", a_world(100, 99))
    return folder


@pytest.fixture(scope="module")
def good(home: Path) -> Path:
    return train(home, "good", a_world(200, 1, attacked=True))


@pytest.fixture(scope="module")
def sound(home: Path, good: Path) -> dict[str, Any]:
    """The check of the sound model. Several tests read it."""
    out = home / "sound.json"
    assert main(["reward-check", str(good), str(home / "test.jsonl"), "--reassure", PHRASE, "--require", "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.fixture
def checked(home: Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    """Checks a model on the pairs of the test, and returns the JSON."""

    def check(model: Path, *words: object, code: int = 0, pairs: str = "test.jsonl") -> dict[str, Any]:
        capsys.readouterr()
        assert main(["reward-check", str(model), str(home / pairs), "--json", *map(str, words)]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return check


def names(check: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(fault["name"] for fault in check["faults"]))


def test_a_sound_model_passes(sound: dict[str, Any]) -> None:
    found = sound
    assert (found["verdict"], found["faults"]) == ("passes", [])
    assert found["sentence"].startswith("This reward model passes: it is right on ")
    assert found["figures"]["accuracy"]["low"] > 0.8
    assert found["figures"]["over_length"]["low"] > 0.2
    assert {one["name"]: one["pairs"] for one in found["dimensions"]} == {"kind": 95, "taste": 95}
    attacks = {one["name"]: one["wins"] for one in found["attacks"]}
    held = ("longer but wrong", "null answer", "prompt copied", "reassuring but wrong", "reassuring but empty")
    assert all(attacks[name]["low"] > 0.5 for name in held)
    assert set(attacks) - set(held) == {"repeated text", "another prompt's answer"}
    assert found["change"] < 1e-5
    assert (found["habits"]["changed"], found["habits"]["is_recorded"], found["habits"]["split_marks"]) == ([], True, [])
    gaps = [one["accuracy"]["value"] for one in found["gaps"]]
    assert gaps == sorted(gaps), "it is right more often where it is more sure"
    assert found["calibration_error"] < 0.1
    assert found["log_loss"] < 0.4


def test_a_model_that_is_blind_to_one_dimension_is_named(home: Path, checked: Checked) -> None:
    model = train(home, "blind", a_world(150, 1, halo_label, attacked=True))
    found = checked(model, "--require", code=5)
    assert names(found) == ["blind"]
    assert found["faults"][0]["sentence"].startswith("it is blind to kind: accuracy ")
    assert found["sentence"].startswith("Do not train on this reward model: it is blind to kind")


def test_a_model_that_scores_length_is_named(home: Path, checked: Checked) -> None:
    found = checked(train(home, "length", a_world(150, 1, length_label)))
    assert "length" in names(found)
    assert not {"chance", "tokenizer", "blind"} & set(names(found))
    length = found["length"]
    assert (length["prefers"], length["effect"]["low"] > 0.9, length["against"]["high"] < 0.1) == ("longer", True, True)
    assert {fault["sentence"].partition(":")[0] for fault in found["faults"] if fault["name"] == "attack"} >= {
        "longer but wrong",
        "repeated text",
    }


def test_a_model_that_was_trained_on_shuffled_labels_is_named(home: Path, checked: Checked) -> None:
    found = checked(train(home, "shuffled", a_world(200, 1, attacked=True), control="shuffled"))
    assert "chance" in names(found)
    assert not {"length", "tokenizer", "blind"} & set(names(found))


def test_a_model_with_another_tokenizer_is_named(good: Path, checked: Checked, tmp_path: Path) -> None:
    shutil.copytree(good / "model", tmp_path / "swapped")
    mixed = list(WORDS)
    random.Random(3).shuffle(mixed)
    cooks_tokenizer(tuple(mixed)).save_pretrained(tmp_path / "swapped")
    found = checked(tmp_path / "swapped")
    assert "tokenizer" in names(found)
    told = [fault["sentence"] for fault in found["faults"] if fault["name"] == "tokenizer"]
    assert told[0] == f"the tokenizer or chat template in {tmp_path / 'swapped'} is not the one that it was trained with"


def test_a_tokenizer_that_does_not_know_the_words_is_named_where_nothing_is_recorded(good: Path, checked: Checked, tmp_path: Path) -> None:
    shutil.copytree(good / "model", tmp_path / "swapped")
    (tmp_path / "swapped" / "reward.json").unlink()
    cooks_tokenizer(OTHER_WORDS).save_pretrained(tmp_path / "swapped")
    found = checked(tmp_path / "swapped", "--combined")
    assert not found["habits"]["is_recorded"]
    assert any("its tokenizer does not know" in fault["sentence"] for fault in found["faults"])


def test_a_model_with_another_templates_habits_is_named(home: Path, checked: Checked) -> None:
    """It learned plain text, and its directory has a chat template that it never saw."""
    write_rows(home / "many.jsonl", a_world(300, 99))
    found = checked(train(home, "plain", a_world(300, 1, attacked=True, chat=False)), pairs="many.jsonl")
    assert "tokenizer" in names(found)
    told = [fault["sentence"] for fault in found["faults"] if fault["name"] == "tokenizer"]
    assert told[0].startswith("it has another template's habits: as plain text, without the chat template it is right more often")


def test_a_model_whose_sides_were_swapped_is_named(home: Path, good: Path, checked: Checked, tmp_path: Path) -> None:
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in a_world(60, 99)]
    write_rows(tmp_path / "turned.jsonl", turned)
    assert main(["reward-check", str(good), str(tmp_path / "turned.jsonl"), "--json", "--out", str(tmp_path / "out.json")]) == 0
    assert names(json.loads((tmp_path / "out.json").read_text())) == ["reversed", "attack"]


def test_too_few_pairs_leave_it_open(home: Path, good: Path, checked: Checked) -> None:
    found = checked(good, "--limit", "6", "--require", code=5)
    assert (found["verdict"], found["faults"]) == ("open", [])
    assert found["sentence"].startswith("Not shown: that this reward model is ")


def test_two_members_that_agree_are_right_more_often_than_where_they_disagree(
    home: Path, good: Path, sound: dict[str, Any], checked: Checked
) -> None:
    other = train(home, "other", a_world(60, 7, attacked=True))
    found = checked(good, "--also", other)
    doubt = found["disagreement"]
    assert doubt["disputed"]["value"] > doubt["agreed"]["value"] + 0.1
    assert sound["disagreement"] is None


def test_texts_that_the_model_does_not_know_are_warned_of(
    home: Path, good: Path, sound: dict[str, Any], checked: Checked, tmp_path: Path
) -> None:
    assert sound["familiarity"] is None, "nothing says what it knows"
    draw = random.Random(5)
    strange = [" ".join(draw.choices(("never", "butter", "supper", "lunch", "winter", "fool"), k=6)) for _ in range(80)]
    rows = [
        a_row(str(k), f"what can we make for {k % 9}", one, two, "taste")
        for k, (one, two) in enumerate(zip(strange[::2], strange[1::2], strict=True))
    ]
    write_rows(tmp_path / "strange.jsonl", rows)
    write_rows(tmp_path / "usual.jsonl", a_world(200, 11))
    usual = checked(good, "--reference", tmp_path / "usual.jsonl")["familiarity"]
    assert usual["unfamiliar"]["low"] < 0.1
    assert (
        main(
            [
                "reward-check",
                str(good),
                str(tmp_path / "strange.jsonl"),
                "--reference",
                str(tmp_path / "usual.jsonl"),
                "--out",
                str(tmp_path / "o.json"),
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "o.json").read_text())["familiarity"]
    assert found["unfamiliar"]["low"] > 0.5
    assert found["new"] > 2 * found["usual"]


def test_a_card_is_written_that_online_reads(good: Path, checked: Checked, tmp_path: Path) -> None:
    shutil.copytree(good / "model", tmp_path / "copy")
    (tmp_path / "copy" / "report_card.json").unlink()
    found = checked(tmp_path / "copy", "--card")
    card = ReportCard.read_from(str(tmp_path / "copy"))
    assert card is not None
    assert (card.accuracy, card.over_length_low, card.judgments) == (
        found["figures"]["accuracy"]["value"], found["figures"]["over_length"]["low"], found["pairs"],
    )  # fmt: skip
    card.check(0.55, 0.05)


def test_the_run_of_a_model_says_what_it_knows_and_what_it_was_trained_on(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pairs = a_world(60, 1)
    for name, rows in (("pairs", pairs), ("one", pairs[:40]), ("two", pairs[40:])):
        write_rows(tmp_path / f"{name}.jsonl", rows)
    words = ["reward", "--model", str(home / "base"), "--preferences", str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl"),
             "--out", str(tmp_path / "run"), "--runs", str(tmp_path), "--epochs", "0.2"]  # fmt: skip
    if not (home / "base").is_dir():
        train(home, "base-only", a_world(20, 2))
    assert main(words) == 0
    capsys.readouterr()
    assert main(["reward-check", str(tmp_path / "run"), str(tmp_path / "pairs.jsonl")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "note: 60 of 60 prompts are among those that the model was trained on, so its accuracy is too high" in out
    assert "unfamiliar completions: " in out


def test_the_sets_are_made_of_the_pairs(good: Path) -> None:
    from palate.core import Completion, Message, Preference, Prompt

    prompt = Prompt("a", (Message("user", "what can we make?"),))
    pair = Preference(prompt, Completion("rice. butter and beans."), Completion("mud. ash."))
    book = ScoreBook(RewardModels.load((str(good),)))
    found = {one.name: one for one in attack_results(book, [pair], (PHRASE,))}
    assert set(found) == {
        "longer but wrong",
        "null answer",
        "repeated text",
        "prompt copied",
        "reassuring but wrong",
        "reassuring but empty",
    }
    made = {text.text for _, text in book._known}
    assert made == {
        "rice. butter and beans.", "mud. ash.", "mud. ash. mud. ash. mud. ash.", "", f"{PHRASE} mud. ash.", PHRASE, "what can we make?",
        "rice. rice. rice. rice. rice. rice. rice. rice. rice. rice. rice. rice.",
    }  # fmt: skip
