"""A reward model's card: near chance or nearly constant, it is refused before anything is trained on it."""

import json
import math
from pathlib import Path

import pytest

from palate.core import ModelError, TrainingError
from palate.rewards.learned import ReportCard

NEEDED = (0.55, 0.05)


def card(accuracy: float = 0.7, judgments: int = 1000, spread: float = 1.0) -> ReportCard:
    return ReportCard(accuracy, judgments, spread, length_rule=0.52)


@pytest.mark.parametrize(
    ("weak", "told"),
    [
        (card(0.5), r"near chance: accuracy 0\.500 \+- 0\.031 on 1000 held-out judgments"),
        (card(0.54, 100_000), r"accuracy 0\.540 \+- 0\.003.*needed: 0\.55"),
        (card(0.6, 50), r"accuracy 0\.600 \+- 0\.136 on 50"),  # one half is inside the interval
        (card(0.3), r"accuracy 0\.300"),
        (card(0.5, 0), r"on 0 held-out judgments"),
        (card(spread=0.049), r"scores is 0\.0490 logits \(0\.05 needed\)"),
        (card(spread=0.0), r"scores is 0\.0000"),
        (
            ReportCard(0.7, 1000, 1.0, 0.7),
            r"a rule that looks at the length alone: accuracy 0\.700 against 0\.700 on 1000 held-out judgments\. A",
        ),
        (
            ReportCard(0.7, 1000, 1.0, 0.66, -0.002),
            r"accuracy 0\.700 against 0\.660 .*, and the interval of the difference begins at -0\.002",
        ),
        (ReportCard(0.7, 1000, 1.0, 0.66, 0.0), r"begins at \+0\.000"),
    ],
    ids=str,
)
def test_weak_reward_models_are_refused_with_the_figure(weak: ReportCard, told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        weak.check(*NEEDED)


@pytest.mark.parametrize(
    "good", [card(), card(0.56, 10_000), card(0.55, 100_000), card(spread=0.05), ReportCard(0.7, 1000, 1.0, 0.66, 0.001)], ids=str
)
def test_sound_reward_models_are_trusted(good: ReportCard) -> None:
    good.check(*NEEDED)
    with pytest.raises(TrainingError):  # the same card fails a higher bar: it was looked at
        good.check(good.accuracy + 0.1, NEEDED[1])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"accuracy": 0.7}', json.dumps({**vars(card()), "newer": 1}), json.dumps(vars(card(spread=math.nan)))]
)
def test_a_card_that_cannot_be_read_says_how_to_write_it_again(text: str, tmp_path: Path) -> None:
    (tmp_path / "report_card.json").write_text(text)
    with pytest.raises(ModelError, match=r"report_card\.json .*Write it again with `palate reward-check MODEL PAIRS --card`"):
        ReportCard.read_from(str(tmp_path))


@pytest.mark.parametrize("accuracy", [0.0, -1.0])
def test_whoever_asks_for_no_accuracy_trusts_everything(accuracy: float) -> None:
    weak = card(0.5, 10, 0.0)
    weak.check(accuracy, 0.05)
    ReportCard(0.7, 1000, 1.0, 0.66, -0.1).check(accuracy, 0.05)
    with pytest.raises(TrainingError):
        weak.check(*NEEDED)


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert ReportCard.read_from(str(tmp_path)) is None
    card().write(tmp_path)
    assert ReportCard.read_from(str(tmp_path)) == card()
    measured = ReportCard(0.7, 1000, 1.0, 0.66, 0.01)
    measured.write(tmp_path)
    assert ReportCard.read_from(str(tmp_path)) == measured
