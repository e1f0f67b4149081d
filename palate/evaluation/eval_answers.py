"""A model's answers to evals with their grades: texts that it writes, and options that it finds likely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palate.config.artifacts import file_at
from palate.core import DataError, Prompt, Sampling, derive_seed
from palate.data.published import BENCHMARK, read_evals
from palate.data.sycophancy_file import SycophancyFile
from palate.distributed.ranks import from_writer
from palate.evaluation.evals import check_kind, eval_of, grade, instruction_results, instructions_of
from palate.evaluation.option_likelihood import OptionScores, choice_grade, option_scores, options_of, picked_options
from palate.evaluation.sycophancy import follow_ups, measured_answer
from palate.evaluation.training_prompts import prompt_digest
from palate.models.causal import CausalPolicy
from palate.runs.run import Run
from palate.samplers.prompts import fitting
from palate.samplers.stored_samples import StoredSampler

GREEDY = ("answer", "number", "instructions")
"""Kinds that the model answers greedily: they measure what it knows or can do, and not how it varies."""

PARTLY = "_partly"
"""The end of the name of an eval's rows in which not every instruction can be checked. They are apart, so that no share counts them."""


@dataclass(frozen=True)
class EvalRun:
    """How evals are answered.

    Attributes:
        files: files of evals.
        limit: rows of each file that are taken, at most.
        sampling: how answers are drawn where there is more than one right one.
        gold: the function that knows the truth, if there is one.
        tokens_per_microbatch: tokens in a forward pass, at most.
        sycophancy: what users say beside the questions or after the answers; None asks each question once.
    """

    files: Sequence[str]
    limit: int | None
    sampling: Sampling
    gold: Any
    tokens_per_microbatch: int
    sycophancy: SycophancyFile | None = None

    def rows(self, run: Run, policy: CausalPolicy) -> list[dict[str, Any]]:
        """Return a row for each question that the model can take, in the order of the files, with its grade in [0, 1].

        Questions that are too long for the model are recorded in the run. Questions are checked before the model answers one.

        Raises:
            DataError: a question is wrong, or no question is left.
        """
        prompts = self.questions(run, chat=policy.tokenizer.chat_template is not None)
        answers = self._answers(run, policy, prompts)
        if self.sycophancy is not None:
            more = follow_ups(self.sycophancy, [(prompt, answers[prompt.id]) for prompt in prompts if prompt.id in answers])
            answers |= self._answers(run, policy, more)
            prompts += more
            answers |= {prompt.id: measured_answer(prompt, answers[prompt.id]) for prompt in prompts if prompt.id in answers}
        rows = [eval_row(prompt, answers[prompt.id]) for prompt in prompts if prompt.id in answers]
        if not rows:
            raise DataError(f"{', '.join(self.files)}: the model takes none of the {len(prompts)} questions. Use shorter questions")
        return rows

    def _answers(self, run: Run, policy: CausalPolicy, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
        """Return what the rows say about the answers, by the question's id; without questions that the model cannot take."""
        answers = self._texts(run, policy, [prompt for prompt in prompts if prompt.fields["kind"] != "choice"])
        return answers | self._choices(run, policy, [prompt for prompt in prompts if prompt.fields["kind"] == "choice"])

    def questions(self, run: Run, *, chat: bool, only: Sequence[str] = ()) -> list[Prompt]:
        """Return the questions of the files, with distinct ids, and record those that cannot be used.

        `only` names the evals that are asked; questions of others are not looked at. Raises DataError as `rows`.
        """
        prompts: dict[str, Prompt] = {}
        unchecked: list[str] = []
        for file in self.files:
            table = read_evals(file_at(file, "evals.jsonl"), chat=chat, limit=self.limit)
            run.dropped(file, [row.kind for row in table.dropped])
            for prompt in table.questions:
                if eval_of(prompt) not in (only or (eval_of(prompt),)):
                    continue
                check_kind(prompt, has_gold=self.gold is not None)
                if prompt.fields["kind"] == "choice":
                    options_of(prompt)
                if prompt.fields["kind"] == "instructions":
                    instructions = instructions_of(prompt)
                    missing = [one.id for one in instructions if not one.has_check]
                    unchecked += missing
                    if len(missing) == len(instructions):
                        continue
                    if missing:
                        prompt = replace(prompt, fields={**prompt.fields, "eval": f"{eval_of(prompt)}{PARTLY}"})
                name = next(name for name in _names(prompt.id) if name not in prompts)
                prompts[name] = replace(prompt, id=name)
        run.dropped("instructions without a check", unchecked)
        return list(prompts.values())

    def _texts(self, run: Run, policy: CausalPolicy, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
        if not prompts:
            return {}
        prompts = fitting(run, prompts, policy, self.sampling.max_tokens)
        sampler, seed = StoredSampler(run, policy, "model"), derive_seed(run.seed, "exams")
        answers: dict[str, dict[str, Any]] = {}
        for is_greedy in (True, False):
            chosen = [prompt for prompt in prompts if (prompt.fields["kind"] in GREEDY) == is_greedy]
            sampling = replace(self.sampling, temperature=0.0) if is_greedy else self.sampling
            groups = sampler.generate(chosen, 1, sampling, seed)
            answers |= {p.id: {"text": group[0].text, "tokens": len(group[0].ids)} for p, group in zip(chosen, groups, strict=True)}
        grades = from_writer(lambda: [grade(prompt, answers[prompt.id]["text"], self.gold) for prompt in prompts])
        for prompt, graded in zip(prompts, grades, strict=True):
            answers[prompt.id]["grade"] = graded
            if prompt.fields["kind"] == "instructions":
                answers[prompt.id] |= instruction_results(prompt, answers[prompt.id]["text"])
        return answers

    def _choices(self, run: Run, policy: CausalPolicy, prompts: Sequence[Prompt]) -> dict[str, dict[str, Any]]:
        scored = option_scores(policy, prompts, self.tokens_per_microbatch)
        run.dropped(
            "eval questions with options", ["longer than the model takes, or refused by its template" for one in scored if one is None]
        )
        return {prompt.id: choice_answer(prompt, scores) for prompt, scores in zip(prompts, scored, strict=True) if scores is not None}


def _names(name: str) -> Iterator[str]:
    """Yield the name, and then the name with a number."""
    yield name
    count = 2
    while True:
        yield f"{name}#{count}"
        count += 1


def eval_row(prompt: Prompt, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a question and its answer in `evals.jsonl`."""
    # A published question is the same one for a model that chats and for one that does not, so its place says what it asks.
    content = prompt.id if BENCHMARK in prompt.fields else prompt_digest(prompt)
    return {"id": prompt.id, "eval": eval_of(prompt), "prompt": prompt.text, "content": content, **answer, "fields": dict(prompt.fields)}


def choice_answer(prompt: Prompt, scores: OptionScores) -> dict[str, Any]:
    """Return what a row says about the options: the likeliest one, its grade by sums and by means, and the likelihoods."""
    options, _ = options_of(prompt)
    picked = picked_options(scores.logps)
    return {
        "text": options[picked.index(max(picked))],
        "grade": choice_grade(prompt, scores),
        "grade_per_token": choice_grade(prompt, scores, per_token=True),
        "logps": list(scores.logps),
        "option_tokens": list(scores.tokens),
    }
