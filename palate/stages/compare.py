"""Stage `compare`: which of several policies wins on the same prompts, by people, a judge, a reward or the gold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from palate.config.artifacts import model_at
from palate.config.functions import load_gold
from palate.config.types import Count, FunctionInput, ModelInput, RewardInput
from palate.core import Completion, ConfigError, Prompt, Sampling, derive_seed
from palate.data.data_sources import SOURCE, DataInput, check_unweighted
from palate.data.exchange import Exchange, ExchangeItem, write_exchange
from palate.data.formats import ColumnTypes, Recognised, sample_row
from palate.data.jsonl import write_rows
from palate.data.judge_names import judge_of, titled
from palate.data.judgment_rows import judgment_row
from palate.evaluation.comparison_figures import ComparedPolicy, PolicyComparison, VerdictSource
from palate.evaluation.policy_answers import (
    AnsweredPrompt,
    answered_by_all,
    check_distinct,
    given_completions,
    is_model,
    prompt_groups,
    read_answers,
)
from palate.evaluation.policy_matchups import Matchup, all_matchups, balanced
from palate.evaluation.rater_votes import COMPARISONS, JUDGMENTS
from palate.evaluation.report.comparison_text import headline
from palate.evaluation.report.formatting import listed, percent
from palate.evaluation.trained_against import Measures, trained_against
from palate.evaluation.verdict_sources import SourceVotes, asked_votes, gold_votes, reward_votes, source_figures
from palate.judges.judge_rater import JudgeRater
from palate.judges.likelihood_rater import LikelihoodRater
from palate.models.precision import DType
from palate.raters.people import People
from palate.raters.simulated import OVERALL, Simulated
from palate.rewards.completion_scores import CompletionScorer
from palate.rewards.composition import RewardPart
from palate.runs.run import Run
from palate.samplers.kinds import LocalSamplerSettings, SamplerKind
from palate.samplers.prompts import fitting, prompts_at

NOBODY = "no report card says how far this judge agrees with people"
NOT_RANDOM = "people got the questions in an order that is not random, so the judge's answers are not joined with theirs"


@dataclass(frozen=True)
class Compare:
    """Say which of several policies wins on the same prompts.

    Attributes:
        policies: two policies or more, by name: models, which are sampled; runs of `sample`, `rerank`, `revise` or `evaluate`; or files
            with prompts and completions. On the command line they may stand as words, PATH or NAME=PATH.
        prompts: the prompts, from one path or several sources (docs/data.md); without them those of the first policy that has answers.
        columns: what the columns of the prompts hold where their names do not say it: a type, and columns by name.
        limit: how many prompts are read, at most; none reads all.
        completions_per_prompt: answers of each policy to a prompt that are compared, at most; the first meets the first, and so on.
        sampling: how models answer: the temperature, and the length of the longest completion.
        sampler: what draws: this process (local), or a server with an OpenAI-compatible API (openai).
        raters: who compares: people at `palate label`, or simulated raters.
        rater_prompts: prompts that raters get, drawn at random; none gives them all.
        raters_per_comparison: raters per question.
        judge: a model that judges: by instructions (judge), which sees both orders, or by its own probabilities (likelihood).
        pairs_per_prompt: pairs of policies on each prompt that raters and the judge compare; none compares all. With fewer, all pairs meet
            equally often.
        dimensions: what raters, the judge and the gold compare; "overall" is a single question, and the mean of the gold.
        reward: a reward model that scores the answers; a short form of `rewards` with this model alone.
        rewards: the parts of a reward by name, as in `online`, that score the answers.
        gold: import path of a function that knows the truth.
        difference: a distance of the win rate from one half. The page says how many prompts would show it.
        split_by: a column of the prompts, such as category: win rates are also given for each of its values. None gives them by source
            where `prompts` has several.
        dtype: the type that all models compute in; auto is bfloat16 on GPUs, else float32.
    """

    policies: dict[str, ModelInput]
    prompts: DataInput | None = None
    columns: ColumnTypes = field(default_factory=Recognised)
    limit: Count | None = None
    completions_per_prompt: Count = 1
    sampling: Sampling = field(default_factory=Sampling)
    sampler: SamplerKind = field(default_factory=LocalSamplerSettings)
    raters: People | Simulated | None = None
    rater_prompts: Count | None = None
    raters_per_comparison: Count = 1
    judge: JudgeRater | LikelihoodRater | None = None
    pairs_per_prompt: Count | None = None
    dimensions: tuple[str, ...] = (OVERALL,)
    reward: RewardInput | None = None
    rewards: dict[str, RewardPart] = field(default_factory=dict)
    gold: FunctionInput | None = None
    difference: float = 0.05
    split_by: str | None = None
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError where fewer than two policies meet, a policy stands twice, or nobody compares."""
        check_distinct(self.policies)
        check_unweighted(self.prompts)
        self.sampler.check(self.sampling)
        if self.reward is not None and self.rewards:
            raise ConfigError("compare takes a reward model in reward, or parts in rewards, and not both")
        if self.raters is None and self.judge is None and self.reward is None and not self.rewards and self.gold is None:
            raise ConfigError("nobody compares the answers: name raters, a judge, a reward or a gold function")
        if not self.dimensions:
            raise ConfigError("dimensions is empty, but raters need a question. Use [overall]")
        if not 0 < self.difference < 0.5:
            raise ConfigError(f"difference is a distance from one half, above 0 and below 0.5, got {self.difference}")
        if self.raters is not None:
            self.raters.check(self.raters_per_comparison, self.dimensions)
        if self.judge is not None:
            self.judge.check(1, self.dimensions)

    def run(self, run: Run) -> None:
        """Write the figures to `summary.json`, the answers to `answers-N.jsonl` where they were sampled, and judgments with texts."""
        prompts, answers = self._answers(run)
        answered = answered_by_all(prompts, answers, self.completions_per_prompt)
        groups = prompt_groups([one.prompt for one in answered], self.split_by)
        matchups = all_matchups(answered)
        sources = self._sources(run, answered, matchups)
        _write_judgments(run, [one for one in sources if one.answers])
        comparison = PolicyComparison(
            tuple(_policy(name, k, len(answers[name]), answered, run.record.dropped.get(name, {})) for k, name in enumerate(self.policies)),
            len(answered),
            sum(len(one.answers[0]) for one in answered),
            self.difference,
            self._figures(run, sources, groups),
            (self.split_by or SOURCE) if groups else "",
        )
        run.say(headline(comparison))
        run.summary({**comparison.as_json(), **{name: value for one in sources for name, value in one.summary.items()}})

    def _answers(self, run: Run) -> tuple[list[Prompt], dict[str, Mapping[str, tuple[Completion, ...]]]]:
        """Return the prompts, and each policy's answers by prompt; models answer now, unless they did before an interruption."""
        given = {name: path for name, path in self.policies.items() if not is_model(path)}
        if self.prompts is not None:
            prompts = prompts_at(run, self.prompts, self.limit, self.columns)
        elif given:
            first = next(iter(given.values()))
            prompts = [prompt for prompt, _ in read_answers(first, None).rows][: self.limit]
        else:
            raise ConfigError("all policies are models, which need prompts to answer. Name a file of prompts in prompts")
        answers: dict[str, Mapping[str, tuple[Completion, ...]]] = {}
        for number, (name, path) in enumerate(self.policies.items()):
            place = path if name in given else self._sampled(run, number, name, path, prompts)
            table = read_answers(place, prompts)
            answers[name], unmatched = given_completions(prompts, table.rows)
            reasons = [row.kind for row in table.dropped] + ["its prompt is not among the prompts"] * unmatched
            run.dropped(name, reasons)
            run.dropped("prompts", [f"{name} did not answer it"] * (len(prompts) - len(answers[name])))
        return prompts, answers

    def _sampled(self, run: Run, number: int, name: str, path: str, prompts: Sequence[Prompt]) -> str:
        """Return the file with a model's answers. It is written at once, and read again, so an interrupted run goes on with its bytes."""
        file = run.directory / f"answers-{number}.jsonl"
        if not file.is_file():
            sampler = self.sampler.open(model_at(path), self.dtype)
            readable = fitting(run, prompts, sampler, self.sampling.max_tokens)
            seed = derive_seed(run.seed, "compare", name)
            groups = sampler.generate(readable, self.completions_per_prompt, self.sampling, seed)
            sampler.close()
            write_rows(file, (sample_row(prompt, group) for prompt, group in zip(readable, groups, strict=True)))
            run.check_stop()
        return str(file)

    def _sources(self, run: Run, answered: Sequence[AnsweredPrompt], matchups: Sequence[Matchup]) -> list[SourceVotes]:
        """Return the votes of every source: people first, because while they are waited for nothing has been computed."""
        measures = Measures.of(run.record, run.directory)
        against = {name: trained_against(path, measures) for name, path in self.policies.items()}
        some = balanced(matchups, self.pairs_per_prompt, random.Random(derive_seed(run.seed, "compare/pairs")))
        sources: list[SourceVotes] = []
        if self.raters is not None:
            drawn = random.Random(derive_seed(run.seed, "compare/rater prompts"))
            kept = set(drawn.sample(range(len(answered)), min(self.rater_prompts or len(answered), len(answered))))
            theirs = [each for each in some if each.prompt in kept]
            kind = self.raters.kind
            sources.append(
                replace(asked_votes(run, kind, self.raters, theirs, self.dimensions, self.raters_per_comparison), name=_PEOPLE[kind])
            )
        if self.gold is not None:
            sources.append(gold_votes(matchups, answered, load_gold(self.gold), self.dimensions))
        if self.judge is not None:
            sources.append(self._judged(run, some, against))
        if self.reward is not None or self.rewards:
            sources.append(self._rewarded(run, answered, matchups, against))
        return sources

    def _judged(self, run: Run, matchups: Sequence[Matchup], against: Mapping[str, frozenset[str] | None]) -> SourceVotes:
        """Return the judge's votes. It may lead with a report card, and where no policy was trained against it."""
        assert self.judge is not None
        is_calibrated = isinstance(self.judge, JudgeRater) and self.judge.calibration is not None
        found = asked_votes(run, "judge", self.judge, matchups, self.dimensions, counts="share" if is_calibrated else "side")
        raters = dict.fromkeys(judge_of(judgment.rater) for _, own in found.answers for judgment in own)
        name = " and ".join(titled(rater, is_calibrated=is_calibrated) for rater in raters) or "the judge"
        summary: Any = found.summary.get("judges", {})
        turned = summary.get("flips")
        flips = [] if turned is None else [f"its verdict changes with the order in {percent(turned['share'], 1)} of the pairs"]
        caveats = (*([] if is_calibrated else [NOBODY]), *flips, *_caveats("judge", against))
        return replace(found, name=name, caveats=caveats, leads=is_calibrated and not _is_trained(against, "judge"))

    def _rewarded(
        self, run: Run, answered: Sequence[AnsweredPrompt], matchups: Sequence[Matchup], against: Mapping[str, frozenset[str] | None]
    ) -> SourceVotes:
        """Return the votes of the reward. It may lead where no policy was trained against it."""
        scorer = CompletionScorer.load(run, self.reward, self.rewards, None, self.dtype)
        prompts = [one.prompt for one in answered]
        scorer.check_prompts(prompts)
        scores = scorer.scores(prompts, [[each for own in one.answers for each in own] for one in answered]).scores
        name = f"the reward model {Path(self.reward).name}" if self.reward is not None else f"the reward of {', '.join(self.rewards)}"
        found = reward_votes(matchups, scores, answered)
        return replace(found, name=name, caveats=tuple(_caveats("reward", against)), leads=not _is_trained(against, "reward", "labels"))

    def _figures(self, run: Run, sources: Sequence[SourceVotes], groups: Sequence[str]) -> tuple[VerdictSource, ...]:
        """Return the figures of every source; people's with the help of the judge, or else of the reward."""
        helper = next((one for kind in ("judge", "reward") for one in sources if one.kind == kind), None)
        found = []
        for source in sources:
            is_people = source.kind in _PEOPLE
            if is_people and helper is not None and isinstance(self.raters, People) and self.raters.queue != "random":
                source = replace(source, caveats=(*source.caveats, NOT_RANDOM))
                is_people = False
            found.append(source_figures(source, tuple(self.policies), self.difference, run.seed, helper if is_people else None, groups))
        return tuple(found)


_PEOPLE = {"people": "people", "simulated": "simulated raters"}
"""Names of those who answer as people do, by kind."""


def _is_trained(against: Mapping[str, frozenset[str] | None], *what: str) -> bool:
    return any(found is not None and not found.isdisjoint(what) for found in against.values())


def _caveats(what: str, against: Mapping[str, frozenset[str] | None]) -> Iterator[str]:
    """Yield which policies were trained against a source, or chosen by it, and of which nobody knows."""
    if trained := [name for name, found in against.items() if found is not None and what in found]:
        yield f"{listed(trained)} {'was' if len(trained) == 1 else 'were'} trained against it or chosen by it"
    if what == "reward" and (same := [name for name, found in against.items() if found is not None and "labels" in found]):
        yield f"{listed(same)} learned from the judgments that it learned from"
    if unknown := [name for name, found in against.items() if found is None]:
        yield f"no run says whether {listed(unknown)} {'was' if len(unknown) == 1 else 'were'} trained against it"


def _policy(name: str, number: int, answered: int, compared: Sequence[AnsweredPrompt], left_out: Mapping[str, int]) -> ComparedPolicy:
    """Return what is known about a policy's compared answers."""
    own = [one for each in compared for one in each.answers[number]]
    cut = None if any(one.stop == "unknown" for one in own) else sum(one.is_cut for one in own) / len(own)
    empty = sum(not one.text.strip() and not one.tool_fields for one in own)
    return ComparedPolicy(name, answered, cut, empty, sum(len(one.text) for one in own) / len(own), dict(left_out))


def _write_judgments(run: Run, sources: Sequence[SourceVotes]) -> None:
    """Write every judgment, and what was compared, in the files of a run of `collect`: `palate agreement` reads them."""
    if not sources:
        return
    answers = [answer for source in sources for answer in source.answers]
    write_rows(run.directory / JUDGMENTS, (judgment_row(judgment) for _, judgments in answers for judgment in judgments))
    items = {comparison.id: ExchangeItem.of(comparison) for (comparison, _), _ in answers}
    write_exchange(Exchange(tuple(items.values())), run.directory / COMPARISONS)
