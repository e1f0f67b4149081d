"""Direct objectives other than DPO, against independent values, and against plain formulas where there are none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.direct.anchored import NCA, SPPO, APODown, APOZero, BCOPair
from palate.objectives.direct.dpo import DPO, AlphaDivergence, ForwardKL, JensenShannon, LengthDesensitisedDPO, ReverseKL, RobustDPO
from palate.objectives.direct.margins import AOT, EXO, IPO, Hinge
from palate.objectives.direct.mixture import Mixture, PairPart
from palate.objectives.direct.pair_logps import PairLogps, PairSide, wpo_importance
from palate.objectives.direct.reference_free import CPO, ORPO, ChosenNLL, SimPO
from palate.objectives.direct.unpaired_losses import BCO, KTO, UnpairedLogps
from tests.support.logps import pair_logps


def _metric(sums, name):
    value, count = sums.metrics[name]
    return float(value / count)


def _given(case):
    given = {name: torch.tensor(values) for name, values in case["inputs"].items() if isinstance(values, list)}
    zero = torch.zeros(2)
    sides = (given["policy_chosen"], given["policy_rejected"], given.get("ref_chosen", zero), given.get("ref_rejected", zero))
    return pair_logps(*sides, lengths=(given["len_chosen"].double(), given["len_rejected"].double()))


@pytest.mark.parametrize(("reduction", "short"), [("sum", "sum"), ("average", "avg")])
def test_ipo(oracle, matches, reduction, short):
    case = oracle("ipo")
    objective, inputs = IPO(tau=case["inputs"]["tau"], reduction=reduction), _given(case)

    matches(objective.losses(inputs), case["expected"][f"per_pair_{short}"])
    matches(objective(inputs).mean(), case["expected"][f"loss_{short}"])


def test_optimum_of_ipo(oracle):
    case = oracle("preference_loss_optima")
    chosen, zero = torch.tensor([case["expected"]["ipo_optimal_h"]], requires_grad=True), torch.zeros(1)
    sums = IPO(tau=case["inputs"]["tau"])(pair_logps(chosen, zero, zero, zero))
    sums.loss.backward()

    assert sums.loss.item() == pytest.approx(0, abs=1e-18)
    assert abs(float(chosen.grad)) < 1e-9
    assert _metric(sums, "margin") == pytest.approx(0.5)


def test_simpo(oracle, matches, differs):
    case = oracle("simpo")
    given, inputs = case["inputs"], _given(case)
    objective = SimPO(beta=given["beta"], target_margin=given["gamma"])
    loss = objective(inputs).mean()

    matches(loss, case["expected"]["loss"])
    matches(objective.losses(inputs), case["expected"]["per_pair"])
    matches(objective.reward(inputs.chosen), case["expected"]["chosen_rewards"])
    matches(objective.reward(inputs.rejected), case["expected"]["rejected_rewards"])
    for wrong in case["common_wrong_answers"].values():
        differs(loss, wrong)


def test_orpo(oracle, matches):
    case = oracle("orpo")
    given, expected = case["inputs"], case["expected"]
    chosen, rejected = torch.tensor(given["avg_logp_chosen"]), torch.tensor(given["avg_logp_rejected"])
    lengths = torch.tensor([7.0, 3.0]), torch.tensor([5.0, 11.0])
    zero = torch.zeros(2)
    inputs = pair_logps(chosen * lengths[0], rejected * lengths[1], zero, zero, lengths=lengths)
    objective = ORPO(odds_weight=given["lam"])

    matches(objective(inputs).mean(), expected["loss"])
    matches(objective.reward(inputs.chosen) - objective.reward(inputs.rejected), expected["log_odds_ratio"])
    matches((objective.losses(inputs) - torch.tensor(given["nll_chosen"])) / given["lam"], expected["L_or"])
    assert _metric(objective(inputs), "nll") == pytest.approx(1.15)


def test_the_odds_of_a_certain_completion_stay_finite():
    chosen = torch.zeros(1, dtype=torch.float32, requires_grad=True)
    sums = ORPO()(pair_logps(chosen, chosen.detach() - 1, chosen.detach(), chosen.detach()))
    sums.loss.backward()

    assert math.isfinite(sums.loss.item())
    assert math.isfinite(float(chosen.grad))


# Two pairs of log-ratios, lengths and a reference, for methods without a case of their own.
X, Y = (3.0, -1.5), (-2.0, 0.5)
REFERENCE = ((-20.0, -31.0), (-25.0, -29.0))
LENGTHS = ((8.0, 12.0), (10.0, 11.0))


def _pairs(*, grad=False, x=X, y=Y):
    reference = [torch.tensor(values) for values in REFERENCE]
    chosen, rejected = ((torch.tensor(ratio) + fixed).requires_grad_(grad) for ratio, fixed in zip((x, y), reference, strict=True))
    tokens = [torch.tensor(values) for values in LENGTHS]
    logps = pair_logps(chosen, rejected, *reference, lengths=(tokens[0], tokens[1]))
    with_heads = (replace(side, head=side.logp * 0.6, reference_head=side.reference * 0.6) for side in (logps.chosen, logps.rejected))
    chosen_side, rejected_side = with_heads
    return replace(logps, chosen=chosen_side, rejected=rejected_side)


def _with_baselines(objective, pairs):
    if "baselines" not in objective.needs:
        return pairs
    first, second = objective.baselines(pairs)
    return replace(pairs, chosen=replace(pairs.chosen, baseline=first), rejected=replace(pairs.rejected, baseline=second))


def sigma(z):
    return 1 / (1 + math.exp(-z))


def nls(z):
    """-log sigma(z)."""
    return -math.log(sigma(z))


B = 0.3
SHIFT = B * sum(X + Y) / 4


def _policy(k):
    return REFERENCE[0][k] + X[k], REFERENCE[1][k] + Y[k]


def _aot(k):
    """Margins of the policy and the reference side by side, smallest first."""
    policy = sorted((_policy(i)[0] - _policy(i)[1], i) for i in range(2))
    reference = sorted(REFERENCE[0][i] - REFERENCE[1][i] for i in range(2))
    ((margin, rank),) = [(m, r) for r, (m, i) in enumerate(policy) if i == k]
    return nls(B * (margin - reference[rank]))


PLAIN = {
    Hinge(beta=B): lambda x, y, k: max(0.0, 1 - B * (x - y)),
    EXO(beta=B, label_smoothing=0.01): lambda x, y, k: (
        sigma(B * (x - y)) * math.log(sigma(B * (x - y)) / 0.99) + sigma(B * (y - x)) * math.log(sigma(B * (y - x)) / 0.01)
    ),
    AOT(beta=B): lambda x, y, k: _aot(k),
    APOZero(beta=B): lambda x, y, k: 1 - sigma(B * x) + sigma(B * y),
    APODown(beta=B): lambda x, y, k: sigma(B * x) + 1 - sigma(B * (x - y)),
    NCA(beta=B): lambda x, y, k: nls(B * x) + nls(-B * x) / 2 + nls(-B * y) / 2,
    SPPO(beta=B): lambda x, y, k: (x - 1 / (2 * B)) ** 2 + (y + 1 / (2 * B)) ** 2,
    BCOPair(beta=B): lambda x, y, k: nls(B * x - SHIFT) + nls(SHIFT - B * y),
    CPO(beta=B, nll_weight=0.7): lambda x, y, k: nls(B * (_policy(k)[0] - _policy(k)[1])) - 0.7 * _policy(k)[0] / LENGTHS[0][k],
    ChosenNLL(): lambda x, y, k: -_policy(k)[0] / LENGTHS[0][k],
    Mixture(parts=(DPO(beta=B), ChosenNLL()), weights=(1.0, 0.2)): lambda x, y, k: nls(B * (x - y)) - 0.2 * _policy(k)[0] / LENGTHS[0][k],
    Mixture(parts=(IPO(tau=B), BCOPair(beta=B)), weights=(0.5, 2.0)): lambda x, y, k: (
        0.5 * (x - y - 1 / (2 * B)) ** 2 + 2 * (nls(B * x - SHIFT) + nls(SHIFT - B * y))
    ),
}


@pytest.mark.parametrize("objective", PLAIN, ids=lambda objective: objective.kind)
def test_losses_are_those_of_the_plain_formula(objective):
    pairs = _with_baselines(objective, _pairs())
    expected = [PLAIN[objective](X[k], Y[k], k) for k in range(2)]

    assert objective.losses(pairs).tolist() == pytest.approx(expected, rel=1e-9)
    assert objective(pairs).mean().item() == pytest.approx(sum(expected) / 2, rel=1e-9)


def _slope(x):
    """f'(u) - f'(1) of four divergences at u = e^x."""
    return {
        ReverseKL(): x,
        ForwardKL(): 1 - math.exp(-x),
        JensenShannon(): math.log(2 * math.exp(x) / (1 + math.exp(x))),
        AlphaDivergence(alpha=0.3): (1 - math.exp(x) ** -0.3) / 0.3,
    }


SMOOTH = {
    **{objective: plain for objective, plain in PLAIN.items() if not isinstance(objective, AOT | CPO | ChosenNLL | Mixture)},
    **{
        DPO(beta=B, divergence=divergence): lambda x, y, k, d=divergence: nls(B * (_slope(x)[d] - _slope(y)[d]))
        for divergence in (ReverseKL(), ForwardKL(), JensenShannon(), AlphaDivergence(alpha=0.3))
    },
    RobustDPO(beta=B, flip_probability=0.2): lambda x, y, k: (0.8 * nls(B * (x - y)) - 0.2 * nls(B * (y - x))) / 0.6,
    # The head's log-ratio is 0.6 of the whole one (see _pairs), so head and weighted tail are 0.6 + 0.4 alpha of it.
    LengthDesensitisedDPO(beta=B, alpha=0.25): lambda x, y, k: nls(B * 0.7 * (x - y)),
    IPO(tau=B): lambda x, y, k: (x - y - 1 / (2 * B)) ** 2,
    IPO(tau=B, reduction="average"): lambda x, y, k: (x / LENGTHS[0][k] - y / LENGTHS[1][k] - 1 / (2 * B)) ** 2,
}
"""Losses that are functions of a pair's own two log-ratios."""


@pytest.mark.parametrize("objective", SMOOTH, ids=lambda objective: objective.kind)
def test_gradients_are_those_of_the_plain_formula(objective):
    pairs, plain, step = _with_baselines(objective, _pairs(grad=True)), SMOOTH[objective], 1e-5
    sums = objective(pairs)
    sums.loss.backward()
    for side, place in ((pairs.chosen, 0), (pairs.rejected, 1)):
        moved = [[(X[k], Y[k])[j] + (step * sign if j == place else 0) for j in (0, 1)] for k in range(2) for sign in (1, -1)]
        values = [plain(*at, k // 2) for k, at in enumerate(moved)]
        slopes = [(values[0] - values[1]) / (2 * step), (values[2] - values[3]) / (2 * step)]
        assert side.logp.grad.tolist() == pytest.approx(slopes, rel=1e-6, abs=1e-9)
    assert sums.mean().item() == pytest.approx(sum(plain(X[k], Y[k], k) for k in range(2)) / 2, rel=1e-9)


EVERY = [
    DPO(), RobustDPO(), LengthDesensitisedDPO(), IPO(), IPO(reduction="average"), Hinge(), EXO(), AOT(), APOZero(), APODown(), NCA(),
    SPPO(), BCOPair(), SimPO(), ORPO(), CPO(), ChosenNLL(), Mixture(parts=(DPO(), ChosenNLL(), BCOPair()), weights=(1.0, 0.1, 0.5)),
]  # fmt: skip


def test_every_member_of_the_union_is_tested():
    assert {type(objective) for objective in EVERY} == {*get_args(PairPart), Mixture}


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.kind)
@pytest.mark.parametrize("probability", [0.8, 0.5, 0.0])
def test_a_soft_label_is_the_expected_loss_over_which_side_is_better(objective, probability):
    pairs = _with_baselines(objective, _pairs())
    soft = objective(replace(pairs, probability=torch.full((2,), probability)))
    there, back = objective(pairs), objective(replace(pairs, chosen=pairs.rejected, rejected=pairs.chosen))

    torch.testing.assert_close(soft.loss, probability * there.loss + (1 - probability) * back.loss)
    assert _metric(soft, "chosen_logp") == _metric(there, "chosen_logp")


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.kind)
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_gradients_are_finite_however_far_apart(objective, scale):
    far = _pairs(grad=True, x=tuple(scale * v for v in X), y=tuple(scale * v for v in Y))
    pairs = _with_baselines(objective, far)
    objective(pairs).loss.backward()
    leaves = [side.logp.grad for side in (far.chosen, far.rejected)]

    assert all(grad is None or bool(torch.isfinite(grad).all()) for grad in leaves)
    if scale == 1.0:
        assert float(far.chosen.logp.grad.abs().max()) > 0


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.kind)
def test_pairs_of_weight_zero_say_nothing(objective):
    pairs = _pairs()
    wild = pair_logps(*(torch.tensor([*values.tolist(), extra]) for values, extra in zip(
        (pairs.chosen.logp, pairs.rejected.logp, pairs.chosen.reference, pairs.rejected.reference), (-1.0, -90.0, -5.0, -1.0), strict=True
    )), weight=torch.tensor([1.0, 2.0, 0.0]), lengths=tuple(torch.tensor([*values, 5.0]) for values in LENGTHS))  # fmt: skip
    heads = [replace(side, head=side.logp * 0.6, reference_head=side.reference * 0.6) for side in (wild.chosen, wild.rejected)]
    more = objective(_with_baselines(objective, replace(wild, chosen=heads[0], rejected=heads[1])))
    less = objective(_with_baselines(objective, replace(pairs, weight=torch.tensor([1.0, 2.0]))))

    torch.testing.assert_close(more.loss, less.loss)
    for name in less.metrics:
        assert _metric(more, name) == pytest.approx(_metric(less, name))


LOG_2 = math.log(2)
AT_REFERENCE = {
    DPO(): LOG_2, RobustDPO(): LOG_2, LengthDesensitisedDPO(): LOG_2, IPO(tau=0.1): 25.0, Hinge(): 1.0, AOT(): LOG_2, APOZero(): 1.0,
    APODown(): 1.0, NCA(): 2 * LOG_2, SPPO(beta=0.1): 50.0, BCOPair(): 2 * LOG_2, EXO(label_smoothing=0.5 - 1e-12): 0.0,
}  # fmt: skip


@pytest.mark.parametrize("objective", AT_REFERENCE, ids=lambda objective: objective.kind)
def test_policy_equal_to_reference(objective):
    pairs = _with_baselines(objective, _pairs(x=(0.0, 0.0), y=(0.0, 0.0)))
    sums = objective(pairs)

    assert sums.mean().item() == pytest.approx(AT_REFERENCE[objective], abs=1e-9)
    assert _metric(sums, "margin") == 0
    assert _metric(sums, "accuracy") == 0.5


@pytest.mark.parametrize("objective", [objective for objective in EVERY if not objective.needs_reference], ids=lambda one: one.kind)
def test_objectives_that_need_no_reference_do_not_look_at_one(objective):
    pairs = _pairs()
    other = [replace(side, reference=side.reference * 3) for side in (pairs.chosen, pairs.rejected)]

    assert objective(pairs).loss == objective(replace(pairs, chosen=other[0], rejected=other[1])).loss


def test_aot_compares_ranks_and_so_differs_from_dpo():
    # Margins of the policy 4, 1 and of the reference 0, 3: the larger is compared with the larger.
    chosen, zero = torch.tensor([4.0, 1.0]), torch.zeros(2)
    pairs = pair_logps(chosen, zero, torch.tensor([0.0, 3.0]), zero)
    actual = AOT(beta=1.0)(_with_baselines(AOT(), pairs)).loss.item()

    assert actual == pytest.approx(2 * nls(1.0))
    assert DPO(beta=1.0)(pairs).loss.item() == pytest.approx(nls(4.0) + nls(-2.0))


def test_importance_scales_the_loss_and_not_the_count():
    pairs = _pairs()
    importance = wpo_importance(torch.tensor([-0.5, 0.3]), torch.tensor([-0.25, 0.1]))
    assert importance.tolist() == pytest.approx([math.exp(-0.75), 1.0])

    weighed = DPO()(replace(pairs, importance=importance))
    losses = DPO().losses(pairs)
    assert weighed.mean().item() == pytest.approx(float((losses * importance).sum() / 2))
    assert _metric(weighed, "importance") == pytest.approx((math.exp(-0.75) + 1) / 2)
    assert _metric(weighed, "accuracy") == _metric(DPO()(pairs), "accuracy")


def test_a_mixture_tells_its_parts_apart():
    sums = Mixture(parts=(DPO(), ChosenNLL()), weights=(1.0, 0.2))(_pairs())

    assert _metric(sums, "loss_dpo") + 0.2 * _metric(sums, "loss_nll") == pytest.approx(sums.mean().item())


def _unpaired(case, z, *, grad=False):
    given = case["inputs"]
    logp = torch.tensor(given["policy_logp"], requires_grad=grad)
    return UnpairedLogps(logp, torch.tensor(given["ref_logp"]), torch.tensor(given["desirable"]), torch.ones(4), z.expand(4))


def test_kto(oracle, matches):
    case = oracle("kto")
    given, expected = case["inputs"], case["expected"]
    objective = KTO(beta=given["beta"], desirable_weight=given["w_desirable"], undesirable_weight=given["w_undesirable"])
    log_ratios = torch.tensor(given["kl_policy_logp"]) - torch.tensor(given["kl_ref_logp"])
    z = objective.baseline(log_ratios)
    matches(z, expected["z_ref"])
    matches(objective(_unpaired(case, z)).mean(), expected["loss"])
    for k in range(4):
        alone = replace(_unpaired(case, z), weight=torch.eye(4)[k])
        matches(objective(alone).loss, expected["per_example"][k])

    clamped = objective.baseline(-log_ratios)
    matches(clamped, expected["z_ref_when_negative"])
    matches(objective(_unpaired(case, clamped)).mean(), expected["loss_when_z_clamped"])


def test_no_gradient_flows_through_the_baseline(oracle):
    case = oracle("kto")
    mismatched = torch.tensor([0.5, 1.5], requires_grad=True)
    own = _unpaired(case, KTO().baseline(mismatched), grad=True)
    KTO()(own).loss.backward()

    assert mismatched.grad is None
    assert bool((own.logp.grad != 0).all())


def test_without_a_completion_of_another_prompt_the_baseline_is_zero():
    assert float(KTO().baseline(torch.zeros(0))) == 0.0


def test_bco_against_the_plain_formula(oracle):
    case = oracle("kto")
    given, objective = case["inputs"], BCO(beta=0.2)
    ratios = [p - r for p, r in zip(given["policy_logp"], given["ref_logp"], strict=True)]
    shift = ((ratios[0] + ratios[2]) / 2 + (ratios[1] + ratios[3]) / 2) / 2
    actual = objective.baseline(torch.tensor(ratios), torch.tensor(given["desirable"]), torch.ones(4))
    expected = [nls(0.2 * (x - shift) * (1 if up else -1)) for x, up in zip(ratios, given["desirable"], strict=True)]
    sums = objective(_unpaired(case, actual))

    assert float(actual) == pytest.approx(shift)
    assert sums.mean().item() == pytest.approx(sum(expected) / 4)
    assert _metric(sums, "desirable_reward") == pytest.approx(0.2 * (ratios[0] + ratios[2]) / 2)
    assert _metric(sums, "undesirable_reward") == pytest.approx(0.2 * (ratios[1] + ratios[3]) / 2)
    assert _metric(sums, "baseline") == pytest.approx(shift)


def test_bco_takes_the_mean_of_one_kind_where_the_other_is_missing():
    ratios, up = torch.tensor([1.0, 3.0, 50.0]), torch.tensor([True, True, False])
    assert float(BCO().baseline(ratios, up, torch.tensor([1.0, 1.0, 0.0]))) == 2.0
    assert float(BCO().baseline(ratios, up, torch.zeros(3))) == 0.0


@pytest.mark.parametrize("objective", [KTO(), BCO()])
def test_thumbs_at_the_reference_are_undecided(objective, oracle):
    case = oracle("kto")
    own = _unpaired(case, torch.tensor(0.0))
    sums = objective(replace(own, logp=own.reference))

    assert sums.mean().item() == pytest.approx({"kto": 0.5, "bco": LOG_2}[objective.kind])
    assert _metric(sums, "accuracy") == 0.5


@pytest.mark.parametrize("objective", [KTO(desirable_weight=2.0), BCO()])
@pytest.mark.parametrize("cut", [[4], [2, 2], [1, 1, 1, 1]])
def test_any_cut_of_thumbs_gives_the_same_sums(objective, cut, oracle):
    own = _unpaired(oracle("kto"), torch.tensor(0.7))
    weighed = replace(own, weight=torch.tensor([1.0, 0.5, 0.0, 2.0]))
    parts = [objective(UnpairedLogps(**{name: x[rows] for name, x in vars(weighed).items()})) for rows in torch.arange(4).split(cut)]
    whole = objective(weighed)

    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    torch.testing.assert_close(sum(part.count for part in parts), whole.count)
    for name in whole.metrics:
        torch.testing.assert_close(sum(part.metrics[name][0] for part in parts), whole.metrics[name][0])


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.kind)
@pytest.mark.parametrize("cut", [[2], [1, 1]])
def test_any_cut_of_pairs_gives_the_same_sums(objective, cut):
    whole = _with_baselines(objective, replace(_pairs(), probability=torch.tensor([0.9, 1.0]), weight=torch.tensor([0.5, 2.0])))

    def rows(of, which):
        return {name: None if x is None else x[which] for name, x in vars(of).items() if not isinstance(x, PairSide)}

    def part(which):
        sides = {name: PairSide(**rows(getattr(whole, name), which)) for name in ("chosen", "rejected")}
        return objective(PairLogps(**sides, **rows(whole, which)))

    parts = [part(which) for which in torch.arange(2).split(cut)]
    torch.testing.assert_close(sum(each.loss for each in parts), objective(whole).loss)
    torch.testing.assert_close(sum(each.count for each in parts), objective(whole).count)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: IPO(tau=0), "tau"),
        (lambda: SimPO(beta=0), "beta"),
        (lambda: SimPO(target_margin=-1), "target_margin"),
        (lambda: ORPO(odds_weight=-1), "odds_weight"),
        (lambda: CPO(nll_weight=math.nan), "nll_weight"),
        (lambda: EXO(label_smoothing=0.0), "label_smoothing"),
        (lambda: KTO(desirable_weight=0), "desirable_weight"),
        (lambda: Mixture(parts=(DPO(),), weights=(1.0,)), "two or more parts"),
        (lambda: Mixture(parts=(DPO(), DPO()), weights=(1.0, 1.0)), "different kinds"),
        (lambda: Mixture(parts=(DPO(), IPO()), weights=(1.0,)), "one weight"),
        (lambda: Mixture(parts=(DPO(), IPO()), weights=(1.0, 0.0)), "above 0"),
        (lambda: Mixture(parts=(AOT(), BCOPair()), weights=(1.0, 1.0)), "use one of them"),
    ],
)
def test_settings_are_checked(make, named):
    with pytest.raises(ConfigError, match=named):
        make()


@pytest.mark.parametrize("objective", [Hinge, EXO, AOT, APOZero, APODown, NCA, SPPO, BCOPair, CPO, KTO, BCO])
def test_beta_is_checked(objective):
    with pytest.raises(ConfigError, match="beta must be > 0"):
        objective(beta=0.0)


def test_shapes_are_checked():
    one, two = torch.zeros(1), torch.zeros(2)
    with pytest.raises(ValueError, match=r"rejected.logp"):
        pair_logps(one, two, one, one)
    with pytest.raises(ValueError, match="boolean"):
        UnpairedLogps(one, one, one, one, one)
