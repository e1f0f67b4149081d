"""Models from directories and new ones: what is saved, what is refused and what is independent."""

import json
import os
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.core import ModelError
from palate.models.cpu import keep_few_kernels, keep_freed_memory
from palate.models.load import Architecture, as_policy, built, load_policy, load_tokenizer, new_policy, vocabulary_size
from palate.models.paths import PaddedPathWarning
from palate.testing import FAMILIES, PADDED_FAMILIES, byte_tokenizer, random_trees, tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree, pack

SIZE = Architecture(hidden_size=16, layers=2, heads=2, kv_heads=1, intermediate_size=24, max_positions=40)
BATCH = pack(random_trees([(3, [4, 2]), (1, [5])], 40))


@pytest.fixture
def saved(tmp_path):
    tiny_policy().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("family", FAMILIES + PADDED_FAMILIES)
def test_plain_transformers_reads_what_is_saved(family: str, tmp_path) -> None:
    policy = tiny_policy(family)
    policy.save(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    tokenizer = load_tokenizer(tmp_path)
    ids = torch.tensor([tokenizer("the cook has 2 beans.").input_ids])
    assert ids.tolist()[0] == policy.tokenizer("the cook has 2 beans.").input_ids
    logits = plain(input_ids=ids).logits[0, :-1]
    first, *rest = ids[0].tolist()
    tree = Tree((first,), (Branch(tuple(rest), (True,) * len(rest)),))
    expected = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(policy.logps(pack([tree])).logps, expected, rtol=1e-5, atol=1e-5)
    assert "palate" not in (tmp_path / "config.json").read_text()


def test_saved_and_loaded_is_the_same_to_the_bit(saved) -> None:
    policy = load_policy(saved)
    assert policy.path == "packed"
    assert policy.max_tokens == 128
    assert policy.end_ids == {2}
    assert torch.equal(policy.logps(BATCH).logps, tiny_policy().logps(BATCH).logps)


def test_new_policy_depends_on_its_seed_alone() -> None:
    tokenizer = word_tokenizer()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = new_policy(tokenizer, SIZE, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    again, other = new_policy(tokenizer, SIZE, seed=1), new_policy(tokenizer, SIZE, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head[0], other.head[0])
    assert first.path == "packed"
    assert first.max_tokens == 40
    assert first.head[0].shape == (vocabulary_size(tokenizer), 16)


def test_a_copy_is_independent_and_learns_nothing() -> None:
    policy = tiny_policy()
    reference = policy.reference()
    before = reference.logps(BATCH).logps
    assert not before.requires_grad
    assert torch.equal(before, policy.logps(BATCH).logps)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    policy.nll(BATCH, BATCH.learned.float())[0].backward()
    optimizer.step()
    assert torch.equal(before, reference.logps(BATCH).logps)
    assert not torch.equal(before, policy.logps(BATCH).logps)
    reference.load_state_dict(policy.state_dict())
    assert torch.equal(reference.logps(BATCH).logps, policy.logps(BATCH).logps)


def test_a_few_steps_learn_a_sequence() -> None:
    policy = new_policy(word_tokenizer(), SIZE, seed=0)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss, _ = policy.nll(BATCH, torch.ones(len(BATCH.targets)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_missing_directory(tmp_path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        load_policy(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="there is no model at"):
        load_policy("./nowhere")


def test_no_config(saved) -> None:
    with pytest.raises(ModelError, match="no config.json"):
        load_policy(saved.parent)


def test_broken_files(saved) -> None:
    (saved / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_policy(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json cannot be read"):
        load_policy(saved)


def test_missing_weights(saved) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_policy(saved)


def test_a_missing_or_cut_shard_is_named(tmp_path) -> None:
    tiny_policy().module.save_pretrained(tmp_path, max_shard_size="20KB")
    word_tokenizer().save_pretrained(tmp_path)
    load_policy(tmp_path)
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=rf"{tmp_path}: weights cannot be read \(.*{shard.name}"):
        load_policy(tmp_path)
    shard.unlink()
    with pytest.raises(ModelError, match=rf"{tmp_path}: weights cannot be read \(.*{shard.name}"):
        load_policy(tmp_path)


def test_weights_of_another_model(saved, tmp_path) -> None:
    tiny_policy("gpt2").save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(ModelError, match="another kind of model"):
        load_policy(saved)


def test_missing_tokenizer(saved) -> None:
    for file in saved.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(saved)


def test_unknown_dtype(saved) -> None:
    with pytest.raises(ModelError, match="float32, bfloat16"):
        load_policy(saved, dtype="half")


def test_a_tokenizer_larger_than_the_embedding(saved) -> None:
    byte_tokenizer().save_pretrained(saved)
    with pytest.raises(ModelError, match=r"259 ids.*43 rows"):
        load_policy(saved)


def test_an_encoder_decoder_is_refused(saved) -> None:
    (saved / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_policy(saved)


@pytest.mark.parametrize(
    ("model_type", "more", "reason"),
    [
        ("granite", {"logits_scaling": 8.0}, "not hidden states times output embeddings"),
        (
            "gpt_oss",
            {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "initializer_range": 0.3},
            "differ from plain sequences",
        ),
        ("bloom", {"n_layer": 2, "n_head": 4}, "cannot be replaced"),
    ],
)
def test_what_no_configuration_tells_is_measured(model_type: str, more, reason: str) -> None:
    """Logits that are scaled, attention with sinks, biases by distance: no rule names them, and the measurement finds them."""
    tokenizer = word_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    limits = {"max_position_embeddings": 64, "vocab_size": 43, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    module = built(AutoModelForCausalLM.from_config, AutoConfig.for_model(model_type, **{**size, **limits, **more}), 0)
    with pytest.warns(PaddedPathWarning, match=reason):
        policy = as_policy(module, tokenizer)
    assert policy.path == "padded"
    tree = random_trees([(3, [4])], 40)[0]
    ids = torch.tensor([tree.trunk + tree.branches[0].ids])
    expected = torch.log_softmax(module(input_ids=ids, use_cache=False).logits[0, 2:-1], -1).gather(1, ids[0, 3:, None])[:, 0]
    torch.testing.assert_close(policy.logps(pack([tree])).logps, expected, rtol=1e-5, atol=1e-5)


def test_freed_memory_is_kept_once_and_for_all() -> None:
    assert keep_freed_memory() is keep_freed_memory()


def test_few_products_are_kept_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    keep_few_kernels.cache_clear()
    keep_few_kernels()
    assert int(os.environ["LRU_CACHE_CAPACITY"]) < 100
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


@pytest.mark.parametrize("text", ["the cook has 12 beans, no salt!", "so what can we make?\n"])
def test_testing_tokenizers_give_texts_back(text: str) -> None:
    for tokenizer in (word_tokenizer(), byte_tokenizer()):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    assert byte_tokenizer().decode(byte_tokenizer()("Grüße, 食").input_ids) == "Grüße, 食"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused_without_running_it(file: str, tmp_path) -> None:
    tiny_policy().save(tmp_path)
    kinds = {"config.json": ("AutoConfig", "model_type"), "tokenizer_config.json": ("AutoTokenizer", "tokenizer_class")}
    auto, key = kinds[file]
    settings = json.loads((tmp_path / file).read_text())
    own = ["own.Tokenizer", "own.TokenizerFast"] if auto == "AutoTokenizer" else "own.Config"
    (tmp_path / file).write_text(json.dumps({**settings, key: "OwnThing", "auto_map": {auto: own}}))
    (tmp_path / "own.py").write_text("raise SystemExit('this code ran')\n")
    with pytest.raises(ModelError, match=r"brings code of its own \(auto_map\), which Palate does not run"):
        load_policy(tmp_path)
