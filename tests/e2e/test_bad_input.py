"""What users get wrong: one message that says what and where, an exit code, and nothing that was there is touched."""

import json
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.cli import main
from palate.data.jsonl import write_rows
from palate.kitchen import Kitchen
from palate.models.load import Architecture, load_tokenizer, new_policy
from palate.models.scalar import scalar_from
from palate.pipeline.plan import plan_pipeline, read_pipeline
from palate.pipeline.table import STAGES
from palate.rewards.learned import ReportCard
from palate.runs.run import open_run_at

CONFIG, DATA, RUN, TRAINING = 2, 3, 4, 5
PROMPT = {"prompt": [{"role": "user", "content": "how do i cook the rice ?"}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a world, a policy and a reward model, all very small."""
    folder = tmp_path_factory.mktemp("home")
    Kitchen(texts=40, demonstrations=8, prompts=8, held_out=4, evals=2).write(folder / "world", 0, write_rows)
    size = Architecture(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=16, max_positions=96)
    policy = new_policy(load_tokenizer(folder / "world" / "tokenizer"), size, 0)
    policy.save(folder / "policy")
    scalar_from(policy, ("overall",), seed=0).save(folder / "reward")
    ReportCard(0.512, 400, 1.0, 0.5).write(folder / "reward")
    return folder


@pytest.fixture(autouse=True)
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for each test, which is the current folder."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "runs" not in path.relative_to(folder).parts}


@pytest.fixture
def fails(here: Path, capfd: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Gives a command; it must end with the exit code, with one message that holds the texts, and touch no file that was there.

    Before the message a stage may say which rows it leaves out.
    """

    def command(words: str, code: int, *texts: str) -> str:
        before = files(here)
        capfd.readouterr()
        assert main(words.split()) == code
        told = capfd.readouterr().err
        remarks, _, message = told.partition("palate: ")
        assert all(re.match(r"  \w+: .* left out", line) for line in remarks.splitlines()), told
        assert "palate: " not in message
        assert told.endswith("\n")
        assert "Traceback" not in told
        assert message.count("\n") <= 3, "a message is short"
        for text in texts:
            assert text in told
        after = files(here)
        assert {path: after.get(path) for path in before} == before
        return told

    return command


def status(pattern: str) -> tuple[str, str]:
    (path,) = Path("runs").glob(pattern)
    record = json.loads((path / "run.json").read_text())
    return record["status"], record["error"]


def lines(path: str, rows: list[dict[str, object]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("sft --model policy --data nowhere.jsonl", ("--data", "there is nothing at nowhere.jsonl", "Correct the path")),
        ("sft --model nowhere --data world", ("--model", "there is nothing at nowhere", "or the name of the model")),
        ("run nowhere.yaml", ("nowhere.yaml cannot be read", "Correct the path")),
        ("sft --model policy", ("needs 'data'",)),
        ("sft --model policy --data world --epochz 2", ("has no '--epochz'", "Did you mean '--epochs'?")),
        ("sft --model policy --data world --epochs many", ("--epochs", "got 'many'")),
        ("stf --model policy", ("there is no command 'stf'", "Did you mean 'sft'?")),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_there(words: str, texts: tuple[str, ...], fails) -> None:  # type: ignore[no-untyped-def]
    fails(words, CONFIG, *texts)
    assert not Path("runs").exists() or not list(Path("runs").glob("sft*"))


def test_a_directory_that_is_no_model(fails) -> None:  # type: ignore[no-untyped-def]
    fails("sft --model world --data world", DATA, "world is not a model directory: it has no config.json")
    assert status("sft*")[0] == "failed"


def test_files_of_another_format(fails) -> None:  # type: ignore[no-untyped-def]
    Path("table.jsonl").write_text('{"colour": "red"}\n{"colour": "blue"}\n')
    fails("sft --model policy --data table.jsonl", DATA, "table.jsonl:1", "colour")
    Path("text.jsonl").write_text("not json at all\n")
    fails("sft --model policy --data text.jsonl", DATA, "text.jsonl", "not JSON")
    Path("noise.jsonl").write_bytes(random.Random(0).randbytes(2000))
    fails("sft --model policy --data noise.jsonl", DATA, "noise.jsonl")
    Path("empty.jsonl").write_text("")
    fails("sft --model policy --data empty.jsonl", DATA, "empty.jsonl")
    lines("prompts.jsonl", [PROMPT])
    fails("reward --model policy --preferences prompts.jsonl", DATA, "prompts.jsonl", "`chosen` and `rejected`")


def test_rows_of_which_none_can_be_used(fails) -> None:  # type: ignore[no-untyped-def]
    fails("sft --model policy --data world --max_tokens 3", DATA, "no row can be learned from", "too long")
    lines("null.jsonl", [{"prompt": None, "completion": "x"}, {"prompt": "x", "completion": None}])
    fails("sft --model policy --data null.jsonl", DATA, "null.jsonl")


ASK = [{"role": "user", "content": "how do i cook the rice ?"}]
OTHER = [{"role": "user", "content": "how do i cook the beans ?"}]
YES, NO = [{"role": "assistant", "content": "boil the rice ."}], [{"role": "assistant", "content": "no ."}]


@pytest.mark.parametrize("stage", ["direct", "reward"])
@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": ASK, "chosen": YES, "rejected": YES}, "the two sides are equal"),
        ({"prompt": ASK, "chosen": YES, "rejected": []}, "empty `rejected`"),
        ({"chosen": ASK + YES, "rejected": OTHER + NO}, "the sides differ in more than the last assistant turn"),
        ({"prompt": ASK, "chosen": ASK + YES, "rejected": OTHER + NO}, "a side is not one assistant turn"),
        ({"prompt": ASK, "response": "boil the rice .", "helpfulness": 4}, "no other rated completion of this prompt"),
    ],
    ids=str,
)
def test_pairs_that_are_none(stage: str, row: dict[str, object], told: str, fails) -> None:  # type: ignore[no-untyped-def]
    row = {name: value[0]["content"] if name == "prompt" and "response" in row else value for name, value in row.items()}  # type: ignore[index]
    lines("pairs.jsonl", [row])
    fails(f"{stage} --model policy --preferences pairs.jsonl", DATA, "pairs.jsonl:1: ", told)


@pytest.mark.parametrize("command", ["sft --data", "pretrain --tokenizer policy --data", "inspect --model policy"])
def test_the_first_row_that_cannot_be_used_and_its_reason_are_named(command: str, fails) -> None:  # type: ignore[no-untyped-def]
    lines("rows.jsonl", [{"text": " "}, {"text": ""}])
    words = f"{command} rows.jsonl" + (" --model policy" if command.startswith("sft") else "")
    fails(words, DATA, "none of its 2 rows can be used", "rows.jsonl:1: empty `text`")


@pytest.mark.parametrize("stage", ["direct", "reward --held_out_share 0.5"])
def test_pairs_that_are_all_too_long(stage: str, fails) -> None:  # type: ignore[no-untyped-def]
    lines("long.jsonl", [{"prompt": ask, "chosen": YES, "rejected": NO} for ask in (ASK, OTHER)])
    told = ("x too long; the first of them, long.jsonl:", "says: too long: ", "tokens, 5 allowed", "raise max_tokens")
    fails(f"{stage} --model policy --preferences long.jsonl --max_tokens 5", DATA, *told)


def test_rows_that_are_all_cut_away(fails) -> None:  # type: ignore[no-untyped-def]
    lines("long.jsonl", [{"prompt": ASK, "completion": YES}] * 3)
    told = ("3 x too long", "long.jsonl:1, says: too long: ", "tokens, 5 allowed", "max_tokens")
    fails("sft --model policy --data long.jsonl --max_tokens 5", DATA, *told)
    fails("inspect long.jsonl --model policy --max_tokens 5", DATA, *told[:3])


READING = ["sft --model policy --data world", "sample --model policy --prompts world", "inspect data.jsonl --model policy"]


def settings_of_tokenizer(**changes: object) -> None:
    path = Path("policy/tokenizer_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "words", ["sft --model policy --data world", "sample --model policy --prompts world", "inspect data.jsonl --model policy"]
)
def test_a_tokenizer_without_an_end(words: str, fails) -> None:  # type: ignore[no-untyped-def]
    lines("data.jsonl", [{"prompt": ASK, "completion": YES}])
    settings_of_tokenizer(eos_token=None)
    fails(words, DATA, "the tokenizer policy has no EOS token", "Set `eos_token`")


@pytest.mark.parametrize(
    "words", ["sft --model policy --data world", "sample --model policy --prompts world", "inspect data.jsonl --model policy"]
)
def test_a_chat_template_that_cannot_open_an_answer(words: str, fails) -> None:  # type: ignore[no-untyped-def]
    lines("data.jsonl", [{"prompt": ASK, "completion": YES}])
    Path("policy/chat_template.jinja").write_text("{% for m in messages %}{{ '<' + m.role + '> ' + m.content + eos_token }}{% endfor %}")
    fails(
        words,
        DATA,
        "the chat template of policy has no generation prompt",
        "'<assistant> '",
        "{% if add_generation_prompt %}<assistant> {% endif %}",
    )


def test_a_vocabulary_smaller_than_the_ids(fails) -> None:  # type: ignore[no-untyped-def]
    path = Path("policy/tokenizer.json")
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["quince"] = max(vocabulary.values()) + 1
    path.write_text(json.dumps(tokenizer))
    for words in ("sft --model policy --data world", "sample --model policy --prompts world"):
        fails(words, DATA, f"the tokenizer has {len(vocabulary)} ids", f"only {len(vocabulary) - 1} rows", "Use the model's own tokenizer")


def test_prompts_longer_than_the_model_takes(fails) -> None:  # type: ignore[no-untyped-def]
    lines("long.jsonl", [{"prompt": [{"role": "user", "content": "rice " * 90}]}] * 3)
    told = ("longer than 48 tokens", "the model takes 96", "Lower sampling.max_tokens")
    fails("sample --model policy --prompts long.jsonl", DATA, *told)
    fails("online --model policy --reward reward --prompts long.jsonl --reward_requirements.min_accuracy 0", DATA, *told)
    fails("evaluate --model policy --prompts long.jsonl", DATA, *told)
    fails("rerank --model policy --reward reward --prompts long.jsonl", DATA, *told)


def test_exam_questions_longer_than_the_model_takes(fails) -> None:  # type: ignore[no-untyped-def]
    row = {"eval": "facts", "kind": "answer", "answer": "rice"}
    lines("long.jsonl", [{"prompt": [{"role": "user", "content": "rice " * 100}], **row}])
    fails("evaluate --model policy --prompts world --evals long.jsonl --sampling.max_tokens 4", DATA, "long.jsonl")


@pytest.mark.filterwarnings("ignore::palate.models.paths.PaddedPathWarning")
def test_weights_that_are_no_numbers(fails) -> None:  # type: ignore[no-untyped-def]
    path = Path("policy/model.safetensors")
    save_file({name: value * torch.nan for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    fails("sample --model policy --prompts world", TRAINING, "logits are not finite", "the weights have diverged")
    fails("sft --model policy --data world", TRAINING, "step 0: the loss is nan", "the weights did not change")
    assert status("sft*")[0] == "failed"
    assert status("sft*")[1].startswith("TrainingError: step 0")


def test_weights_of_another_architecture(fails) -> None:  # type: ignore[no-untyped-def]
    path = Path("policy/model.safetensors")
    save_file({f"transformer.{name}": value for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    for words in ("sft --model policy --data world", "direct --model policy --preferences world", "sample --model policy --prompts world"):
        fails(words, DATA, "policy holds another kind of model", "Use weights and config.json of the same model")


def test_weights_packed_in_four_bits(fails) -> None:  # type: ignore[no-untyped-def]
    path = Path("policy/config.json")
    packed = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": packed}))
    fails("sft --model policy --data world --adapters lora", DATA, "policy are packed in 4 bits", "Use the model that they were made from")
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": {"quant_method": "awq", "bits": 4}}))
    fails("sft --model policy --data world", DATA, "policy: weights cannot be read (ImportError: ")


def test_four_bits_without_the_package_or_in_another_place(fails, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    remedy = "needs bitsandbytes, which is not installed: pip install 'palate[quant]'"
    for words in ("sft --model policy --data world", "online --model policy --reward reward --prompts world"):
        fails(f"{words} --adapters.base_dtype nf4", CONFIG, "adapters.base_dtype nf4", remedy)
        fails(f"{words} --optimizer.state 8bit", CONFIG, "optimizer.state 8bit", remedy)
    fails("sft --model policy --data world --base_dtype nf4", CONFIG, "Did you mean '--adapters.base_dtype'?")
    fails("sft --model policy --data world --dtype nf4", CONFIG, "Expected: auto or float32 or bfloat16 or float16")


def test_an_adapter_of_another_base(fails) -> None:  # type: ignore[no-untyped-def]
    lines("data.jsonl", [{"prompt": ASK, "completion": YES}])
    lines("pairs.jsonl", [{"prompt": ASK, "chosen": YES, "rejected": NO}])
    assert main(["sft", "--model", "policy", "--data", "data.jsonl", "--adapters", "lora", "--adapters.merge", "false"]) == 0
    (run,) = Path("runs").glob("sft*")
    path = Path("policy/model.safetensors")
    save_file({name: value + 1 for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    fails(
        f"direct --model {run} --preferences pairs.jsonl", DATA, "was made for", "policy is another model", "use the model it was made for"
    )


YAML = """\
name: small
stages:
  one:
    stage: sft
    model: policy
    data: world
    demonstrations_per_step: 4
  two:
    stage: sample
    model: $one
    prompts: world
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("demonstrations_per_step", "demonstration_per_step",
         "p.yaml:7: SFT has no 'demonstration_per_step'. Did you mean 'demonstrations_per_step'?"),
        ("stage: sample", "stage: smaple", "p.yaml:9: there is no stage 'smaple'. Did you mean 'sample'?"),
        ("$one", "$once", "p.yaml:10: two.model: there is no stage or input $once. Did you mean 'one'?"),
        ("_step: 4", "_step: four", "p.yaml:7: "),
        ("    prompts: world\n", "", "p.yaml:8: Sample needs 'prompts'"),
        ("name: small", "nam: small", "p.yaml:1: a pipeline has no 'nam'. Did you mean 'name'?"),
    ],
)  # fmt: skip
def test_mistakes_in_a_pipeline_are_told_with_line_and_nearest_name(old: str, new: str, told: str, fails) -> None:  # type: ignore[no-untyped-def]
    assert old in YAML
    Path("p.yaml").write_text(YAML.replace(old, new))
    fails("run p.yaml", CONFIG, told)
    assert not list(Path("runs").glob("**/run.json")) if Path("runs").exists() else True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("evaluate --model policy --completions world --prompts world", "evaluate needs either a model or completions"),
        ("evaluate --prompts world", "evaluate needs either a model or completions"),
        ("evaluate --completions world --prompts world --evals world", "evals, lm_eval and reference need a model"),
        (
            "online --model policy --reward reward --prompts world --sampling.top_k 5",
            "sampling.top_k, sampling.top_p and sampling.min_p cut",
        ),
        ("online --model policy --reward reward --prompts world --sampling.temperature 0", "temperature must be above 0"),
        ("online --model policy --reward reward --prompts world --preset rloo --samples_per_prompt 1", "samples_per_prompt to 2"),
        ("online --model policy --reward reward --prompts world --minibatches 99", "minibatches 99 exceeds prompts_per_iteration 64"),
        ("collect --samples world --from simulated --from.gold palate.kitchen:judge --held_out 1", "number at least 0 and below 1"),
        ("world --kitchen.texts 0", "kitchen.texts must be above 0"),
        ("pretrain --data world --tokenizer world/tokenizer --architecture.heads 3", "must be an even multiple of heads 3"),
    ],
)
def test_settings_that_contradict_each_other(words: str, told: str, fails) -> None:  # type: ignore[no-untyped-def]
    fails(words, CONFIG, told)
    assert not list(Path("runs").glob("*/run.json")) if Path("runs").exists() else True


def test_a_directory_of_another_run(fails) -> None:  # type: ignore[no-untyped-def]
    small = "world --kitchen.texts 5 --kitchen.demonstrations 5 --kitchen.prompts 5 --kitchen.held_out 5 --kitchen.evals 2 --out there"
    assert main(small.split()) == 0
    fails(f"{small} --seed 1", RUN, "there holds the run world-", "seed: 0 there, 1 here", "Choose another --out")
    Path("letters").mkdir()
    Path("letters/dear.txt").write_text("mine")
    fails(small.replace("there", "letters"), RUN, "letters holds files that do not belong to a run (dear.txt)")


def test_a_full_disk(here: Path, fails) -> None:  # type: ignore[no-untyped-def]
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    Path("p.yaml").write_text(YAML)
    assert main(["run", "p.yaml", "--only", "one"]) == 0
    _, two = plan_pipeline(read_pipeline(Path("p.yaml")), Path("runs/small"), STAGES)
    run = open_run_at(two.directory, two.plan)
    (run.directory / "samples.jsonl").symlink_to(full)
    kept = {path: path.read_bytes() for path in Path("runs/small").glob("one-*/model/*")}
    fails("run p.yaml", RUN, "no space left on the device of", "samples.jsonl", "Free some space and run the same command")
    assert {path: path.read_bytes() for path in kept} == kept
    (run.directory / "samples.jsonl").unlink()
    assert main(["run", "p.yaml"]) == 0  # there is room now: the same command goes on
    assert len((run.directory / "samples.jsonl").read_text().splitlines()) == 8


def test_a_reward_model_near_chance(fails) -> None:  # type: ignore[no-untyped-def]
    words = "online --model policy --reward reward --prompts world"
    fails(words, TRAINING, "the reward model is near chance: accuracy 0.512 +- 0.049 on 400 held-out judgments", "Collect more or better")
    assert status("online*")[0] == "failed"
    assert not list(Path("runs").glob("online*/model"))
    ReportCard(0.8, 4000, 0.001, 0.5).write(Path("reward"))
    fails(words, TRAINING, "hardly tells completions apart", "0.0010 logits")


def test_functions_that_are_not_there(fails) -> None:  # type: ignore[no-untyped-def]
    words = "evaluate --model policy --prompts world --sampling.max_tokens 2 --gold"
    fails(f"{words} palate.kitchen:judges", CONFIG, "palate.kitchen has no 'judges'")
    fails(f"{words} palate.kitchens:judge", CONFIG, "there is no module 'palate.kitchens'")
    fails(f"{words} judge", CONFIG, "does not name a function")
