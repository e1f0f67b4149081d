"""Stage `rules`: train a classifier that says whether a written rule is broken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from palate.config.artifacts import model_at
from palate.config.types import Amount, Count, Input, ModelInput, RuleFileInput, Share
from palate.core import ConfigError, DataError, ModelError, derive_seed
from palate.data.data_sources import require_each_once
from palate.data.jsonl import write_rows
from palate.data.rule_file import RuleFile, WrittenRule
from palate.data.splits import split_held_out
from palate.distributed.sharing import microbatches
from palate.distributed.windows import windows
from palate.evaluation.rule_figures import RuleFigures, figures_of, findings
from palate.evaluation.rule_tests import program_truths, rule_predictions
from palate.evaluation.rule_votes import RuledCompletion, by_rule, read_rule_votes
from palate.models.adapters import LoRA, four_bit_of
from palate.models.likelihood import attach
from palate.models.precision import DType, dtype_of
from palate.models.reward_file import REWARD_FILE, RULE_HEAD
from palate.models.scalar import ScalarModel, load_scalar, scalar_from
from palate.models.shared_layers import sharing_out
from palate.models.surprise import Surprise
from palate.objectives.breach_loss import BreachScores, breach_loss
from palate.objectives.reduce import Sums
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_classifier import RuleClassifier
from palate.runs.run import Run
from palate.text.pack import PackedBatch, Tree, pack
from palate.text.rule_tree import rule_tree
from palate.text.template import Unusable
from palate.training.fit import epochs_of, fit
from palate.training.learner import Learner
from palate.training.model_io import check_packages, keep_model, token_limit, trainable, trained
from palate.training.optimizer import AdamW


@dataclass(frozen=True)
class TrainRules:
    """Train a classifier that says whether a written rule is broken.

    Attributes:
        model: the language model whose backbone the classifier starts from; usually the fine-tuned one. Or a classifier, from which
            training goes on.
        rules: the file of rules.
        judgments: judgments of these rules: runs of collect_rules, or files that `palate exchange` reads.
        held_out: judgments for testing; without any, the stage sets `held_out_share` of the prompts aside.
        held_out_share: share of the prompts for testing where `held_out` is empty.
        unlearned: ids of rules that the classifier does not learn, and is tested on.
        wordings: wordings of a rule that each judgment is learned under, drawn at random, at most; none takes all that are not held out.
        answers: the two words with which the model answers that a rule is broken, and that it is kept, such as ["yes", "no"]. The head then
            starts as their log-odds; without them it starts at random.
        score: what the classifier reads: the last token, or also how surprising single tokens of the completion are (with_surprise).
        epochs: epochs over the data.
        completions_per_step: completions, with all judgments of them, per optimizer step.
        max_tokens: most tokens of prompt, completion and question together; none uses the model's limit.
        tokens_per_microbatch: tokens in a forward pass, at most.
        optimizer: the optimizer and its schedule.
        adapters: train a LoRA adapter on the frozen backbone, and the head; none trains all weights.
        dtype: the type that forward and backward pass compute in; auto is bfloat16 on GPUs, else float32. Weights stay float32.
        checkpoint_activations: recompute activations in the backward pass: it needs less memory and one more forward pass.
    """

    model: ModelInput
    rules: RuleFileInput
    judgments: tuple[Input, ...]
    held_out: tuple[Input, ...] = ()
    held_out_share: Share = 0.1
    unlearned: tuple[str, ...] = ()
    wordings: Count | None = 2
    answers: tuple[str, str] | None = None
    score: Literal["last_token", "with_surprise"] = "last_token"
    epochs: Amount = 1.0
    completions_per_step: Count = 16
    max_tokens: Count | None = None
    tokens_per_microbatch: Count = 1024
    optimizer: AdamW = field(default_factory=lambda: AdamW(lr=1e-4))
    adapters: LoRA | None = None
    dtype: DType = "auto"
    checkpoint_activations: bool = False

    def check(self) -> None:
        """Raise ConfigError when nothing is left to test on, judgments are named twice, or a package is missing."""
        check_packages(self.optimizer, self.adapters)
        require_each_once("judgments", self.judgments)
        require_each_once("held_out", self.held_out)
        if not self.judgments:
            raise ConfigError("judgments is empty: name runs of collect_rules, or files with judgments of rules")
        if self.score == "with_surprise" and self.adapters is not None:
            raise ConfigError("score: with_surprise trains all weights; leave out adapters, or use score: last_token")
        if not self.held_out and self.held_out_share == 0:
            raise ConfigError("held_out_share is 0 and held_out is empty: a classifier needs a test. Raise the share, or name judgments")

    def run(self, run: Run) -> None:
        """Train and test the classifier; save `model/`, and what it says about held-out completions to `predictions.jsonl`."""
        file = RuleFile.read(Path(self.rules))
        unlearned = file.selected(self.unlearned) if self.unlearned else ()
        train, test = self._split(run, file)
        truths = program_truths(file, test)
        model = self._untrained(run)
        learned = {rule.id: rule for rule in file.rules if rule not in unlearned}
        examples = self._examples(run, [one for one in train if one.rule in learned], learned, model)
        if not examples:
            raise DataError(f"{', '.join(self.judgments)}: nothing is left to train on. Give judgments of rules that are learned")
        epochs = epochs_of(run, len(examples), self.completions_per_step, self.epochs, lambda k: examples[k].source)
        learner = Learner({"classifier": model.module}, self.optimizer, epochs.steps, dtype=dtype_of(self.dtype))

        def batches(indices: list[int]) -> Iterator[RuleBatch]:
            chosen = [examples[k] for k in indices]
            for part in microbatches([one.tree for one in chosen], self.tokens_per_microbatch):
                yield RuleBatch.of([chosen[k] for k in part], self.tokens_per_microbatch)

        def loss(batch: RuleBatch) -> Sums:
            return breach_loss(BreachScores(model.scores(batch.trees).float()[:, 0], batch.broken, batch.weight))

        last = fit(run, learner, epochs, batches, loss)
        model = trained(run, model, self.adapters, learner)
        keep_model(run, model, self.adapters)
        predictions, unread = rule_predictions(RuleClassifier(LearnedReward(model), "model"), file, test, truths)
        run.dropped("completions that were not tested", unread)
        write_rows(run.directory / "predictions.jsonl", (vars(one) for one in predictions))
        votes = by_rule([*train, *test])
        figures: dict[str, RuleFigures] = {}
        for rule in file.rules:
            own = [one for one in predictions if one.rule == rule.id]
            found = figures_of(own, votes.get(rule.id, []), derive_seed(run.seed, "agreement"), is_learned=rule.id in learned)
            if found is not None:
                figures[rule.id] = found
        said = findings(figures)
        for finding in said:
            run.say(finding)
        run.summary(
            {
                "judgments": sum(len(one.votes) for one in train),
                "completions": len(examples),
                "last": last,
                "held_out": {name: own.plain() for name, own in figures.items()},
                "findings": said,
            }
        )

    def _untrained(self, run: Run) -> ScalarModel:
        base = model_at(self.model)
        if (Path(base) / REWARD_FILE).is_file():
            return trainable(run, self._former(base), base, None, checkpoint_activations=self.checkpoint_activations)
        seed, four_bit = derive_seed(run.seed, "heads"), four_bit_of(self.adapters)
        with sharing_out(windows(), learns=self.adapters is None):
            fresh = scalar_from(base, (RULE_HEAD,), seed=seed, four_bit=four_bit, start=self.answers or "random")
        if self.score == "with_surprise":
            size = fresh.module.config.get_text_config()
            if not size.tie_word_embeddings:
                raise ModelError(
                    f"{base}: with_surprise needs a model whose output embeddings are its input embeddings, and this one has others. Use "
                    "score: last_token"
                )
            attach(fresh.module, Surprise(size.hidden_size, derive_seed(run.seed, "surprise")))
            fresh = ScalarModel(fresh.module, fresh.tokenizer, fresh.path)
        return trainable(run, fresh, base, self.adapters, checkpoint_activations=self.checkpoint_activations)

    def _former(self, base: str) -> ScalarModel:
        """Return the classifier in a directory, from which training goes on.

        Raises:
            ConfigError: a setting does not fit it, or the test could hold prompts that it has learned from.
            ModelError: it is a reward model.
        """
        with sharing_out(windows(), learns=True):
            model = load_scalar(base)
        RuleClassifier(LearnedReward(model), base)
        score = "with_surprise" if isinstance(model.likelihood, Surprise) else "last_token"
        if score != self.score:
            raise ConfigError(f"score is {self.score}, and the classifier {base} was trained with score: {score}. Set score to that")
        if self.answers is not None or self.adapters is not None:
            raise ConfigError(
                f"{base} is a classifier, so training goes on from its head, with all weights. Leave out answers and adapters"
            )
        if not self.held_out:
            raise ConfigError(
                f"{base} is a classifier, and a held_out_share could set prompts aside that it has learned from. Name judgments of other "
                "prompts in held_out"
            )
        return model

    def _split(self, run: Run, file: RuleFile) -> tuple[list[RuledCompletion], list[RuledCompletion]]:
        """Return the judgments to train and to test on; no prompt is in both."""
        judged = _read(run, self.judgments, file)
        if not self.held_out:
            return split_held_out(judged, self.held_out_share, derive_seed(run.seed, "held_out"))
        test = _read(run, self.held_out, file)
        prompts = {one.prompt.conversation for one in test}
        train = [one for one in judged if one.prompt.conversation not in prompts]
        run.dropped("judgments", ["its prompt is held out"] * (len(judged) - len(train)))
        return train, test

    def _examples(
        self, run: Run, judged: Sequence[RuledCompletion], rules: dict[str, WrittenRule], model: ScalarModel
    ) -> list[RuleExample]:
        """Return an example per completion, with a branch for each of its judgments and wordings; record those that do not fit."""
        together: dict[tuple[object, ...], list[RuledCompletion]] = {}
        for one in judged:
            together.setdefault((one.prompt.conversation, one.completion.text, one.completion.tool_fields), []).append(one)
        limit, examples, reasons = token_limit(model, self.max_tokens), [], []
        for number, group in enumerate(together.values()):
            rng = random.Random(derive_seed(run.seed, "wordings", number))
            worded = [(one, self._wordings(rules[one.rule], rng)) for one in group]
            asked = [(question, one.broken, 1 / len(questions)) for one, questions in worded for question in questions]
            try:
                first = group[0]
                tree = rule_tree(model.tokenizer, first.prompt.conversation, first.completion, [one[0] for one in asked], limit)
            except Unusable as error:
                reasons += [error.kind] * len(group)
                continue
            _, broken, weight = zip(*asked, strict=True)
            examples.append(RuleExample(first.prompt.source or first.prompt.id, tree, broken, weight))
        run.dropped("judgments that do not fit", reasons)
        return examples

    def _wordings(self, rule: WrittenRule, rng: random.Random) -> list[str]:
        """Return the wordings that a judgment is learned under."""
        return rng.sample(rule.phrasings, min(self.wordings or len(rule.phrasings), len(rule.phrasings)))


def _read(run: Run, paths: Sequence[str], file: RuleFile) -> list[RuledCompletion]:
    """Return the judgments of all files, and record what is left out."""
    judged: list[RuledCompletion] = []
    for path in paths:
        own, left_out = read_rule_votes(Path(path), file)
        run.dropped(path, list(left_out.elements()))
        judged += own
    return judged


@dataclass(frozen=True)
class RuleExample:
    """A completion with the questions about it, as a tree, and what raters said to each; `source` names it in messages."""

    source: str
    tree: Tree
    broken: tuple[float, ...]
    weight: tuple[float, ...]


@dataclass(frozen=True)
class RuleBatch:
    """A micro-batch of examples: their trees, and labels and weights (b,) of all branches."""

    trees: PackedBatch
    broken: torch.Tensor
    weight: torch.Tensor

    @staticmethod
    def of(examples: Sequence[RuleExample], limit: int) -> RuleBatch:
        """Return the examples as a micro-batch."""
        broken = torch.tensor([share for one in examples for share in one.broken])
        weight = torch.tensor([number for one in examples for number in one.weight])
        return RuleBatch(pack([one.tree for one in examples], limit), broken, weight)
