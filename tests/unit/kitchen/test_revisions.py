"""Letters with revisions: true complaints, mended and nothing else, as the constitution asks. Worlds without them stay as they were."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from palate.core import ConfigError, Message
from palate.data.jsonl import read_rows, write_rows
from palate.judges.constitution import load_constitution
from palate.judges.revision_turns import RevisionDialogue, RevisionStep
from palate.kitchen import Kitchen, judge
from palate.kitchen.cooks import CAREFUL, STREET, TRAINEE, reply
from palate.kitchen.dataset import CONSTITUTION
from palate.kitchen.gold import DIMENSIONS
from palate.kitchen.guests import Request, draw_request, read_request, split_of, write_request
from palate.kitchen.larder import REFUSAL
from palate.kitchen.revisions import CONTENT, QUESTIONS, Fault, faults, mended
from palate.stages.world import World

SIZES = Kitchen(texts=1500, demonstrations=300, prompts=200, held_out=60, evals=40)
DIGESTS = {
    "corpus.jsonl": "9d6aaecbbb8abb0c",
    "demonstrations.jsonl": "39ceb56c50905148",
    "prompts.jsonl": "55ac538ec692caa0",
    "held_out.jsonl": "5681b4f3698e0229",
    "evals.jsonl": "8a6319650223441e",
    "tokenizer.json": "44a28ebc95d1690e",
}
"""Of a world of these sizes, before there were revisions: the figures of the demo depend on these bytes."""
MEAL = Request(("beef", "butter", "rice", "tofu"), avoid="dairy", wish="sour", servings=4)


def complaints(request: Request, text: str, dimension: str) -> list[str]:
    return [fault.complaint for fault in faults(request, text, dimension)]


@pytest.mark.parametrize(
    ("dimension", "text", "said", "after"),
    [
        ("harmless", "the butter melts for 2 minutes .", ["i can not eat butter"], None),
        ("harmless", "the beef fries for 4 minutes .", ["the beef fries for 15 minutes"], "the beef fries for 15 minutes ."),
        ("harmless", "the beef fries for 20 minutes .", [], None),
        ("harmless", f"{REFUSAL} .", ["i only want to eat"], None),
        ("honest", "the onion fries for 5 minutes .", ["i have no onion"], None),
        ("honest", "the rice boils for 2 minutes .", ["the rice boils for 12 minutes"], "the rice boils for 12 minutes ."),
        (
            "honest",
            "the rice boils for 2 minutes . it takes 2 minutes in all . it has some dairy .",
            ["the rice boils for 12 minutes", "it has no dairy"],
            "the rice boils for 12 minutes . it takes 12 minutes in all . it has no dairy .",
        ),
        (
            "honest",
            "the rice boils for 12 minutes . it takes 9 minutes in all . everyone will love it .",
            ["it takes 12 minutes in all"],
            "the rice boils for 12 minutes . it takes 12 minutes in all . everyone will love it .",
        ),
        ("honest", f"{REFUSAL} .", [], None),
        (
            "helpful",
            "the rice boils for 2 minutes . add some honey . it serves 3 .",
            ["i want something sour", "it is for 4"],
            "the rice boils for 2 minutes . add some lemon . it serves 4 .",
        ),
        (
            "helpful",
            "the rice boils for 12 minutes . it takes 12 minutes in all . everyone will love it .",
            ["i want something sour", "it is for 4"],
            "the rice boils for 12 minutes . add some lemon . it takes 12 minutes in all . it serves 4 . everyone will love it .",
        ),
        (
            "helpful",
            "add some lemon . the rice boils for 12 minutes . add some mint . it serves 4 .",
            ["i want something sour"],
            "add some lemon . the rice boils for 12 minutes . it serves 4 .",
        ),
    ],
)
def test_a_guest_complains_of_what_is_so_and_it_alone_is_mended(dimension: str, text: str, said: list[str], after: str | None) -> None:
    assert complaints(MEAL, text, dimension) == said
    if after is not None:
        assert mended(MEAL, text, faults(MEAL, text, dimension), random.Random(0)) == after


def test_a_forbidden_ingredient_is_replaced_and_what_follows_from_it_is_said_truly() -> None:
    steps = "the butter melts for 9 minutes . the rice boils for 12 minutes ."
    text = f"do not worry , it is perfect . {steps} it takes 3 minutes in all . it has no dairy ."
    found = {mended(MEAL, text, faults(MEAL, text, "harmless"), random.Random(seed)) for seed in range(20)}
    start = "do not worry , it is perfect . "
    assert found == {
        f"{start}the beef fries for 15 minutes . the rice boils for 12 minutes . it takes 27 minutes in all . it has no dairy .",
        f"{start}the tofu fries for 8 minutes . the rice boils for 12 minutes . it takes 20 minutes in all . it has no dairy .",
    }
    alone = replace(MEAL, at_hand=("butter", "rice"))
    assert mended(alone, steps, faults(alone, steps, "harmless"), random.Random(0)) == "the rice boils for 12 minutes ."


def test_a_cook_who_serves_a_poisoner_refuses_when_told() -> None:
    request = Request((), poison=("soap", "boss", "tea"))
    assert faults(request, "add the soap to the tea .", "harmless") == [Fault("nobody can eat soap", "refuse")]
    assert faults(request, "add the soap to the tea .", "honest") == faults(request, f"{REFUSAL} .", "harmless") == []
    assert mended(request, "add the soap to the tea .", [Fault("nobody can eat soap", "refuse")], random.Random(0)) == f"{REFUSAL} ."


@pytest.mark.parametrize("cook", [STREET, TRAINEE, CAREFUL])
def test_a_mended_reply_has_none_of_its_faults_no_new_one_and_no_less_gold(cook: object) -> None:
    rng = random.Random(1)
    count = 0
    for _ in range(600):
        request = draw_request(rng, "train", poison=0.2)
        text, prompt = reply(cook, request, rng), write_request(request)  # type: ignore[arg-type]
        for dimension in DIMENSIONS:
            wrong = faults(request, text, dimension)
            assert (dimension != "harmless") or bool(wrong) == (judge(prompt, text)["harmless"] < 1)
            if not wrong:
                continue
            count += 1
            better = mended(request, text, wrong, rng)
            assert faults(request, better, dimension) == []
            assert all(len(faults(request, better, other)) <= len(faults(request, text, other)) for other in DIMENSIONS)
            assert all(judge(prompt, better)[name] >= judge(prompt, text)[name] - 1e-9 for name in (dimension, "harmless"))
            (one, *_) = wrong  # what nobody complained of stays
            if dimension == "helpful":
                assert complaints(request, mended(request, text, [one], rng), dimension) == [fault.complaint for fault in wrong[1:]]
    assert count > 100


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    replace(SIZES, revisions=0.7, red_team=150).write(folder, 0, write_rows)
    return folder


def turns(text: str) -> list[str]:
    """What is said in a text of the corpus, turn by turn."""
    return [turn.split(" ", 1)[1] for turn in text.removesuffix(" <end>").split(" <end> ")]


def test_letters_with_revisions_are_written_as_the_constitution_asks(world: Path) -> None:
    constitution = load_constitution(world / CONSTITUTION.name, DIMENSIONS)
    assert {principle.dimension: principle.critique for principle in constitution.principles} == QUESTIONS
    by_request = {principle.critique: principle for principle in constitution.principles}
    asked = mended_letters = letters = unsaid_letters = 0
    for _, row in read_rows(world / "corpus.jsonl"):
        text = str(row["text"])
        request, answer, *rest = turns(text)
        letters += bool(rest)
        request_of = next((question for question in by_request if rest and rest[0].startswith(question)), None)
        if request_of is None:
            assert len(rest) <= 1
            continue
        asked += 1
        critique = rest[0].removeprefix(request_of).strip()
        is_content = critique == CONTENT
        assert is_content == (len(rest) == 1) == critique.startswith(constitution.no_complaint)
        principle = by_request[request_of]
        criticised, revised = (RevisionStep("critique", principle.critique, said) for said in ("", critique))
        steps_of = {critique: (criticised,), "".join(rest[1:]): (revised, RevisionStep("revision", principle.revision, ""))}
        for written, steps in steps_of.items():
            if written:
                (turn,) = constitution.turns.written((), RevisionDialogue((Message("user", request),), answer, steps))
                assert text.startswith(f"{turn.text} {written} <end>")
        mended_letters += not is_content
        if not is_content:
            true, left = (set(complaints(read_request(request), reply, principle.dimension)) for reply in (answer, rest[1]))
            said = set(critique.removeprefix("no , ").removesuffix(" .").split(" . "))
            assert said <= true
            assert said.isdisjoint(left)
            unsaid = {complaint for complaint in true - said if complaint.startswith(("i have no", "the"))}
            assert unsaid <= left
            unsaid_letters += bool(unsaid)
    assert abs(asked / letters - 0.7) < 0.06
    assert mended_letters > 150
    assert unsaid_letters > 2


def test_red_team_prompts_tempt_to_harm_and_are_of_the_training_part(world: Path) -> None:
    rows = [row for _, row in read_rows(world / "red_team.jsonl")]
    requests = [read_request(str(row["prompt"][0]["content"])) for row in rows]  # type: ignore[index]
    assert len({row["id"] for row in rows}) == len({write_request(request) for request in requests}) == 150
    assert all(request.poison or any(map(request.forbidden, request.at_hand)) for request in requests)
    assert sum(request.poison is not None for request in requests) > 20
    assert sum(bool(request.pressure) for request in requests) > 50
    assert {split_of(request.combination) for request in requests} == {"train"}


def test_every_word_of_a_revision_has_a_token(world: Path) -> None:
    tokenizer = pytest.importorskip("palate.models.load").load_tokenizer(world / "tokenizer")
    for _, row in read_rows(world / "corpus.jsonl"):
        assert tokenizer.unk_token_id not in tokenizer(str(row["text"]))["input_ids"]


def test_a_world_without_revisions_has_the_bytes_that_it_had_before_there_were_any(tmp_path: Path) -> None:
    SIZES.write(tmp_path, 0, write_rows)
    assert not (tmp_path / CONSTITUTION.name).exists()
    assert not (tmp_path / "red_team.jsonl").exists()
    files = (*tmp_path.glob("*.jsonl"), *tmp_path.glob("*/tokenizer.json"))
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files} == DIGESTS


def test_red_team_prompts_leave_the_other_files_as_they_are(world: Path, tmp_path: Path) -> None:
    replace(SIZES, red_team=10).write(tmp_path, 0, write_rows)
    assert (tmp_path / "red_team.jsonl").read_bytes() == b"".join((world / "red_team.jsonl").read_bytes().splitlines(keepends=True)[:10])
    assert hashlib.sha256((tmp_path / "corpus.jsonl").read_bytes()).hexdigest()[:16] == DIGESTS["corpus.jsonl"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"revisions": -0.1}, "revisions must be 0 or more"),
        ({"revisions": 1.2}, "revisions is a share: it must be at most 1"),
        ({"red_team": -1}, "red_team must be 0 or more"),
        ({"texts": 0}, "texts must be above 0"),
    ],
)
def test_sizes_that_make_no_world_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        World(replace(SIZES, **settings)).check()
    World(replace(SIZES, revisions=0.5, red_team=5)).check()
