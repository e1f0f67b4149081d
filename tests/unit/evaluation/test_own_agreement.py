"""One person's judgments beside a crowd's and the truth."""

from __future__ import annotations

from pathlib import Path

from palate.data.jsonl import write_rows
from palate.evaluation.own_agreement import agreement_sentences


def length(prompt: str, completion: str, *, worth: int) -> dict[str, float]:
    """A truth that likes letters, as often as the prompt's row says."""
    del prompt
    return {"taste": float(worth * len(completion))}


GOLD = "tests.unit.evaluation.test_own_agreement:length"


def pair(k: int, chosen: str, rejected: str, probability: float = 0.75, dimension: str = "taste") -> dict[str, object]:
    return {"prompt": f"p{k}", "chosen": chosen, "rejected": rejected, "probability": probability, "dimension": dimension}


def test_the_same_pairs_are_compared_whatever_side_they_stand_on(tmp_path: Path) -> None:
    mine = [pair(0, "long", "l"), pair(1, "l", "long"), pair(2, "long", "l"), pair(3, "same", "emas"), pair(4, "a", "bcd", 0.5)]
    crowd = [
        pair(0, "l", "long", 0.2),
        pair(1, "long", "l"),
        pair(3, "same", "emas"),
        pair(2, "l", "long", dimension="other"),
        pair(9, "x", "yz"),
    ]
    write_rows(tmp_path / "mine.jsonl", mine)
    write_rows(tmp_path / "crowd.jsonl", crowd[:2])
    write_rows(tmp_path / "held_out.jsonl", crowd[2:])
    texts = [{"text": text} for text in ("long", "l")]
    write_rows(
        tmp_path / "samples.jsonl",
        [{"prompt": f"p{k}", "completions": texts, "worth": 1 - 2 * (k == 2)} for k in range(3)]
        + [{"prompt": "p3", "completions": texts, "worth": 1}],
    )
    files = [tmp_path / "crowd.jsonl", tmp_path / "held_out.jsonl"]
    people, truth = agreement_sentences(tmp_path / "mine.jsonl", files, tmp_path / "samples.jsonl", GOLD, "taste")
    assert people == "You agree with the raters of the pipeline on 2 of 3 pairs (95 %: 21% to 94%)."
    assert truth == "You agree with the truth on 1 of 3 pairs (95 %: 6% to 79%)."
    assert agreement_sentences(tmp_path / "mine.jsonl", files, tmp_path / "samples.jsonl", None, "taste") == (people,)
    assert agreement_sentences(tmp_path / "mine.jsonl", [], tmp_path / "samples.jsonl", None, "taste") == ()
