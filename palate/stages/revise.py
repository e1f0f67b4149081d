"""Stage `revise`: a model criticises and revises completions by the principles of a constitution."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from palate.config.artifacts import model_at
from palate.config.functions import load_gold
from palate.config.types import Count, FunctionInput, ModelInput, Share
from palate.core import Completion, ConfigError, DataError, Demonstration, Preference, Sampling, derive_seed
from palate.data.data_sources import DataInput, check_unweighted, data_name, read_data
from palate.data.formats import (
    RECOGNISED,
    ColumnTypes,
    Recognised,
    completion_row,
    demonstration_row,
    messages,
    preference_row,
    read_demonstrations,
    sample_row,
)
from palate.data.jsonl import read_rows, write_rows
from palate.distributed.ranks import from_writer
from palate.evaluation.revision_figures import revision_summary
from palate.judges.constitution import DEFAULT, Constitution, ConstitutionInput, load_constitution
from palate.judges.reviser import Draft, Reviser
from palate.judges.revision_rounds import SETTLED, RevisionRound
from palate.models.precision import DType
from palate.runs.run import Run
from palate.samplers.kinds import LocalSamplerSettings, SamplerKind
from palate.samplers.prompts import samples_at
from palate.training.checkpoints import check_stop

DRAFTS_PER_CHUNK = 256
"""Drafts revised between two writes. The seed of each chunk is derived from its place, so an interrupted run goes on exactly."""


@dataclass(frozen=True)
class Revise:
    """Criticise and revise completions by a constitution's principles.

    This is the first half of Constitutional AI; `sft`, `direct` or `collect` goes on from its files (docs/methods/constitution.md).

    Attributes:
        model: the model that criticises and revises. Where a server has it, only its tokenizer and its configuration are read here.
        samples: the completions to revise, such as a helpful model's answers to red-team prompts. One path, or several
            sources (docs/data.md).
        columns: what the columns of `samples` hold where their names do not say it: a type, and columns by name.
        constitution: a constitution file, or `default` for Palate's own.
        rounds: rounds of each completion. Each draws a principle and starts from the revision of the round before.
        critique: whether the model criticises before it revises. Without that it revises at once.
        keep: which rounds become demonstrations and pairs: all that changed the text, or the last of them.
        demonstrations: helpful demonstrations to mix with the revisions; one path, or several sources.
        demonstrations_share: their share of what `sft` gets.
        limit: how many prompts are read, at most; none reads all.
        sampling: the temperature, and the length of the longest critique or revision in tokens.
        sampler: what draws: this process (local), or a server with an OpenAI-compatible API (openai).
        gold: import path of a function that knows the truth; it shows what each principle changed.
        dtype: the type that the model computes in; auto is bfloat16 on GPUs, else float32.
    """

    model: ModelInput
    samples: DataInput
    columns: ColumnTypes = field(default_factory=Recognised)
    constitution: ConstitutionInput = DEFAULT
    rounds: Count = 4
    critique: bool = True
    keep: Literal["all", "last"] = "last"
    demonstrations: DataInput | None = None
    demonstrations_share: Share = 0.0
    limit: Count | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=512))
    sampler: SamplerKind = field(default_factory=LocalSamplerSettings)
    gold: FunctionInput | None = None
    dtype: DType = "auto"

    def check(self) -> None:
        """Raise ConfigError when settings contradict each other."""
        check_unweighted(self.samples, self.demonstrations)
        self.sampler.check(self.sampling)
        if (self.demonstrations is None) != (self.demonstrations_share == 0):
            raise ConfigError("demonstrations and demonstrations_share need each other: set both, or neither")
        if self.constitution == DEFAULT or Path(self.constitution).is_file():  # else an earlier stage writes it
            load_constitution(self.constitution)

    def run(self, run: Run) -> None:
        """Write `revisions.jsonl`, a row per completion with all its rounds, chunk by chunk, and the files for later stages.

        `demonstrations.jsonl` is for `sft`, `preferences.jsonl` (revision over original) for `direct` and `reward`, and `samples.jsonl`
        (each original with its revisions) for `collect`.

        Raises:
            DataError: no completion can be used, or the model can read no request about any of them.
        """
        constitution = load_constitution(self.constitution)
        drafts = [
            Draft(prompt.id if len(completions) == 1 else f"{prompt.id}/{k}", prompt, completion)
            for prompt, completions in samples_at(run, self.samples, self.limit, self.columns)
            for k, completion in enumerate(completions)
        ]
        sampler = self.sampler.open(model_at(self.model), self.dtype)
        reviser = Reviser(constitution, sampler, self.sampling, self.rounds, self.critique)
        with run.rows("revisions.jsonl") as rows, run.progress(len(drafts), "revise") as advance:
            advance(rows.rows_done)
            for start in range(0, len(drafts), DRAFTS_PER_CHUNK):
                chunk = drafts[start : start + DRAFTS_PER_CHUNK]
                if start + len(chunk) <= rows.rows_done:
                    continue
                histories = reviser.revise(chunk, run.seed, derive_seed(run.seed, "revise", start))
                for row in from_writer(partial(self._rows, chunk, histories, constitution))[max(0, rows.rows_done - start) :]:
                    rows.append(row)
                    advance(1)
                check_stop(run)
        sampler.close()
        written: list[Any] = [row for _, row in read_rows(run.directory / "revisions.jsonl")]
        histories = [[RevisionRound.of(each) for each in row["rounds"]] for row in written]
        if all(each.refusal for history in histories for each in history):
            raise DataError(
                f"{data_name(self.samples)}: the model can read no request about its completions. The first: {histories[0][0].refusal}"
            )
        self._write_for_later_stages(run, drafts, histories)

    def _rows(
        self, drafts: Sequence[Draft], histories: Sequence[Sequence[RevisionRound]], constitution: Constitution
    ) -> list[dict[str, Any]]:
        """Return a row per draft: its rounds, and the gold of the original and of the text after each round."""
        gold = None if self.gold is None else load_gold(self.gold)
        rows = []
        for draft, history in zip(drafts, histories, strict=True):
            row: dict[str, Any] = {
                "id": draft.id,
                "prompt": messages(draft.prompt),
                "completion": draft.completion.text,
                "constitution": f"{constitution.name}@{constitution.version}",
                "rounds": [each.row() for each in history],
            }
            if gold is not None:
                texts = [draft.completion.text, *(each.text for each in history)]
                row["gold"] = [dict(gold(draft.prompt.text, text, **draft.prompt.fields)) for text in texts]
            rows.append(row)
        return rows

    def _write_for_later_stages(self, run: Run, drafts: Sequence[Draft], histories: Sequence[Sequence[RevisionRound]]) -> None:
        """Write demonstrations, pairs and samples, and the summary."""
        both = list(zip(drafts, histories, strict=True))
        imitated = [completion_row(draft.prompt, Completion(text)) for draft, history in both for text in self._imitated(draft, history)]
        helpful = [demonstration_row(each) for each in self._helpful(run, len(imitated))]
        write_rows(run.directory / "demonstrations.jsonl", [*imitated, *helpful])
        pairs = [preference_row(pair) for draft, history in both for pair in self._pairs(draft, history)]
        write_rows(run.directory / "preferences.jsonl", pairs)
        write_rows(run.directory / "samples.jsonl", (sample_row(draft.prompt, _versions(draft, history)) for draft, history in both))
        summary = revision_summary([row for _, row in read_rows(run.directory / "revisions.jsonl")])
        run.summary({**summary, "demonstrations": len(imitated), "helpful_demonstrations": len(helpful), "pairs": len(pairs)})

    def _imitated(self, draft: Draft, history: Sequence[RevisionRound]) -> Iterator[str]:
        """Yield the distinct texts of a draft that a model should imitate: those after a round that was settled.

        An original that was cut is none, although a critique found nothing wrong with it.
        """
        settled = [each.text for each in history if each.outcome in SETTLED]
        for text in dict.fromkeys(settled if self.keep == "all" else settled[-1:]):
            if not (draft.completion.is_cut and text.strip() == draft.completion.text.strip()):
                yield text

    def _pairs(self, draft: Draft, history: Sequence[RevisionRound]) -> Iterator[Preference]:
        """Yield the pairs of a revision over its original, each with the principle that made the revision."""
        changed = [each for each in history if each.outcome == "revised" and each.text.strip() != draft.completion.text.strip()]
        for each in changed if self.keep == "all" else changed[-1:]:
            prompt = replace(draft.prompt, id=draft.id, fields={**draft.prompt.fields, "principle": each.principle})
            yield Preference(prompt, Completion(each.text), draft.completion, dimension=each.dimension)

    def _helpful(self, run: Run, revisions: int) -> list[Demonstration]:
        """Return demonstrations drawn from `demonstrations`; all of them where there are fewer than their share asks for."""
        if self.demonstrations is None:
            return []
        table = read_data(self.demonstrations, "demonstrations.jsonl", read_demonstrations, None, RECOGNISED)
        run.dropped(data_name(self.demonstrations), [row.kind for row in table.dropped])
        count = round(revisions * self.demonstrations_share / (1 - self.demonstrations_share))
        return random.Random(derive_seed(run.seed, "demonstrations")).sample(list(table.rows), min(count, len(table.rows)))


def _versions(draft: Draft, history: Sequence[RevisionRound]) -> list[Completion]:
    """Return the original and the distinct texts after it, in the order in which they were written."""
    texts = dict.fromkeys(each.text for each in history if each.text != draft.completion.text)
    return [draft.completion, *(Completion(text, policy="revision") for text in texts)]
