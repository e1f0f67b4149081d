"""Stage collect: shares are smoothed votes, what cannot be compared is counted, held-out prompts stay held out."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from palate.config.read import read_config
from palate.config.settings import Settings
from palate.core import ConfigError, DataError, Judgment
from palate.data.formats import read_preferences
from palate.data.jsonl import read_rows, write_rows
from palate.kitchen.guests import draw_request, write_request
from palate.raters import simulated
from palate.raters.answer_shares import first_share
from palate.raters.simulated import RaterPool, Simulated
from palate.runs.record import RunPlan
from palate.runs.run import open_run
from palate.stages.collect import Collect
from palate.stages.reward import Reward

GOLD = "palate.kitchen:judge"
SIMULATED = Simulated(GOLD)


def samples(path: Path, completions: list[tuple[str, str]], prompts: int = 30) -> str:
    """A samples.jsonl of so many prompts, each with the completions (text, stop)."""
    import random

    rng = random.Random(0)
    rows: list[dict[str, object]] = []
    while len(rows) < prompts:
        text = write_request(draw_request(rng, "train"))
        shown = [{"text": text, "stop": stop, "tokens": len(text.split())} for text, stop in completions]
        rows.append({"id": f"p{len(rows)}", "prompt": [{"role": "user", "content": text}], "completions": shown})
    write_rows(path / "samples.jsonl", rows)
    return str(path)


def collect(root: Path, given: str, seed: int = 0, of: Simulated = SIMULATED, **settings: object) -> tuple[Path, dict[str, Any]]:
    """The run's directory and summary."""
    run = open_run(root, RunPlan("judged", "collect", {"given": given, "settings": repr((of, settings))}, seed))
    stage = Collect(given, of, **settings)  # type: ignore[arg-type]
    stage.check()
    with run.active():
        stage.run(run)
    return run.directory, json.loads((run.directory / "summary.json").read_text())


def rows(directory: Path, name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(directory / f"{name}.jsonl")]


THREE = [("it serves 2 .", "eos"), ("it serves 3 . add some mint .", "eos"), ("everyone will love it .", "eos")]


@pytest.mark.parametrize("prior", [1.0, 0.2])
def test_probabilities_are_smoothed_shares_of_the_judgments(prior: float, tmp_path: Path) -> None:
    directory, summary = collect(
        tmp_path, samples(tmp_path, THREE), dimensions=("helpful", "honest"), prior=prior, held_out=0.2,
        of=Simulated(GOLD, pool=RaterPool(reliability=0.5, indifference=0.3), repeat_share=0.5),
    )  # fmt: skip
    votes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows(directory, "judgments"):
        best = row["ranking"][0]
        votes[row["comparison"], row["dimension"]].append(0.5 if len(best) == 2 else float(row["order"][best[0]] == 0))
    assert {len(found) for found in votes.values()} == {1, 2}
    assert {vote for found in votes.values() for vote in found} == {0.0, 0.5, 1.0}
    texts = [text for text, _ in THREE]
    preferences = rows(directory, "preferences") + rows(directory, "held_out")
    assert len(preferences) == len(votes) == summary["questions"] == 30 * 3 * 2
    for row in preferences:
        comparison, dimension = row["id"].rsplit("/", 1)
        first, second = (texts[int(k)] for k in comparison.split("/")[1].split("-"))
        own = votes[comparison, dimension]
        share = (sum(own) + prior / 2) / (len(own) + prior)
        assert row["dimension"] == dimension
        assert row["probability"] == pytest.approx(max(share, 1 - share))
        sides = (first, second) if share >= 0.5 else (second, first)
        assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == sides
        assert row["votes"] == [vote if share >= 0.5 else 1 - vote for vote in own]
        assert len(row["raters"]) == len(set(row["raters"])) == len(own)


def test_one_vote_is_three_quarters_and_two_are_five_sixths(tmp_path: Path) -> None:
    # Words without sense are less helpful for certain where the guest has no wish, and both are worth nothing elsewhere.
    pool = RaterPool(reliability=1.0, sharpness=1e4, length_bias=0.0, side_bias=0.0)
    directory, summary = collect(
        tmp_path, samples(tmp_path, [("it takes 5 minutes in all .", "eos"), ("rice rice .", "eos")], prompts=60), dimensions=("helpful",),
        of=Simulated(GOLD, pool=pool, repeat_share=0.5),
    )  # fmt: skip
    found = {(tuple(row["votes"]), round(row["probability"], 6)) for row in rows(directory, "preferences")}
    assert found == {((1.0,), 0.75), ((1.0, 1.0), round(2.5 / 3, 6)), ((0.5,), 0.5), ((0.5, 0.5), 0.5)}
    assert summary["agreement"] == 1.0


def test_every_question_is_judged_by_different_raters(tmp_path: Path) -> None:
    directory, summary = collect(
        tmp_path, samples(tmp_path, THREE), dimensions=("helpful",), raters_per_comparison=3, of=Simulated(GOLD, repeat_share=0.0)
    )
    for row in rows(directory, "preferences") + rows(directory, "held_out"):
        assert len(row["votes"]) == len(set(row["raters"])) == 3
    assert summary["judgments"] == 3 * summary["questions"]
    assert summary["doubly_judged"] == summary["questions"]


def test_the_ceiling_over_all_is_the_mean_of_the_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 630 pairs, three dimensions each in a row: whoever takes every k-th question must not hear one dimension only.
    monkeypatch.setattr(simulated, "CEILING_SAMPLE", 600)
    given = samples(tmp_path, THREE, prompts=210)
    pool = Simulated(GOLD, pool=RaterPool(reliability=1.0, sharpness=1e4))
    _, summary = collect(tmp_path, given, dimensions=("helpful", "honest", "harmless"), of=pool)
    ceilings = summary["ceilings"]
    overall = ceilings.pop("overall")
    assert max(ceilings.values()) - min(ceilings.values()) > 0.1
    assert overall == pytest.approx(sum(ceilings.values()) / 3, abs=0.02)


def test_raters_who_see_no_difference_all_tie(tmp_path: Path) -> None:
    pool = Simulated(GOLD, pool=RaterPool(length_bias=0.0))
    given = samples(tmp_path, [("it serves 7 .", "eos"), ("it serves 9 .", "eos")])  # nobody asks for so many
    directory, summary = collect(tmp_path, given, dimensions=("honest",), of=pool)
    assert summary["ties"] == summary["judgments"] > 0
    assert "shown_first_wins" not in summary
    assert {row["probability"] for row in rows(directory, "preferences")} == {0.5}


def test_equal_pairs_and_unfinished_completions_are_counted_and_left_out(tmp_path: Path) -> None:
    shown = [("it serves 2 .", "eos"), ("it serves 2 .", "eos"), ("it serves 3 .", "eos"), ("it serves", "length")]
    directory, summary = collect(tmp_path, samples(tmp_path, shown, prompts=10))
    assert summary["equal_pairs"] == 10
    assert summary["unfinished_completions"] == 10
    assert summary["questions"] == 20
    for row in rows(directory, "preferences") + rows(directory, "held_out"):
        assert {row["chosen"][0]["content"], row["rejected"][0]["content"]} == {"it serves 2 .", "it serves 3 ."}


def test_held_out_prompts_are_in_no_training_pair(tmp_path: Path) -> None:
    directory, _ = collect(tmp_path, samples(tmp_path, THREE), held_out=0.3, dimensions=("helpful", "harmless"))
    train, test = ({row["id"].split("/")[0] for row in rows(directory, name)} for name in ("preferences", "held_out"))
    assert len(test) == 9
    assert len(train) == 21
    assert train.isdisjoint(test)
    words = [{json.dumps(row["prompt"]) for row in rows(directory, name)} for name in ("preferences", "held_out")]
    assert words[0].isdisjoint(words[1])


def test_prompts_of_one_conversation_and_other_columns_are_held_out_together(tmp_path: Path) -> None:
    given = Path(samples(tmp_path, THREE, prompts=10)) / "samples.jsonl"
    twins = [{**row, "id": f"{row['id']}-{name}", "fields": {"name": name}} for _, row in read_rows(given) for name in ("one", "two")]
    write_rows(given, twins)
    directory, _ = collect(tmp_path, str(tmp_path), held_out=0.3, dimensions=("helpful",))
    train, test = ({json.dumps(row["prompt"]) for row in rows(directory, name)} for name in ("preferences", "held_out"))
    assert len(test) == 3
    assert train.isdisjoint(test)
    assert {row["id"].split("/")[0][-3:] for row in rows(directory, "held_out")} == {"one", "two"}


def test_pairs_a_prompt_and_reproducibility(tmp_path: Path) -> None:
    given = samples(tmp_path, THREE)
    one, summary = collect(tmp_path / "a", given, pairs_per_prompt=2)
    assert summary["questions"] == 60
    two, _ = collect(tmp_path / "b", given, pairs_per_prompt=2)
    other, _ = collect(tmp_path / "c", given, seed=1, pairs_per_prompt=2)
    for name in ("judgments", "preferences", "held_out"):
        assert (one / f"{name}.jsonl").read_bytes() == (two / f"{name}.jsonl").read_bytes()
    assert (one / "judgments.jsonl").read_bytes() != (other / "judgments.jsonl").read_bytes()


def test_what_is_written_is_read_as_preferences(tmp_path: Path) -> None:
    directory, _ = collect(tmp_path, samples(tmp_path, THREE))
    table = read_preferences(directory / "preferences.jsonl")
    assert table.dropped == []
    assert [one.probability for one in table.rows] == [row["probability"] for row in rows(directory, "preferences")]


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prompt has two different finished completions"):
        collect(tmp_path, samples(tmp_path, [("it serves 2 .", "eos"), ("it serves 2 .", "eos"), ("it", "length")]))


def test_a_vote_counts_for_a_completion_wherever_it_was_shown() -> None:
    def share(ranking: tuple[tuple[int, ...], ...], order: tuple[int, int]) -> float:
        return first_share(Judgment("c", "r", ranking, order=order))

    assert share(((0,), (1,)), (0, 1)) == share(((1,), (0,)), (1, 0)) == 1.0
    assert share(((1,), (0,)), (0, 1)) == share(((0,), (1,)), (1, 0)) == 0.0
    assert share(((0, 1),), (0, 1)) == share(((0, 1),), (1, 0)) == 0.5


@pytest.mark.parametrize(
    "setting",
    [
        {"dimensions": ()},
        {"held_out": 1.0},
        {"from": {"repeat_share": -0.1}},
        {"raters_per_comparison": 0},
        {"raters_per_comparison": 13},
        {"prior": 0.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        settings = Settings({"samples": "s", "from": {"kind": "simulated", "gold": GOLD}})
        for name, value in setting.items():
            for inner, given in value.items() if isinstance(value, dict) else [("", value)]:
                settings = settings.put((name, inner) if inner else (name,), given, "test")
        read_config(Collect, settings).check()


def test_a_reward_model_without_a_test_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out_share"):
        Reward("m", "p", held_out_share=0.0).check()
