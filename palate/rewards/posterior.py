"""An ensemble for the price of one reward model: heads drawn from what the judgments leave open about its last layer.

With states f of the trained backbone a head w says P(first wins) = sigma(w x), x = f_first - f_second. The Laplace approximation of its
posterior is the normal distribution with mean w, the head as trained, and precision

    H = sum over judgments of weight p (1 - p) x x^T + (d + 1) I,

where p is what w says and d + 1 the precision with which heads are drawn before training. Members disagree where no judgment told them
apart: about pairs whose x points where few judged ones do.

Source: MacKay 1992; the last layer alone as in Daxberger et al. 2021 (Laplace Redux), for reward models Yang et al. 2024. The backbone is
one for all members, so a mistake that it makes is made by all of them; an ensemble of models trained apart sees more, for as many times
the cost. Each preference counts as one judgment, however many votes it rests on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def precision_of(differences: Floats, head: Floats, weight: Floats) -> Floats:
    """H (d, d) of the judged pairs' differences of states (p, d), the head as trained (d,) and the pairs' weights (p,)."""
    certainty = 0.5 * (1 + np.tanh(differences @ head / 2))
    scaled = differences * (weight * certainty * (1 - certainty))[:, None]
    return np.asarray(differences.T @ scaled + (len(head) + 1) * np.eye(len(head)))


def drawn_heads(head: Floats, precision: Floats, members: int, rng: np.random.Generator) -> Floats:
    """(m, d) heads from the normal distribution with mean `head` and the precision."""
    root = np.linalg.cholesky(precision)  # H = root root^T, so root^-T z has covariance H^-1
    return np.asarray(head + np.linalg.solve(root.T, rng.standard_normal((len(head), members))).T)
