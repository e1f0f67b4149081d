"""Sizes of models from configurations alone: those of real models, and of tiny ones that can be built."""

from pathlib import Path

import pytest

from palate.core import ConfigError, ModelError
from palate.models.adapters import LoRA
from palate.models.load import Architecture, new_policy, vocabulary_size
from palate.models.shapes import PUBLISHED, SHORT_NAMES, find_shape, shape_of_architecture, shape_of_config
from palate.testing import FAMILIES, PADDED_FAMILIES, tiny_policy, word_tokenizer

PARAMETERS = {
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-32B": 32_763_876_352,
    "Qwen2.5-72B": 72_706_203_648,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-70B": 70_553_706_496,
}
"""What the files of these models hold, each tied weight once."""


def test_published_sizes_have_the_parameters_of_the_models_files() -> None:
    assert PARAMETERS.keys() == PUBLISHED.keys()
    assert {name: find_shape(name).parameters for name in PUBLISHED} == PARAMETERS


def test_a_size_a_name_on_the_hub_and_an_instruct_model_mean_the_same() -> None:
    for name in ("7B", "7b", "Qwen2.5-7B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"):
        assert find_shape(name).name == "Qwen2.5-7B"
    assert set(SHORT_NAMES.values()) <= set(PUBLISHED)


@pytest.mark.parametrize("family", [*FAMILIES, *PADDED_FAMILIES])
def test_a_configuration_tells_what_the_built_model_has(family: str) -> None:
    policy = tiny_policy(family)
    module = policy.module
    shape = shape_of_config(module.config, family)
    assert shape.parameters == sum(p.numel() for p in module.parameters())
    assert shape.backbone == sum(p.numel() for p in module.base_model.parameters())
    policy.with_adapter(LoRA(rank=3), "base", 0)
    assert shape.adapter(3) == sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_an_adapter_on_named_layers_is_smaller() -> None:
    policy = tiny_policy("llama")
    shape = shape_of_config(policy.module.config, "llama")
    policy.with_adapter(LoRA(rank=4, target_modules=("q_proj", "v_proj")), "base", 0)
    assert shape.adapter(4, ("q_proj", "v_proj")) == sum(p.numel() for p in policy.module.parameters() if p.requires_grad)


def test_a_directory_is_read_by_its_configuration_alone(tmp_path: Path) -> None:
    tiny_policy("qwen3").save(tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()
    shape = find_shape(str(tmp_path / "model"))
    assert (shape.name, shape.layers, shape.has_head_norms, shape.is_gated) == ("model", 2, True, True)


def test_the_model_of_pretrain_is_known_before_it_is_made() -> None:
    tokenizer, size = word_tokenizer(), Architecture(hidden_size=32, layers=3, heads=2, kv_heads=1, intermediate_size=48)
    shape = shape_of_architecture(size, vocabulary_size(tokenizer), "base")
    assert shape.parameters == sum(p.numel() for p in new_policy(tokenizer, size, 0).parameters())


def test_an_unknown_size_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"there is no model '9B'.*0\.5B.*Qwen3-8B"):
        find_shape("9B")


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it has no config.json"):
        find_shape(str(tmp_path))
