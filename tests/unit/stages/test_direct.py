"""What stage `direct` measures: against sums over plain token log-probabilities, and independent of how a step is cut."""

from __future__ import annotations

import copy
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from palate.core import Completion, DataError, Interrupted, Message, Preference, Prompt, UnpairedPreference
from palate.data.formats.write import preference_row
from palate.data.jsonl import read_rows, write_rows
from palate.models.causal import CausalPolicy
from palate.objectives.direct import PairObjective, UnpairedObjective
from palate.objectives.direct.anchored import BCOPair
from palate.objectives.direct.dpo import DPO, LengthDesensitisedDPO
from palate.objectives.direct.margins import AOT
from palate.objectives.direct.reference_free import SimPO
from palate.objectives.direct.unpaired_losses import BCO, KTO
from palate.objectives.reduce import Sums
from palate.runs.record import RunPlan
from palate.runs.run import open_run_at
from palate.stages.direct import Direct
from palate.testing import tiny_policy, word_tokenizer
from palate.text.pack import Tree, pack
from palate.training.comparisons import JudgedPrompt, judged_prompts, overall
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from palate.training.pairs import PairLossInputs
from palate.training.reference import FixedReference, MovingReference, Reference, ReferenceUpdate, UniformReference
from palate.training.unpaired import RatedPrompt, UnpairedLossInputs, UnpairedSource, mismatched, rated_prompts, unpaired_of

TEXTS = [
    ("the cook has ", "rice and beans but no salt", "no salt"),
    ("so what ", "can we make for two guests today", "please"),
    ("the guests ", "make rice", "make beans today please"),
    ("please ", "make salt for the cook", "what can we make"),
    ("today we ", "can", "has so"),
    ("two guests ", "make the beans and rice today", "salt and rice"),
    ("no ", "beans", "rice rice"),
    ("for the cook ", "today no salt", "make rice please"),
]
LIMIT = 60


def preference(prompt: str, chosen: str, rejected: str, probability: float = 1.0, weight: float = 1.0) -> Preference:
    return Preference(Prompt(prompt, (Message("text", prompt),)), Completion(chosen), Completion(rejected), probability, weight=weight)


PREFERENCES = [preference(*texts, 0.6 + 0.05 * k, 1.0 + 0.25 * k) for k, texts in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def reference() -> CausalPolicy:
    return tiny_policy(seed=0)


@pytest.fixture
def policy() -> CausalPolicy:
    """Another model than the reference, so that no log-ratio is 0."""
    return tiny_policy(seed=1)


@pytest.fixture(scope="module")
def judged() -> list[JudgedPrompt]:
    return overall(judged_prompts(PREFERENCES, word_tokenizer(), LIMIT)[0])


@pytest.fixture(scope="module")
def rated() -> list[RatedPrompt]:
    return rated_prompts(unpaired_of(PREFERENCES), word_tokenizer(), LIMIT)[0]


def token_logps(policy: CausalPolicy, tree: Tree, branch: int) -> torch.Tensor:
    """Log-probabilities of every word (t, v) before each token of one branch, by the plain model."""
    ids = [*tree.trunk, *tree.branches[branch].ids]
    plain = copy.deepcopy(policy.module)
    plain.set_attn_implementation("sdpa")
    logits = plain(torch.tensor([ids])).logits[0].float()
    return logits.log_softmax(-1)[len(tree.trunk) - 1 : -1]


def picked(logps: torch.Tensor, tree: Tree, branch: int) -> torch.Tensor:
    return logps.gather(-1, torch.tensor(tree.branches[branch].ids)[:, None])[:, 0]


def test_columns_are_sums_over_the_right_tokens(policy: CausalPolicy, judged: list[JudgedPrompt]) -> None:
    course = PairLossInputs(judged, LengthDesensitisedDPO(), "wpo", 1000, UniformReference())
    with torch.no_grad():
        (batch,) = course.batches(list(range(len(judged))))
        found = course.measure(policy, batch)
        for k, row in zip(batch.indices, found, strict=True):
            tree, (pair,) = judged[k].tree, judged[k].pairs
            sides = (pair.chosen, pair.rejected)
            every = [token_logps(policy, tree, side) for side in sides]
            own = [picked(logps, tree, side) for logps, side in zip(every, sides, strict=True)]
            shared = min(map(len, own))
            alignment = [(mine - (2 * logps).logsumexp(-1)).mean() for mine, logps in zip(own, every, strict=True)]
            expected = [*(mine.sum() for mine in own), *(mine[:shared].sum() for mine in own), *alignment]
            torch.testing.assert_close(row, torch.stack(expected), rtol=1e-4, atol=1e-4)
    assert found.shape == (8, course.columns)


def course_of(
    objective: PairObjective | UnpairedObjective, judged: list[JudgedPrompt], rated: list[RatedPrompt], tokens: int, anchor: Reference
):  # type: ignore[no-untyped-def]
    if isinstance(objective, KTO | BCO):
        others = UnpairedSource(mismatched(rated, LIMIT, seed=3), tokens) if isinstance(objective, KTO) else None
        return UnpairedLossInputs(UnpairedSource(rated, tokens), others, objective, anchor)
    return PairLossInputs(judged, objective, "none", tokens, anchor)


def step(course, policy: CausalPolicy, indices: list[int]) -> tuple[list[Sums], list[torch.Tensor]]:  # type: ignore[no-untyped-def]
    """Sums of a step's parts and the gradient of all of them, divided once."""
    policy.module.zero_grad()
    found = []
    for part in course.microbatches(policy, indices):
        sums = course.sums(part, course.logps(policy, part))
        sums.loss.backward()
        found.append(sums)
    count = sum(float(sums.count) for sums in found)
    return found, [p.grad / count for p in policy.parameters() if p.grad is not None]


CUT = [DPO(), LengthDesensitisedDPO(), AOT(beta=0.5), BCOPair(), SimPO(), KTO(undesirable_weight=1.3), BCO()]


@pytest.mark.parametrize("objective", CUT, ids=lambda objective: objective.kind)
def test_any_cut_of_a_step_gives_the_same_gradient(
    objective: PairObjective | UnpairedObjective,
    policy: CausalPolicy,
    reference: CausalPolicy,
    judged: list[JudgedPrompt],
    rated: list[RatedPrompt],
) -> None:
    gradients = {}
    for tokens in (1, 45, 10_000):
        parts, gradient = step(course_of(objective, judged, rated, tokens, FixedReference(reference)), policy, list(range(8)))
        gradients[len(parts)] = gradient
    assert {1, 8} < set(gradients)
    assert len(gradients) == 3
    for cut in (8, next(n for n in gradients if 1 < n < 8)):
        torch.testing.assert_close(gradients[cut], gradients[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [AOT(beta=0.5), BCOPair()], ids=lambda objective: objective.kind)
def test_figures_of_a_step_are_of_the_whole_step(
    objective: PairObjective, policy: CausalPolicy, reference: CausalPolicy, judged: list[JudgedPrompt], rated: list[RatedPrompt]
) -> None:
    """Formed for each part alone they would give another loss."""
    whole = sum(
        sums.loss.item() for sums in step(course_of(objective, judged, rated, 1, FixedReference(reference)), policy, list(range(8)))[0]
    )
    course = course_of(objective, judged, rated, 1, FixedReference(reference))
    alone = sum(step(course, policy, [k])[0][0].loss.item() for k in range(8))

    assert abs(whole - alone) > 1e-3


def test_objectives_without_a_reference_measure_none(judged: list[JudgedPrompt], policy: CausalPolicy) -> None:
    stage = Direct(model="m", preferences="p", objective=SimPO())
    reference = stage._reference(policy, 1)
    assert isinstance(reference, UniformReference)
    inputs = PairLossInputs(judged, SimPO(), "none", 100, reference)
    assert all(bool((part.reference_logps == 0).all()) for part in inputs.microbatches(policy, list(range(8))))


@pytest.mark.parametrize("anchor", ["fixed", "moving"])
def test_the_policy_as_its_own_reference_has_no_log_ratio(anchor: str, policy: CausalPolicy, judged: list[JudgedPrompt]) -> None:
    made: Reference = FixedReference(policy) if anchor == "fixed" else MovingReference(policy, ReferenceUpdate())
    course = PairLossInputs(judged, DPO(), "none", 50, made)
    for part in course.microbatches(policy, list(range(8))):
        now = course.logps(policy, part)
        torch.testing.assert_close(now.detach(), part.reference_logps, rtol=0, atol=1e-5)
        sums = course.sums(part, now)
        assert sums.mean().item() == pytest.approx(math.log(2), abs=1e-5)


def test_a_fixed_reference_stays_when_the_policy_moves(policy: CausalPolicy, judged: list[JudgedPrompt]) -> None:
    course = PairLossInputs(judged, DPO(), "none", 50, FixedReference(policy))
    before = torch.cat([part.reference_logps for part in course.microbatches(policy, list(range(8)))])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    after = torch.cat([part.reference_logps for part in course.microbatches(policy, list(range(8)))])
    assert bool((before == after).all())


def weights(policy: CausalPolicy) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_reference_that_follows_is_mixed_when_it_is_due(share: float, policy: CausalPolicy, reference: CausalPolicy) -> None:
    moving = MovingReference(reference, ReferenceUpdate(every=3, share=share))
    start, now = weights(reference), weights(policy)
    for steps_done in range(3):
        moving.before_step(policy, steps_done)
        assert bool((weights(moving._reference) == start).all())
    moving.before_step(policy, 3)
    torch.testing.assert_close(weights(moving._reference), share * now + (1 - share) * start)
    assert bool((weights(reference) == start).all())


def test_a_reference_that_follows_is_never_trained(policy: CausalPolicy, judged: list[JudgedPrompt]) -> None:
    moving = MovingReference(policy, ReferenceUpdate(every=100))
    course = PairLossInputs(judged, DPO(), "none", 1000, moving)
    learner = Learner({"policy": policy.module, **moving.modules}, AdamW(lr=1e-2, weight_decay=0.5), 4)
    start = weights(policy)
    for _ in range(2):
        learner.step(course.microbatches(policy, list(range(8))), lambda part: course.sums(part, course.logps(policy, part)))
    assert bool((weights(moving._reference) == start).all())
    assert not bool((weights(policy) == start).all())


def trained(directory: Path, stage: Direct, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> dict[str, torch.Tensor]:
    """Weights at the end of the stage; with `stop_after` it is interrupted after so many steps and then resumed."""
    plan = RunPlan("direct", "direct", seed=1)
    if stop_after is not None:
        with pytest.raises(Interrupted), open_run_at(directory, plan).active() as run, monkeypatch.context() as patch:
            log = run.log

            def logged(step: int, metrics: dict[str, float]) -> None:
                log(step, metrics)
                if step == stop_after - 1:
                    os.kill(os.getpid(), signal.SIGINT)

            patch.setattr(run, "log", logged)
            stage.run(run)
    with open_run_at(directory, plan).active() as run:
        stage.run(run)
    assert [row["step"] for _, row in read_rows(directory / "metrics.jsonl")] == list(range(6))
    return load_file(directory / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("settings", "stops"),
    [({"reference_update": ReferenceUpdate(every=2, share=0.5)}, (2, 3)), ({"objective": KTO()}, (3,)), ({"objective": AOT()}, (3,))],
    ids=["follow", "kto", "aot"],
)
def test_a_resumed_run_ends_as_a_straight_one(
    settings: dict[str, object], stops: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_policy().save(tmp_path / "policy")
    write_rows(tmp_path / "pairs.jsonl", [preference_row(one) for one in PREFERENCES])
    given = {"model": str(tmp_path / "policy"), "preferences": str(tmp_path / "pairs.jsonl"), "prompts_per_step": 4, "epochs": 3.0}
    stage = Direct(**given, optimizer=AdamW(lr=1e-3), **settings)  # type: ignore[arg-type]
    straight = trained(tmp_path / "straight", stage, monkeypatch)
    for stop_after in stops:
        resumed = trained(tmp_path / f"resumed{stop_after}", stage, monkeypatch, stop_after)
        assert all(straight[name].equal(resumed[name]) for name in straight)


def test_thumbs_of_pairs() -> None:
    given = [preference("a", "x", "y", 0.75, 2.0), preference("a", "x", "y", 0.5), preference("b", "x", "y", 0.1)]
    found = [(thumb.completion.text, thumb.desirable, thumb.weight) for thumb in unpaired_of(given)]
    assert found == [("x", True, 1.0), ("y", False, 1.0), ("x", False, pytest.approx(0.8)), ("y", True, pytest.approx(0.8))]


def test_judgments_of_a_prompt_are_branches_of_one_tree() -> None:
    prompt = Prompt("p", (Message("text", "the cook "),))
    given = [UnpairedPreference(prompt, Completion("rice"), desirable=True),
             UnpairedPreference(prompt, Completion("salt"), desirable=False, weight=0.5),
             UnpairedPreference(prompt, Completion("rice"), desirable=False)]  # fmt: skip
    (found,), reasons = rated_prompts(given, word_tokenizer(), LIMIT)
    assert len(found.tree.branches) == 2
    assert (found.branch, found.desirable, found.weight) == ((0, 1, 0), (True, False, False), (1.0, 0.5, 1.0))
    assert reasons == []


def test_judgments_that_do_not_fit_are_counted_and_spare_the_others() -> None:
    prompt = Prompt("p", (Message("text", "the cook "),))
    given = [
        UnpairedPreference(prompt, Completion(text), desirable=True) for text in ("rice", "rice and beans but no salt so what can we make")
    ]
    found, reasons = rated_prompts(given, word_tokenizer(), 10)
    assert [len(one.branch) for one in found] == [1]
    assert [reason.split(":")[0] for reason in reasons] == ["too long"]


@pytest.mark.parametrize("seed", range(5))
def test_every_prompt_borrows_a_completion_that_is_not_its_own(seed: int, rated: list[RatedPrompt]) -> None:
    found = mismatched(rated, LIMIT, seed)
    assert [one.tree.trunk for one in found] == [one.tree.trunk for one in rated]
    everyone = {branch.ids for one in rated for branch in one.tree.branches}
    for borrowed, own in zip(found, rated, strict=True):
        (branch,) = borrowed.tree.branches
        assert branch.ids in everyone
        assert branch.ids not in {mine.ids for mine in own.tree.branches}
    assert len({one.tree.branches[0].ids for one in found}) > 4


def test_what_is_borrowed_is_cut_to_fit(rated: list[RatedPrompt]) -> None:
    longest = max(len(one.tree.trunk) for one in rated)
    assert all(one.tree.tokens <= longest + 2 for one in mismatched(rated, longest + 2, seed=0))


def test_one_prompt_has_nothing_to_borrow(rated: list[RatedPrompt]) -> None:
    with pytest.raises(DataError, match="completions of other prompts"):
        mismatched(rated[:1], LIMIT, seed=0)
    with pytest.raises(DataError, match="the same completions"):
        mismatched([rated[0], replace(rated[1], tree=Tree(rated[1].tree.trunk, rated[0].tree.branches))], LIMIT, seed=0)


def test_the_baseline_of_kto_is_the_mean_over_borrowed_completions(
    policy: CausalPolicy, reference: CausalPolicy, rated: list[RatedPrompt], judged: list[JudgedPrompt]
) -> None:
    course = course_of(KTO(), judged, rated, 45, FixedReference(reference))
    indices = [1, 4, 6]
    trees = [mismatched(rated, LIMIT, seed=3)[k].tree for k in indices]
    with torch.no_grad():
        gaps = [
            sum(float(picked(token_logps(m, tree, 0), tree, 0).sum()) * sign for m, sign in ((policy, 1), (reference, -1)))
            for tree in trees
        ]
        parts = course.microbatches(policy, indices)
    assert len({float(part.baseline) for part in parts}) == 1
    assert float(parts[0].baseline) == pytest.approx(max(sum(gaps) / 3, 0.0), rel=1e-4, abs=1e-4)
    reversed_course = course_of(KTO(), judged, rated, 45, FixedReference(policy))
    assert float(reversed_course.microbatches(reference, indices)[0].baseline) == pytest.approx(
        max(-sum(gaps) / 3, 0.0), rel=1e-4, abs=1e-4
    )


def test_packed_lengths_count_the_terminator(judged: list[JudgedPrompt]) -> None:
    course = PairLossInputs(judged, SimPO(), "none", 1000, UniformReference())
    (batch,) = course.batches([4])
    assert [len(branch.ids) for branch in judged[4].tree.branches] == [2, 4]  # "can", end; "has", " ", "so", end
    assert pack([judged[4].tree]).last.numel() == len(batch.trees.last) == 2


def test_reference_values_stand_beside_their_judgments_when_prompts_have_several(policy: CausalPolicy, reference: CausalPolicy) -> None:
    """Three completions in three pairs, two in one: rows of a prompt stay together however the step is cut and ordered."""
    given = [
        preference("the cook ", a, b, 0.9) for a, b in (("rice", "beans today"), ("beans today", "no salt so"), ("rice", "no salt so"))
    ]
    given += [preference("the guests ", "make rice", "make salt today"), preference("please ", "can we", "what", 0.8)]
    tokenizer = word_tokenizer()
    pairs = overall(judged_prompts(given, tokenizer, LIMIT)[0])
    thumbs = rated_prompts(unpaired_of(given), tokenizer, LIMIT)[0]
    assert [len(one.pairs) for one in pairs] == [3, 1, 1]
    assert [len(one.branch) for one in thumbs] == [6, 2, 2]
    for objective in (LengthDesensitisedDPO(), BCO()):
        for tokens in (1, 30, 1000):
            course = course_of(objective, pairs, thumbs, tokens, FixedReference(reference))
            parts = course.microbatches(policy, [2, 0, 1])
            with torch.no_grad():
                for part in parts:
                    torch.testing.assert_close(part.reference_logps, course.logps(reference, part), rtol=1e-5, atol=1e-4)
            assert sum(len(part.reference_logps) for part in parts) == sum(course.rows)
