"""Drawing tokens: evenly spread uniforms give each token its share of the draws, up to one draw, for every setting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from palate.core import ConfigError, Sampling, TrainingError
from palate.samplers.draw import check_sampling, draw, request_uniforms

NUM_DRAWS = 4000

SETTINGS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(temperature=1.7),
    Sampling(top_k=1),
    Sampling(top_k=5),
    Sampling(top_p=0.5),
    Sampling(top_p=0.9),
    Sampling(temperature=0.6, top_k=7),
    Sampling(temperature=1.3, top_p=0.8),
    Sampling(temperature=0.6, top_k=9, top_p=0.7),
    Sampling(min_p=0.1),
    Sampling(min_p=1.0),
    Sampling(temperature=1.3, top_k=9, top_p=0.9, min_p=0.05),
]


def fixed_logits(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(size)) * 2


def expected(logits: Tensor, sampling: Sampling) -> np.ndarray:
    """The distribution by its definition: sort, cut, renormalise; one token after the other, in float64."""
    weights = np.exp(logits.double().numpy() / sampling.temperature)
    order = np.argsort(-weights)
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = weights / weights[order].sum()
    kept, mass = [], 0.0
    for token in order:
        if mass >= sampling.top_p:
            break
        kept.append(token)
        mass += weights[token]
    kept = [token for token in kept if weights[token] >= sampling.min_p * weights[order[0]]]
    result = np.zeros(len(weights))
    result[kept] = weights[kept] / weights[kept].sum()
    return result


@pytest.mark.parametrize("size", [11, 1300])
@pytest.mark.parametrize("sampling", SETTINGS)
def test_every_token_gets_its_share_and_its_logp(size: int, sampling: Sampling) -> None:
    logits = fixed_logits(size)
    uniforms = (torch.arange(NUM_DRAWS, dtype=torch.float64) + 0.5) / NUM_DRAWS
    tokens, logps = draw(logits.expand(NUM_DRAWS, -1), uniforms, sampling)
    probabilities = expected(logits, sampling)
    shares = np.bincount(tokens.numpy(), minlength=size) / NUM_DRAWS
    assert np.abs(shares - probabilities).max() <= 1.001 / NUM_DRAWS
    ratios = probabilities[tokens.numpy()] / logps.double().exp().numpy()
    np.testing.assert_allclose(ratios, 1, rtol=2e-6)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), 1.0),
        (Sampling(temperature=0.6), 1.0),
        (Sampling(top_k=5), None),
        (Sampling(top_p=0.9), None),
        (Sampling(min_p=0.1), None),
    ],
)
def test_the_mean_ratio_to_the_learner_s_probability_is_the_mass_kept(sampling: Sampling, kept: float | None) -> None:
    """The ratio is 1 where nothing is cut, and biased by the mass that is cut; online learning therefore refuses cuts."""
    logits = fixed_logits(11)
    uniforms = (torch.arange(NUM_DRAWS, dtype=torch.float64) + 0.5) / NUM_DRAWS
    tokens, logps = draw(logits.expand(NUM_DRAWS, -1), uniforms, sampling)
    learner = (logits.double() / sampling.temperature).log_softmax(-1)
    mass = float(learner.exp()[torch.from_numpy(expected(logits, sampling)) > 0].sum())
    assert kept is None or abs(mass - kept) < 1e-12
    assert kept is not None or mass < 0.97
    assert (learner[tokens] - logps.double()).exp().mean().item() == pytest.approx(mass, abs=1e-3 if kept is None else 1e-6)


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_a_nucleus_wider_than_the_first_try_is_whole(top_p: float) -> None:
    logits = torch.linspace(0, 0.1, 1300)[torch.randperm(1300, generator=torch.Generator().manual_seed(0))]
    uniforms = (torch.arange(NUM_DRAWS, dtype=torch.float64) + 0.5) / NUM_DRAWS
    tokens, _ = draw(logits.expand(NUM_DRAWS, -1), uniforms, Sampling(top_p=top_p))
    assert set(tokens.tolist()) == set(np.flatnonzero(expected(logits, Sampling(top_p=top_p))))


def test_frequencies_with_the_uniforms_of_requests() -> None:
    sampling = Sampling(temperature=0.6, top_k=7)
    logits = fixed_logits(11)
    uniforms = torch.from_numpy(np.concatenate([request_uniforms(3, prompt, sample, 40) for prompt in range(50) for sample in range(10)]))
    tokens, _ = draw(logits.expand(len(uniforms), -1), uniforms, sampling)
    counts = np.bincount(tokens.numpy(), minlength=11)
    mean = expected(logits, sampling) * len(uniforms)
    kept = mean > 0
    assert counts[~kept].sum() == 0
    assert ((counts - mean)[kept] ** 2 / mean[kept]).sum() < 22.5  # chi-square, 6 degrees of freedom: 1 in 1000


@pytest.mark.parametrize("size", [6, 512, 513, 2000])
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_at_the_edges_are_never_drawn(size: int, uniform: float) -> None:
    for only in (0, size // 2, size - 1):
        logits = torch.full((1, size), -torch.inf)
        logits[0, only] = -3.0
        tokens, logps = draw(logits, torch.tensor([uniform], dtype=torch.float64), Sampling())
        assert tokens.tolist() == [only]
        assert logps.tolist() == [0.0]


def test_rows_do_not_see_each_other() -> None:
    logits = torch.randn(5, 700, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [1], [3], [9], [20]])
    uniforms = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for sampling in SETTINGS:
        together = draw(logits, uniforms, sampling)
        alone = [draw(logits[i : i + 1], uniforms[i : i + 1], sampling) for i in range(5)]
        assert together[0].tolist() == [tokens.item() for tokens, _ in alone]
        torch.testing.assert_close(together[1], torch.cat([logps for _, logps in alone]))


def test_temperature_zero_is_greedy_with_logp_zero() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    tokens, logps = draw(logits, torch.tensor([0.99, 0.99]), Sampling(temperature=0, top_k=2, top_p=0.5))
    assert tokens.tolist() == [1, 0]
    assert logps.tolist() == [0.0, 0.0]


def test_a_very_small_temperature_does_not_overflow() -> None:
    tokens, logps = draw(torch.tensor([[100.0, 300.0, 299.0]]), torch.tensor([0.5]), Sampling(temperature=1e-37))
    assert (tokens.tolist(), logps.tolist()) == ([1], [0.0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0), Sampling(top_k=2), Sampling(top_p=0.5)])
def test_logits_that_are_not_finite_stop_the_run(bad: float, sampling: Sampling) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        draw(torch.tensor([[0.0, bad, 1.0], [0.0, 1.0, 2.0]]), torch.tensor([0.5, 0.5]), sampling)


def test_uniforms_depend_on_seed_prompt_sample_and_position_only() -> None:
    row = request_uniforms(1, 2, 3, 40)
    np.testing.assert_array_equal(request_uniforms(1, 2, 3, 10), row[:10])
    assert len(np.unique(row)) == 40
    assert 0 <= row.min() <= row.max() < 1
    for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (0, 0, 0)]:
        assert not np.isin(request_uniforms(*other, 40), row).any()


@pytest.mark.parametrize(
    ("sampling", "name"),
    [
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=float("nan")), "temperature"),
        (Sampling(top_p=0), "top_p"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(min_p=-0.1), "min_p"),
        (Sampling(min_p=1.5), "min_p"),
        (Sampling(max_tokens=0), "max_tokens"),
    ],
)
def test_settings_out_of_range_are_named(sampling: Sampling, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"sampling\.{name} is .*must be"):
        check_sampling(sampling)
