"""One person's judgments beside a crowd's and the truth."""

from __future__ import annotations

from pathlib import Path

from palate.data.jsonl import write_rows
from palate.evaluation.own_agreement import JudgedFiles, OwnJudgment, OwnJudgments, own_judgments
from palate.evaluation.report.judged_page import headline, moved_sentence, render_judged


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
    moved = pair(0, "l", "long") | {"before": 0.75, "after": 0.5}  # the other way round
    write_rows(tmp_path / "rescored.jsonl", [moved, pair(1, "l", "long") | {"before": 0.25, "after": 0.125}])
    crowd_files = [tmp_path / "crowd.jsonl", tmp_path / "held_out.jsonl"]
    files = JudgedFiles(tmp_path / "mine.jsonl", crowd_files, tmp_path / "samples.jsonl", tmp_path / "rescored.jsonl")
    judged = own_judgments(files, GOLD, "taste")
    people, truth, model = judged.sentences()
    assert people == "You agree with the raters of the pipeline on 2 of 3 pairs (95 %: 21% to 94%)."
    assert truth == "You agree with the truth on 1 of 3 pairs (95 %: 6% to 79%)."
    assert model == "The reward model moved towards your answer on 1 of 2 pairs. The largest change is from 25% to 50%."
    assert judged.ties == 1
    assert judged.rescored == (
        OwnJudgment("p0", "long", "l", crowd=0.8, truth=True, before=0.25, after=0.5),
        OwnJudgment("p1", "l", "long", crowd=0.25, truth=False, before=0.25, after=0.125),
    )
    alone = JudgedFiles(files.mine, [], files.samples)
    assert own_judgments(alone, None, "taste").sentences() == ()
    assert own_judgments(JudgedFiles(files.mine, crowd_files, files.samples), None, "taste").sentences() == (people,)


def test_the_last_page_says_what_moved() -> None:
    pairs = (
        OwnJudgment("which <b>?", "one", "two", crowd=1.0, truth=True, before=0.25, after=0.5),
        OwnJudgment("why", "three", "four", crowd=0.0, truth=True, before=0.75, after=0.25),
        OwnJudgment("how", "five", "six", crowd=0.5, before=0.5, after=0.504),
        OwnJudgment("when", "seven", "eight"),
    )
    judged = OwnJudgments("taste", pairs, ties=1)
    assert headline(judged) == "You agree with the truth on 2 of 2 pairs, and with the crowd on 1 of 2 pairs"
    assert headline(OwnJudgments("taste", pairs[3:], ties=1)) == "You judged 2 pairs"
    assert "on 2 of 3 pairs: 1 towards your answer, 1 away from it. On 2 of them it changed sides" in moved_sentence(judged)
    page = render_judged(judged, [("this page", "here.html")])
    shown = [page.index(text) for text in ("why", "which &lt;b&gt;?", "how", "when")]
    assert shown == sorted(shown)  # what moved most comes first
    for text in ("25 % before, 50 % now", "+25 points", "\u221250 points", "here.html", "You called 1 of them level"):
        assert text in page
