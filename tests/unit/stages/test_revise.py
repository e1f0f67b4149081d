"""Stage revise: what the model is asked, what each round makes of a text, what later stages get, and that it goes on exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from palate.core import ConfigError, DataError, Interrupted, Sampling
from palate.data.formats import read_demonstrations, read_preferences, read_samples
from palate.data.jsonl import write_rows
from palate.runs.record import RunPlan
from palate.runs.run import Run, open_run_at
from palate.samplers.openai_sampler import OpenAISamplerSettings
from palate.stages import revise as module
from palate.stages.revise import Revise
from palate.testing import tiny_policy
from palate.testing.completions_server import CompletionsServer, policy_answers
from palate.testing.templates import chat_tokenizer
from tests.support.stages import dropped_of, ran, rows_of, summary_of

PRINCIPLES = """\
name: two
principles:
  - {id: safe, dimension: harmless, text: the safer one, critique: What is unsafe, revision: Make it safe}
  - {id: right, dimension: honest, text: the true one, critique: What is false, revision: Make it right}
"""
EXAMPLES = """\
examples:
  - {principle: right, prompt: Sum, completion: "5", critique: It is 4, revision: "4"}
"""
TEXT = "turns: {kind: text, user: 'Q {text} ', assistant: 'A {text} ', critique: '{request}? {text} ', revision: '{request}! {text} '"
Answering = Callable[[str], tuple[str, bool]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model of bytes that takes 1,024 of them."""
    folder = tmp_path_factory.mktemp("model")
    tiny_policy("llama", chat_tokenizer()).save(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1024}))
    return folder


class Asked:
    """A server whose answers a test writes; it remembers the texts that it was asked to continue."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.answering: Answering = lambda text: ("", False)
        self.server = CompletionsServer(self.answer)
        self.tokenizer = chat_tokenizer()

    def answer(self, body: Mapping[str, Any]) -> tuple[int, object]:
        text = self.tokenizer.decode(body["prompt"])
        self.texts.append(text)
        written, is_ended = self.answering(text)
        return 200, {"choices": [{"index": 0, "text": written, "finish_reason": "stop" if is_ended else "length"}]}


@pytest.fixture
def asked() -> Iterator[Asked]:
    found = Asked()
    yield found
    found.server.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two drafts of one prompt, one of another with a system text, and helpful demonstrations."""
    (tmp_path / "constitution.yaml").write_text(PRINCIPLES)
    system = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Kill it"}]
    rows = [
        {"id": "fire", "prompt": [{"role": "user", "content": "Fire"}], "completions": ["Burn it", "Stop"], "level": 3},
        {"id": "kill", "prompt": system, "completions": [{"text": "Stab i", "stop": "length"}]},
    ]
    write_rows(tmp_path / "drafts.jsonl", rows)
    helpful = (
        {"prompt": [{"role": "user", "content": f"Add {k}"}], "completion": [{"role": "assistant", "content": str(k)}]} for k in range(9)
    )
    write_rows(tmp_path / "helpful.jsonl", helpful)
    return tmp_path


def revise(home: Path, model: Path, asked: Asked | None = None, **settings: Any) -> Revise:
    if asked is not None:
        settings["sampler"] = OpenAISamplerSettings(url=asked.server.url, model="small", concurrency=1, attempts=1)
    return Revise(
        str(model),
        str(home / "drafts.jsonl"),
        constitution=str(home / "constitution.yaml"),
        **{"rounds": 1, "sampling": Sampling(max_tokens=8), **settings},
    )


def gold(prompt: str, completion: str, level: int = 0) -> dict[str, float]:
    """A truth: short texts are harmless, and honest is what has no "!"."""
    del prompt
    return {"harmless": 1 / (1 + len(completion)), "honest": float("!" not in completion), "level": float(level)}


def test_each_request_is_a_turn_of_the_user_after_the_examples(home: Path, model: Path, asked: Asked, tmp_path: Path) -> None:
    (home / "constitution.yaml").write_text(PRINCIPLES + EXAMPLES)
    asked.answering = lambda text: (("No fire" if "Make it" in text.rpartition("<|open|>user\n")[2] else "It burns"), True)
    done = ran(revise(home, model, asked), tmp_path / "run", "revise")
    rounds = [row["rounds"][0] for row in rows_of(done, "revisions.jsonl")]
    requests = {"safe": ("What is unsafe", "Make it safe"), "right": ("What is false", "Make it right")}
    example = [("user", "Sum"), ("assistant", "5"), ("user", "What is false"), ("assistant", "It is 4"), ("user", "Make it right")]
    example += [("assistant", "4")]

    def written(*turns: tuple[str, str]) -> str:
        return "".join(f"<|open|>{role}\n{text}<|close|>\n" for role, text in turns) + "<|open|>assistant\n"

    drafts = ([("user", "Fire")], "Burn it"), ([("user", "Fire")], "Stop"), ([("system", "Be kind"), ("user", "Kill it")], "Stab i")
    critiques, revisions = [], []
    for (prompt, text), found in zip(drafts, rounds, strict=True):
        ask, again = requests[found["principle"]]
        system = [turn for turn in prompt if turn[0] == "system"]
        begun = [*system, *example, *prompt[len(system) :], ("assistant", text), ("user", ask)]
        critiques.append(written(*begun))
        revisions.append(written(*begun, ("assistant", "It burns"), ("user", again)))
    assert asked.texts == critiques + revisions
    assert {found["principle"] for found in rounds} <= set(requests)
    assert [(found["critique"], found["revision"], found["text"]) for found in rounds] == [("It burns", "No fire", "No fire")] * 3


def test_without_a_critique_the_revision_is_asked_for_at_once(home: Path, model: Path, asked: Asked, tmp_path: Path) -> None:
    (home / "constitution.yaml").write_text(PRINCIPLES + EXAMPLES)
    asked.answering = lambda _: ("No fire", True)
    done = ran(revise(home, model, asked, critique=False, limit=1), tmp_path / "run", "revise")
    assert len(asked.texts) == 2
    assert "It is 4" not in asked.texts[0]
    assert asked.texts[0].count("user\nMake it") == 2
    assert "What is" not in asked.texts[0]
    assert [row["rounds"][0]["critique"] for row in rows_of(done, "revisions.jsonl")] == ["", ""]


def test_plain_text_ends_where_the_next_turn_begins(home: Path, model: Path, asked: Asked, tmp_path: Path) -> None:
    (home / "constitution.yaml").write_text(PRINCIPLES + EXAMPLES + TEXT + ", ends: [' Q ', ' A ']}")
    asked.answering = lambda text: (" Hot Q more" if text.endswith("?") else " No", not text.endswith("?"))
    done = ran(revise(home, model, asked, limit=1), tmp_path / "run", "revise")
    found = [row["rounds"][0] for row in rows_of(done, "revisions.jsonl")]
    ask = {"safe": ("What is unsafe", "Make it safe"), "right": ("What is false", "Make it right")}
    example = "Q Sum A 5 What is false? It is 4 Make it right! 4 "
    begun = [f"{example}Q Fire A {text} {ask[one['principle']][0]}?" for text, one in zip(("Burn it", "Stop"), found, strict=True)]
    assert asked.texts == [*begun, *(f"{text} Hot {ask[one['principle']][1]}!" for text, one in zip(begun, found, strict=True))]
    assert [(one["critique"], one["revision"], one["outcome"]) for one in found] == [("Hot", "No", "revised")] * 2


@pytest.mark.parametrize(
    ("critique", "revision", "outcome", "text"),
    [
        (("Hot", True), ("Cold", True), "revised", "Cold"),
        (("Hot", True), (" Stop ", True), "unchanged", "Stop"),
        (("Fine, thanks", True), ("Cold", True), "no complaint", "Stop"),
        (("Hot", False), ("Cold", True), "critique cut", "Stop"),
        (("  ", True), ("Cold", True), "critique empty", "Stop"),
        (("Hot", True), ("Cold", False), "revision cut", "Stop"),
        (("Hot", True), ("\n", True), "revision empty", "Stop"),
    ],
)
def test_only_what_the_model_ended_replaces_a_text(
    home: Path, model: Path, asked: Asked, tmp_path: Path, critique: tuple[str, bool], revision: tuple[str, bool], outcome: str, text: str
) -> None:
    (home / "constitution.yaml").write_text(PRINCIPLES + "no_complaint: [fine]\n")
    write_rows(home / "drafts.jsonl", [{"prompt": [{"role": "user", "content": "Fire"}], "completions": ["Stop"]}])
    asked.answering = lambda asked: revision if "Make it" in asked else critique
    done = ran(revise(home, model, asked, rounds=2), tmp_path / "run", "revise")
    (row,) = rows_of(done, "revisions.jsonl")
    first = row["rounds"][0]
    assert (first["outcome"], first["text"]) == (outcome, text)
    assert first["critique"] == critique[0].strip()
    assert first["revision"] == ("" if outcome.startswith(("no", "critique")) else revision[0].strip())
    assert f"assistant\n{text}<|close|>" in asked.texts[-1]  # the second round starts from the text that the first left
    read = sum(len(asked.tokenizer(text)["input_ids"]) for text in asked.texts)
    assert sum(each["tokens_read"] for each in row["rounds"]) == read == summary_of(done)["tokens_read"]
    assert summary_of(done)["outcomes"][outcome] >= 1
    assert sum(summary_of(done)["outcomes"].values()) == 2
    assert summary_of(done)["changed"] == (text != "Stop")
    is_settled = outcome in {"revised", "unchanged", "no complaint"}
    assert len(rows_of(done, "demonstrations.jsonl")) == is_settled
    assert len(rows_of(done, "preferences.jsonl")) == (outcome == "revised")


def test_the_last_text_is_learned_although_it_was_there_before(home: Path, model: Path, asked: Asked, tmp_path: Path) -> None:
    write_rows(home / "drafts.jsonl", [{"prompt": [{"role": "user", "content": "Fire"}], "completions": ["Stop"]}])
    asked.answering = lambda text: (("Hot" if "assistant\nCold" in text else "Cold") if "Make it" in text else "c", True)
    done = ran(revise(home, model, asked, rounds=3), tmp_path / "run", "revise")
    assert [each["text"] for each in rows_of(done, "revisions.jsonl")[0]["rounds"]] == ["Cold", "Hot", "Cold"]
    (learned,) = read_demonstrations(done / "demonstrations.jsonl").rows
    assert learned.conversation[-1].text == "Cold"
    everything = ran(revise(home, model, asked, rounds=3, keep="all"), tmp_path / "all", "revise")
    assert [each.conversation[-1].text for each in read_demonstrations(everything / "demonstrations.jsonl").rows] == ["Cold", "Hot"]


def numbered(asked: Asked) -> None:
    """Let every revision be another text."""
    asked.answering = lambda text: (f"No {len(asked.texts)}" if "Make it" in text else "Hot", True)


@pytest.mark.parametrize("keep", ["last", "all"])
def test_later_stages_get_revisions_pairs_and_samples(home: Path, model: Path, asked: Asked, tmp_path: Path, keep: str) -> None:
    numbered(asked)
    done = ran(revise(home, model, asked, rounds=3, keep=keep, gold=f"{__name__}:gold"), tmp_path / "run", "revise")
    rows = rows_of(done, "revisions.jsonl")
    assert [row["id"] for row in rows] == ["fire/0", "fire/1", "kill"]
    texts = [[each["text"] for each in row["rounds"]] for row in rows]
    kept = [own if keep == "all" else own[-1:] for own in texts]
    imitated = read_demonstrations(done / "demonstrations.jsonl").rows
    assert [each.conversation[-1].text for each in imitated] == [text for own in kept for text in own]
    pairs = read_preferences(done / "preferences.jsonl").rows
    originals = ["Burn it", "Stop", "Stab i"]
    assert [(pair.chosen.text, pair.rejected.text) for pair in pairs] == [
        (text, original) for own, original in zip(kept, originals, strict=True) for text in own
    ]
    drawn = [each for row in rows for each in row["rounds"] if keep == "all" or each is row["rounds"][-1]]
    assert [(pair.prompt.fields["principle"], pair.dimension) for pair in pairs] == [
        (each["principle"], each["dimension"]) for each in drawn
    ]
    assert [pair.rejected.is_cut for pair in pairs] == [pair.prompt.id.startswith("kill") for pair in pairs]
    assert pairs[0].prompt.fields["level"] == 3
    samples = read_samples(done / "samples.jsonl").rows
    assert [[one.text for one in group] for _, group in samples] == [
        [originals[0], *texts[0], originals[1], *texts[1]],
        [originals[2], *texts[2]],
    ]
    assert [[each["harmless"] for each in row["gold"]] for row in rows] == [
        [gold("", text)["harmless"] for text in (original, *own)] for original, own in zip(originals, texts, strict=True)
    ]
    assert {row["gold"][0]["level"] for row in rows[:2]} == {3.0}
    assert all(row["constitution"].startswith("two@") for row in rows)
    figures = summary_of(done)
    assert [each["n"] for each in figures["gold"]["harmless"]] == [3] * 4
    means = [sum(row["gold"][k]["harmless"] for row in rows) / 3 for k in range(4)]
    assert [each["mean"] for each in figures["gold"]["harmless"]] == pytest.approx(means)
    assert sum(each["drawn"] for each in figures["principles"].values()) == 9
    assert (figures["pairs"], figures["demonstrations"], figures["drafts"]) == (len(pairs), len(imitated), 3)
    gains = [
        (each["principle"], row["gold"][k + 1]["harmless"] - row["gold"][k]["harmless"])
        for row in rows
        for k, each in enumerate(row["rounds"])
    ]
    for name, figure in figures["principles"].items():
        own_gains = [gain for principle, gain in gains if principle == name]
        assert figure["gold"]["harmless"]["mean"] == pytest.approx(sum(own_gains) / len(own_gains))


@pytest.mark.parametrize(("share", "count"), [(0.5, 3), (0.25, 1), (0.9, 9)])
def test_helpful_demonstrations_have_their_share(home: Path, model: Path, asked: Asked, tmp_path: Path, share: float, count: int) -> None:
    numbered(asked)
    stage = revise(home, model, asked, demonstrations=str(home / "helpful.jsonl"), demonstrations_share=share)
    done = ran(stage, tmp_path / "run", "revise")
    prompts = [each.conversation[-2].text for each in read_demonstrations(done / "demonstrations.jsonl").rows]
    helpful = [prompt for prompt in prompts if prompt.startswith("Add")]
    assert (len(prompts) - len(helpful), len(set(helpful)), len(helpful)) == (3, count, count)
    assert summary_of(done)["helpful_demonstrations"] == count
    assert prompts[3:] == helpful != sorted(helpful) or count < 3


def test_a_request_that_does_not_fit_leaves_its_text_and_is_counted(
    home: Path, model: Path, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(asked)
    rows = [{"prompt": [{"role": "user", "content": text}], "completions": ["Stop"]} for text in ("x" * 900, "Fire")]
    write_rows(home / "drafts.jsonl", rows)
    done = ran(revise(home, model, asked, sampling=Sampling(max_tokens=200)), tmp_path / "run", "revise")
    first, second = (row["rounds"][0] for row in rows_of(done, "revisions.jsonl"))
    assert (first["outcome"], first["text"], second["outcome"], second["refusal"]) == ("request refused", "Stop", "revised", "")
    assert re.search(r"critique has \d+ tokens, and the model takes 1024", first["refusal"])
    assert len(rows_of(done, "demonstrations.jsonl")) == 1
    monkeypatch.setattr(module, "DRAFTS_PER_CHUNK", 1)  # a chunk of which nothing can be read ends nothing
    again = ran(revise(home, model, asked, sampling=Sampling(max_tokens=200)), tmp_path / "again", "revise")
    assert [row["rounds"][0]["outcome"] for row in rows_of(again, "revisions.jsonl")] == ["request refused", "revised"]
    write_rows(home / "drafts.jsonl", rows[:1])
    with pytest.raises(DataError, match=r"can read no request about its completions\. The first: .* has \d+ tokens"):
        ran(revise(home, model, asked, sampling=Sampling(max_tokens=200)), tmp_path / "long", "revise")


def test_prompts_without_samples_are_left_out_and_counted(home: Path, model: Path, asked: Asked, tmp_path: Path) -> None:
    numbered(asked)
    with (home / "drafts.jsonl").open("a") as file:
        file.write('{"prompt": "alone"}\n')
    done = ran(revise(home, model, asked), tmp_path / "run", "revise")
    (counts,) = dropped_of(done).values()
    assert sum(counts.values()) == 1


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAFTS_PER_CHUNK", 3)


@pytest.fixture
def many(home: Path) -> Path:
    rows = [{"prompt": [{"role": "user", "content": f"Fire {k}"}], "completions": ["Burn"]} for k in range(8)]
    write_rows(home / "drafts.jsonl", rows)
    return home


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("sampler", ["local", "openai"])
def test_a_run_that_was_killed_goes_on_with_the_next_row(many: Path, model: Path, tmp_path: Path, sampler: str) -> None:
    server = CompletionsServer(policy_answers(tiny_policy("llama", chat_tokenizer())))
    settings = {} if sampler == "local" else {"sampler": OpenAISamplerSettings(url=server.url, model="small")}
    stage = revise(many, model, rounds=2, sampling=Sampling(max_tokens=4), **settings)
    straight = ran(stage, tmp_path / "straight", "revise")
    lines = (straight / "revisions.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 8
    assert len({json.loads(line)["rounds"][0]["critique"] for line in lines}) > 4
    for at in (1, 3, 4, 8):
        directory = tmp_path / str(at)
        open_run_at(directory, RunPlan("revise", "revise", seed=1))
        (directory / "revisions.jsonl").write_text("".join(lines[:at]) + '{"id": "hal')
        ran(stage, directory, "revise")
        for name in ("revisions.jsonl", "demonstrations.jsonl", "preferences.jsonl", "samples.jsonl", "summary.json"):
            assert (directory / name).read_bytes() == (straight / name).read_bytes(), name
    other = ran(stage, tmp_path / "other", "revise", seed=2)
    drawn = [[[each["principle"] for each in row["rounds"]] for row in rows_of(run, "revisions.jsonl")] for run in (straight, other)]
    assert drawn[0] != drawn[1]
    assert len({tuple(principles) for principles in drawn[0]}) > 2
    server.close()


@pytest.mark.usefixtures("chunks")
def test_a_stop_comes_between_chunks(many: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(run: Run) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(Run, "check_stop", stop)
    with pytest.raises(Interrupted):
        ran(revise(many, model, sampling=Sampling(max_tokens=4)), tmp_path / "run", "revise")
    assert len(rows_of(tmp_path / "run", "revisions.jsonl")) == 3


def test_settings_that_contradict_each_other_are_refused_before_anything_runs(home: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="demonstrations and demonstrations_share need each other"):
        revise(home, model, demonstrations_share=0.5).check()
    with pytest.raises(ConfigError, match="demonstrations and demonstrations_share need each other"):
        revise(home, model, demonstrations=str(home / "helpful.jsonl")).check()
    (home / "constitution.yaml").write_text("principles: []\n")
    with pytest.raises(ConfigError, match="there are no principles"):
        revise(home, model).check()
    with pytest.raises(ConfigError, match="top_k"):
        revise(home, model, sampling=Sampling(top_k=-1)).check()
    Revise(str(model), str(home / "drafts.jsonl")).check()
    Revise(str(model), str(home / "drafts.jsonl"), constitution=str(home / "later" / "constitution.yaml")).check()
