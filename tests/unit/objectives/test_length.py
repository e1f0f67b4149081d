"""The correlation of scores with lengths, and its slope, against automatic differentiation and numpy."""

import numpy as np
import torch

from palate.objectives.length import length_correlation


def plain(scores, lengths):
    z, u = lengths - lengths.mean(), scores - scores.mean(0)
    return (u * z[:, None]).mean(0) / (u.square().mean(0) * z.square().mean()).sqrt()


def test_the_slopes_are_the_derivative_of_the_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 3, generator=generator).requires_grad_()
    lengths = torch.randint(1, 40, (20,), generator=generator)
    correlation, slopes = length_correlation(scores, lengths)
    for k in range(3):
        (gradient,) = torch.autograd.grad(plain(scores, lengths.double())[k], scores)
        torch.testing.assert_close(slopes[:, k], gradient[:, k].float(), atol=1e-6, rtol=1e-5)
        expected = np.corrcoef(scores.detach()[:, k], lengths)[0, 1]
        assert abs(float(correlation[k]) - expected) < 1e-6


def test_what_does_not_vary_is_not_correlated() -> None:
    scores, lengths = torch.stack([torch.full((6,), 3.0), torch.arange(6.0)], 1), torch.tensor([4, 1, 2, 9, 9, 3])
    correlation, slopes = length_correlation(scores, lengths)
    assert (float(correlation[0]), float(slopes[:, 0].abs().max())) == (0.0, 0.0)
    assert float(correlation[1]) != 0
    correlation, slopes = length_correlation(scores, torch.full((6,), 5))
    assert (float(correlation.abs().max()), float(slopes.abs().max())) == (0.0, 0.0)
