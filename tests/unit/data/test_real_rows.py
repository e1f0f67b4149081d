from __future__ import annotations

from palate.data.formats import dropped_summary, read_preferences
from palate.data.jsonl import read_rows
from palate.testing import shared_data


def test_real_transcripts_are_pairs_that_differ_in_the_last_turn() -> None:
    file = shared_data("hh-rlhf/harmless-base_half.jsonl")
    table = read_preferences(file)
    assert (len(table.rows), [dropped.kind for dropped in table.dropped]) == (1154, ["empty completion"] * 2)
    for preference in table.rows:
        roles = [turn.role for turn in preference.prompt.conversation]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    raw = {f"{file}:{number}": row for number, row in read_rows(file)}
    sides = [
        (side.text, str(raw[row.prompt.source][name]))
        for row in table.rows
        for name, side in (("chosen", row.chosen), ("rejected", row.rejected))
    ]
    joined = [said for said, transcript in sides if said != transcript.rpartition("\n\nAssistant:")[2].strip()]
    assert len(joined) == 5  # the rows in which two assistant turns follow each other


def test_real_pairs_of_a_json_list() -> None:
    table = read_preferences(shared_data("oasst1-val-pairs/oasst_en_val_pairs.json"))
    assert (len(table.rows), dropped_summary(table)) == (1021, "1 x the two sides are equal (oasst_en_val_pairs.json:49)")


def test_the_prompts_of_those_pairs_are_turns_that_end_with_the_persons() -> None:
    table = read_preferences(shared_data("oasst1-val-pairs/oasst_en_val_pairs.json"))
    assert {turn.role for row in table.rows for turn in row.prompt.conversation} == {"user", "assistant"}
    for row in table.rows:
        roles = [turn.role for turn in row.prompt.conversation]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
