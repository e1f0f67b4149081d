"""The alignment tax during training: what a policy loses that no reward asks for, measured with its current weights.

Texts and the options of questions are scored in one packed pass without gradient. Answers to other questions are written greedily. So the
same weights give the same figures, and every unit is compared with itself at the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from palate.config.types import Count, Input
from palate.core import ConfigError, DataError, Prompt, Sampling, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data
from palate.data.files import read_json, write_json
from palate.data.formats import RECOGNISED, read_texts
from palate.data.jsonl import write_rows
from palate.data.published import fixed_choice
from palate.distributed.ranks import from_writer
from palate.evaluation.eval_answers import EvalRun
from palate.evaluation.evals import eval_of, grade
from palate.evaluation.option_likelihood import AskedOptions, OptionScores, branch_scores, choice_grade
from palate.evaluation.tax_figures import TAX_FILE, TEXT_NLL, TaxUnit, tax_figures, tax_metrics
from palate.models.causal import CausalPolicy
from palate.runs.run import Run
from palate.samplers.local import LocalSampler
from palate.samplers.prompts import fitting
from palate.text.pack import Tree
from palate.text.spans import document_trees
from palate.text.template import Unusable


@dataclass(frozen=True)
class TaxProbes:
    """Measure during training what the policy loses, on texts and evals that it does not learn from.

    Attributes:
        every: iterations of online training, or steps of direct, between two measurements; none measures eight times, evenly spread.
            The first measurement is that of the start, and the kept weights are measured at the end.
        texts: held-out texts, in the format of stage `pretrain`, for the loss per token; one path, or several sources.
        evals: files of questions with a known right behaviour, as in `evaluate`.
        only: names of the evals that are asked; none asks all that the files hold.
        limit: texts, from the beginning of each file, and questions of each eval, as a fixed random choice, at most; none takes all.
        max_tokens: the longest answer. Answers are greedy.
    """

    every: Count | None = None
    texts: DataInput | None = None
    evals: tuple[Input, ...] = ()
    only: tuple[str, ...] = ()
    limit: Count | None = 100
    max_tokens: Count = 64

    def __post_init__(self) -> None:
        """Raise ConfigError where nothing would be measured."""
        if self.texts is None and not self.evals:
            raise ConfigError("tax measures nothing: name held-out texts in tax.texts, evals in tax.evals, or both")
        check_unweighted(self.texts)
        if self.only and not self.evals:
            raise ConfigError("tax.only names evals, and there are no files of evals: name them in tax.evals")


MOMENTS = 8
"""Measurements during training where `every` is none; the one of the kept weights comes on top."""


class TaxMeter:
    """Measures a policy at its start, every few iterations or steps, and at the end."""

    def __init__(
        self, probes: TaxProbes, run: Run, policy: CausalPolicy, tokens_per_microbatch: int, length: int, gold: Any = None
    ) -> None:
        """Read texts and questions, and record those that cannot be used.

        Args:
            probes: what is measured.
            run: the run that trains.
            policy: what is measured.
            tokens_per_microbatch: tokens in a forward pass, at most.
            length: iterations or steps of the run.
            gold: the function that knows the truth, if there is one.

        Raises:
            DataError: a question is wrong, or nothing is left to measure.
        """
        self._every, self._run, self._policy, self._gold = probes.every or -(-length // MOMENTS), run, policy, gold
        self._tokens_per_microbatch = tokens_per_microbatch
        self._sampling = Sampling(temperature=0.0, max_tokens=probes.max_tokens)
        self._texts = [] if probes.texts is None else _text_trees(run, probes.texts, policy, probes.limit, tokens_per_microbatch)
        questions = self._questions(probes)
        chosen = [prompt for prompt in questions if prompt.fields["kind"] == "choice"]
        self._written = [prompt for prompt in questions if prompt.fields["kind"] != "choice"]
        self._written = fitting(run, self._written, policy, probes.max_tokens) if self._written else []
        self._options = AskedOptions(policy, chosen)
        self._chosen = chosen
        trees = [*(tree for own in self._texts for tree in own), *self._options.trees]
        self._trees = trees
        self._file = run.state / "tax_start.json"
        self._start: list[float] | None = None
        self.units: tuple[TaxUnit, ...] = ()
        tokens, texts = sum(tree.tokens for tree in trees), len(self._texts)
        run.say(
            f"tax: each of {-(-length // self._every) + 1} measurements reads {tokens:,} tokens of {texts} texts and "
            f"{len(self._options.trees)} questions with options in one pass, and writes {len(self._written)} answers of at most "
            f"{probes.max_tokens} tokens"
        )

    def look(self, done: int) -> dict[str, float]:
        """Return the metrics of the current weights where it is time to measure; the first call is about the start.

        A run that resumes reads the values of the start from its own folder.

        Args:
            done: iterations or steps that made the weights.
        """
        if done % self._every:
            return {}
        values = self._measured()
        if self._start is None:
            self._start = self._kept_start(values)
        return tax_metrics(self.units, self._start, values)

    def finish(self) -> dict[str, Any]:
        """Measure the weights that are kept, write `tax.jsonl`, and return the figures for the summary."""
        values = self._measured()
        start = self._start = self._start or self._kept_start(values)
        rows = [{**vars(unit), "start": before, "end": after} for unit, before, after in zip(self.units, start, values, strict=True)]
        write_rows(self._run.directory / TAX_FILE, rows)
        return tax_figures(self.units, start, values)

    def _kept_start(self, values: list[float]) -> list[float]:
        """Return the values of the start: those in the run's folder, or else these, which are written there."""

        def kept() -> Any:
            if not self._file.is_file():
                write_json(self._file, values)
            return read_json(self._file)

        return list(from_writer(kept))

    def _questions(self, probes: TaxProbes) -> list[Prompt]:
        asked = EvalRun(probes.evals, None, self._sampling, self._gold, self._tokens_per_microbatch)
        by_eval: dict[str, list[Prompt]] = {}
        for prompt in asked.questions(self._run, chat=self._policy.tokenizer.chat_template is not None, only=probes.only):
            by_eval.setdefault(eval_of(prompt), []).append(prompt)
        if missing := [name for name in probes.only if name not in by_eval]:
            raise DataError(
                f"tax.only names {missing[0]!r}, and {', '.join(probes.evals)} has no such eval. Use one of: {', '.join(by_eval) or 'none'}"
            )
        return [prompt for own in by_eval.values() for prompt in fixed_choice(own, probes.limit)]

    def _measured(self) -> list[float]:
        """Return the value of every unit, and fill in `units`, which are the same each time."""
        scores = branch_scores(self._policy, self._trees, self._tokens_per_microbatch)
        count = len(self._trees) - len(self._options.trees)
        measured = [
            *self._of_texts(scores[:count]),
            *self._of_options(scores[count:]),
            *zip((_unit(prompt) for prompt in self._written), self._grades(), strict=True),
        ]
        if not measured:
            raise DataError("tax: the model takes none of the texts and questions. Use shorter ones")
        self.units = tuple(unit for unit, _ in measured)
        return [value for _, value in measured]

    def _of_texts(self, scores: Sequence[OptionScores]) -> Iterator[tuple[TaxUnit, float]]:
        rest = iter(scores)
        for number, trees in enumerate(self._texts):
            own = [next(rest) for _ in trees]
            tokens = sum(one.tokens[0] for one in own)
            yield TaxUnit(TEXT_NLL, str(number), weight=float(tokens)), -sum(one.logps[0] for one in own)

    def _of_options(self, scores: Sequence[OptionScores]) -> Iterator[tuple[TaxUnit, float]]:
        for prompt, own in zip(self._chosen, self._options.scores(scores), strict=True):
            if own is not None:
                yield _unit(prompt), choice_grade(prompt, own)

    def _grades(self) -> list[float]:
        if not self._written:
            return []
        groups = LocalSampler(self._policy).generate(self._written, 1, self._sampling, derive_seed(self._run.seed, "tax"))
        return from_writer(lambda: [grade(prompt, group[0].text, self._gold) for prompt, group in zip(self._written, groups, strict=True)])


def _unit(prompt: Prompt) -> TaxUnit:
    cluster = prompt.fields.get("cluster")
    return TaxUnit(eval_of(prompt), prompt.id, None if cluster is None else str(cluster))


def _text_trees(run: Run, data: DataInput, policy: CausalPolicy, limit: int | None, tokens: int) -> list[tuple[Tree, ...]]:
    """Return the trees of each text: one, or several windows where the text is longer than the model takes."""
    table = read_data(data, "corpus.jsonl", read_texts, limit, RECOGNISED)
    reasons, trees = [row.kind for row in table.dropped], []
    for text in table.rows:
        try:
            trees.append(document_trees(policy.tokenizer, text, policy.max_tokens or tokens))
        except Unusable as unusable:
            reasons.append(unusable.reason)
    run.dropped(data_name(data), reasons)
    return trees
