"""Losses and gradients beside those of TRL's own functions, where TRL is installed: it is not a dependency, `pip install "trl>=1.16"`.

TRL's functions are called as they are, on trainers that hold only the settings they read, and on models that only hand out numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from palate.objectives.direct import PairObjective
from palate.objectives.direct.anchored import NCA, SPPO, APODown, APOZero, BCOPair
from palate.objectives.direct.dpo import DPO, AlphaDivergence, ForwardKL, JensenShannon, LengthDesensitisedDPO, RobustDPO
from palate.objectives.direct.margins import AOT, EXO, IPO, Hinge
from palate.objectives.direct.pair_logps import PairLogps, PairSide, wpo_importance
from palate.objectives.direct.reference_free import CPO, ORPO, SimPO
from palate.objectives.direct.unpaired_losses import KTO, UnpairedLogps

trl = pytest.importorskip("trl", reason="TRL is not installed: its functions cannot be compared with")

BETA, PAIRS, TOKENS = 0.3, 5, 9
CLOSE = {"rtol": 2e-5, "atol": 1e-6}
"""TRL computes some of these in float32 whatever its inputs are."""


@pytest.fixture(autouse=True)
def float32(float64: None) -> None:
    """TRL's alpha divergence does not take float64."""
    torch.set_default_dtype(torch.float32)


class Accelerator:
    """One process."""

    device = torch.device("cpu")

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor

    gather_for_metrics = gather


class Model(torch.nn.Module):
    """Returns the numbers that a forward pass with labels would give."""

    is_gradient_checkpointing = False

    def __init__(self, logps: Tensor, squared: Tensor) -> None:
        super().__init__()
        self.training = False
        zeros = torch.zeros_like(logps)
        self.outputs = SimpleNamespace(
            log_probs=logps, log_sum_sq_probs=squared, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None
        )

    def forward(self, **_: object) -> Any:
        return self.outputs


def trainer(now: Model, then: Model, **settings: object) -> Any:
    """The attributes of a trainer that TRL's loss functions read."""
    plain = {
        "beta": BETA, "label_smoothing": 0.0, "loss_types": ["sigmoid"], "loss_weights": [1.0], "ld_alpha": None, "use_weighting": False,
        "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5,
    }  # fmt: skip
    state = {
        "model": now, "ref_model": then, "accelerator": Accelerator(), "aux_loss_enabled": False, "precompute_ref_logps": False,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None), "_metrics": {"eval": defaultdict(list)}, "_total_train_tokens": 0,
    }  # fmt: skip
    return SimpleNamespace(**{**plain, **settings}, **state)


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities per token under policy and reference, log sum of squares, and the mask: (2 pairs, tokens), chosen sides first."""
    rng = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, TOKENS + 1, (2 * PAIRS, 1), generator=rng)
    mask = torch.arange(TOKENS) < lengths
    now, then, squared = (-torch.rand(2 * PAIRS, TOKENS, generator=rng) * 3 * mask for _ in range(3))
    return now.requires_grad_(), then, squared, mask


def ours(now: Tensor, then: Tensor, squared: Tensor, mask: Tensor, objective: PairObjective, *, shift: bool = True) -> PairLogps:
    """Return the same numbers as inputs of the objectives."""
    now = now * mask  # no gradient for padding
    lengths = mask.sum(1)
    shared = torch.minimum(*lengths.chunk(2)).repeat(2)
    head = torch.arange(TOKENS) < shared[:, None]
    columns = (now.sum(1), then.sum(1), lengths.to(now.dtype), (now * head).sum(1), (then * head).sum(1))
    chosen, rejected = (PairSide(*(column.chunk(2)[k] for column in columns)) for k in (0, 1))
    aligned = ((now - squared) * mask).sum(1) / lengths
    ones = torch.ones(PAIRS)
    pairs = PairLogps(chosen, rejected, ones, ones, wpo_importance(*aligned.chunk(2)))
    if "baselines" in objective.needs:
        assert isinstance(objective, AOT | BCOPair)
        baselines = objective.baselines(pairs) if shift else (torch.zeros(PAIRS), torch.zeros(PAIRS))
        pairs = replace(pairs, chosen=replace(chosen, baseline=baselines[0]), rejected=replace(rejected, baseline=baselines[1]))
    return pairs


def theirs(drawn: tuple[Tensor, ...], **settings: object) -> Tensor:
    now, then, squared, mask = drawn
    whole = pad(mask.long(), (1, 0))
    inputs = {"input_ids": torch.ones_like(whole), "attention_mask": torch.ones_like(whole), "completion_mask": whole}
    models = Model(now * mask, squared), Model(then, squared)
    loss: Tensor = trl.DPOTrainer._compute_loss(trainer(*models, **settings), models[0], inputs, False)
    return loss


def same(mine: Tensor, other: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(mine, other, **CLOSE)
    (here,), (there,) = (torch.autograd.grad(loss, leaf, retain_graph=True) for loss in (mine, other))
    assert float(here.abs().max()) > 0
    torch.testing.assert_close(here, there, **CLOSE)


SAME: list[tuple[PairObjective, dict[str, object]]] = [
    (DPO(beta=BETA), {}),
    (DPO(beta=BETA, divergence=ForwardKL()), {"f_divergence_type": "forward_kl"}),
    (DPO(beta=BETA, divergence=JensenShannon()), {"f_divergence_type": "js_divergence"}),
    # TRL's coefficient is one less our alpha: (t^(a - 1) - 1) / (a - 1).
    (DPO(beta=BETA, divergence=AlphaDivergence(alpha=0.3)), {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7}),
    (RobustDPO(beta=BETA, flip_probability=0.2), {"loss_types": ["robust"], "label_smoothing": 0.2}),
    (LengthDesensitisedDPO(beta=BETA, alpha=0.4), {"ld_alpha": 0.4}),
    (Hinge(beta=BETA), {"loss_types": ["hinge"]}),
    (EXO(beta=BETA, label_smoothing=0.01), {"loss_types": ["exo_pair"], "label_smoothing": 0.01}),
    (AOT(beta=BETA), {"loss_types": ["aot"]}),
    (APOZero(beta=BETA), {"loss_types": ["apo_zero"]}),
    (APODown(beta=BETA), {"loss_types": ["apo_down"]}),
    (NCA(beta=BETA), {"loss_types": ["nca_pair"]}),
    (SPPO(beta=BETA), {"loss_types": ["sppo_hard"]}),
]


@pytest.mark.parametrize(("objective", "settings"), SAME, ids=lambda one: one.kind if not isinstance(one, dict) else "-".join(one))
def test_loss_and_gradient_are_trls(objective: PairObjective, settings: dict[str, object], drawn: tuple[Tensor, ...]) -> None:
    pairs = replace(ours(*drawn, objective), importance=None)
    same(objective(pairs).mean(), theirs(drawn, **settings), drawn[0])


def test_ipo_a_token_is_trls(drawn: tuple[Tensor, ...]) -> None:
    now, then, squared, mask = drawn
    # TRL's mask has the prompt's last token in front, which it does not count as one of the completion's.
    objective = IPO(tau=BETA, reduction="average")
    same(objective(replace(ours(now, then, squared, mask, objective), importance=None)).mean(), theirs(drawn, loss_types=["ipo"]), now)


def test_a_soft_label_of_aot_is_trls_label_smoothing(drawn: tuple[Tensor, ...]) -> None:
    objective = AOT(beta=BETA)
    pairs = replace(ours(*drawn, objective), importance=None, probability=torch.full((PAIRS,), 0.9))
    same(objective(pairs).mean(), theirs(drawn, loss_types=["aot"], label_smoothing=0.1), drawn[0])


def test_bco_on_pairs_is_trls_once_the_shift_is_left_out(drawn: tuple[Tensor, ...]) -> None:
    objective = BCOPair(beta=BETA)
    unshifted = replace(ours(*drawn, objective, shift=False), importance=None)
    same(objective(unshifted).mean(), theirs(drawn, loss_types=["bco_pair"]), drawn[0])
    shifted = objective(replace(ours(*drawn, objective), importance=None)).mean()
    assert abs(float(shifted.detach() - theirs(drawn, loss_types=["bco_pair"]).detach())) > 1e-3


def test_wpo_weights_are_trls_up_to_one(drawn: tuple[Tensor, ...]) -> None:
    now, then, squared, mask = drawn
    less = (now, then, torch.zeros_like(squared), mask)  # every token less likely than a sampled one: no weight reaches 1
    pairs = ours(*less, DPO())
    assert pairs.importance is not None
    assert float(pairs.importance.max()) < 1
    same(DPO(beta=BETA)(pairs).mean(), theirs(less, use_weighting=True), now)
    more = (now, then, squared * 4, mask)
    capped = ours(*more, DPO()).importance
    assert capped is not None
    assert float(capped.max()) == 1  # as in the authors' code; TRL 1.16 lets them grow


@pytest.mark.filterwarnings("ignore")
def test_simpo_cpo_and_orpo_are_trls(drawn: tuple[Tensor, ...]) -> None:
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    now = drawn[0]
    pairs = replace(ours(*drawn, SimPO()), importance=None)
    means = pairs.chosen.mean_logp, pairs.rejected.mean_logp
    state = SimpleNamespace(alpha=0.0, beta=2.0, loss_type="simpo", simpo_gamma=0.7, label_smoothing=0.0, accelerator=Accelerator())
    same(SimPO(beta=2.0, target_margin=0.7)(pairs).mean(), CPOTrainer.cpo_loss(state, *means)[0].mean(), now)
    state.loss_type = "sigmoid"
    same(CPO(beta=2.0, nll_weight=0.0)(pairs).mean(), CPOTrainer.cpo_loss(state, pairs.chosen.logp, pairs.rejected.logp)[0].mean(), now)
    odds = ORPOTrainer.odds_ratio_loss(state, *means)[0]
    same(ORPO(odds_weight=2.0)(pairs).mean(), (-means[0] - odds).mean(), now)


@pytest.mark.parametrize("drift", [0.5, -0.5])
def test_kto_is_trls(drawn: tuple[Tensor, ...], drift: float) -> None:
    now, then, squared, mask = drawn
    whole = pad(mask.long(), (1, 0))
    desirable = torch.arange(2 * PAIRS) % 3 == 0
    batch = {"input_ids": whole, "attention_mask": whole, "completion_mask": whole, "label": desirable}
    others = torch.linspace(-1, 1, 2 * PAIRS) + drift
    models = Model(now, squared), Model(then, squared)
    state = trainer(*models, loss_type="kto", calculate_KL=True, desirable_weight=1.2, undesirable_weight=0.8)
    state._compute_kl_logps = lambda model, _: others if model is models[0] else torch.zeros(2 * PAIRS)
    other = trl.KTOTrainer._compute_loss(state, models[0], batch, False)
    objective = KTO(beta=BETA, desirable_weight=1.2, undesirable_weight=0.8)
    baseline = objective.baseline(others).expand(2 * PAIRS)
    mine = objective(UnpairedLogps(now.sum(1), then.sum(1), desirable, torch.ones(2 * PAIRS), baseline)).mean()
    same(mine, other, now)
