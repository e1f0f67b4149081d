"""Critique and revision of completions by principles of a constitution, round after round (Bai et al. 2022, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from palate.core import Completion, Message, Prompt, Sampling, derive_seed
from palate.judges.constitution import Constitution, Principle
from palate.judges.revision_rounds import Outcome, RevisionRound
from palate.judges.revision_turns import RevisionDialogue, RevisionStep
from palate.samplers.sampler import Sampler
from palate.text.spans import prompt_ids
from palate.text.template import Unusable


@dataclass(frozen=True, slots=True)
class Draft:
    """A completion to revise.

    `id` tells it apart from every other one: the prompt's id, and the completion's number where the prompt has several.
    """

    id: str
    prompt: Prompt
    completion: Completion


@dataclass(frozen=True, slots=True)
class _Written:
    """What the model wrote when it was asked, or why it could not be asked."""

    text: str = ""
    is_cut: bool = False
    refusal: str = ""
    tokens_read: int = 0
    tokens_written: int = 0


@dataclass(frozen=True)
class Reviser:
    """Revises completions.

    Attributes:
        constitution: the principles, the examples and the turns.
        sampler: the model that criticises and revises.
        sampling: how critiques and revisions are drawn.
        rounds: rounds of each draft.
        is_critiquing: whether a critique comes before each revision.
    """

    constitution: Constitution
    sampler: Sampler
    sampling: Sampling
    rounds: int
    is_critiquing: bool

    def revise(self, drafts: Sequence[Draft], seed: int, draw_seed: int) -> list[list[RevisionRound]]:
        """Return the rounds of each draft. Each round starts from the text that the round before left.

        The principle of a draft and a round depends on `seed`, the draft's id and the round alone. All ranks call it together.

        Args:
            drafts: what to revise.
            seed: the seed of the principles.
            draw_seed: the seed of what the model writes about these drafts.
        """
        histories: list[list[RevisionRound]] = [[] for _ in drafts]
        for number in range(self.rounds):
            principles = [self.constitution.draw(derive_seed(seed, "principle", draft.id, number)) for draft in drafts]
            texts = [history[-1].text if history else draft.completion.text for draft, history in zip(drafts, histories, strict=True)]
            rounds = self._round(drafts, texts, principles, derive_seed(draw_seed, number))
            for history, done in zip(histories, rounds, strict=True):
                history.append(done)
        return histories

    def _round(self, drafts: Sequence[Draft], texts: Sequence[str], principles: Sequence[Principle], seed: int) -> list[RevisionRound]:
        """Return one round of each draft."""
        everyone = range(len(drafts))
        critiques: dict[int, _Written] = {}
        if self.is_critiquing:
            asked = {k: self._dialogue(drafts[k], texts[k], principles[k], None) for k in everyone}
            critiques = self._written(drafts, asked, "critique", derive_seed(seed, "critique"))
        ready = [k for k in everyone if not self.is_critiquing or self._fault(critiques[k], "critique") is None]
        asked = {k: self._dialogue(drafts[k], texts[k], principles[k], critiques[k].text if critiques else "") for k in ready}
        revisions = self._written(drafts, asked, "revision", derive_seed(seed, "revision"))
        rounds = []
        for k in everyone:
            critique, revision = critiques.get(k, _Written()), revisions.get(k, _Written())
            fault = (self._fault(critique, "critique") if critiques else None) or self._fault(revision, "revision")
            outcome: Outcome = fault or ("unchanged" if revision.text == texts[k].strip() else "revised")
            rounds.append(
                RevisionRound(
                    principles[k].id,
                    principles[k].dimension,
                    critique.text,
                    revision.text,
                    texts[k] if fault else revision.text,
                    outcome,
                    critique.tokens_read + revision.tokens_read,
                    critique.tokens_written + revision.tokens_written,
                    critique.refusal or revision.refusal,
                )
            )
        return rounds

    def _fault(self, written: _Written, step: Literal["critique", "revision"]) -> Outcome | None:
        """Return why the text stays as it is; None where it does not."""
        if written.refusal:
            return "request refused"
        if written.is_cut:
            return "critique cut" if step == "critique" else "revision cut"
        if not written.text:
            return "critique empty" if step == "critique" else "revision empty"
        is_content = step == "critique" and written.text.lower().startswith(tuple(self._no_complaint))
        return "no complaint" if is_content else None

    @cached_property
    def _no_complaint(self) -> tuple[str, ...]:
        return tuple(beginning.lower() for beginning in self.constitution.no_complaint)

    def _dialogue(self, draft: Draft, text: str, principle: Principle, critique: str | None) -> RevisionDialogue:
        """Return what the model reads of a draft: up to the critique, where `critique` is None, else up to the revision."""
        return RevisionDialogue(draft.prompt.conversation, text, self._steps(principle, critique, ""))

    def _steps(self, principle: Principle, critique: str | None, revision: str) -> tuple[RevisionStep, ...]:
        criticised = (RevisionStep("critique", principle.critique, critique or ""),) if self.is_critiquing else ()
        return criticised if critique is None else (*criticised, RevisionStep("revision", principle.revision, revision))

    @cached_property
    def _examples(self) -> tuple[RevisionDialogue, ...]:
        """The examples of the constitution, with all that they show."""
        return tuple(
            RevisionDialogue(
                (Message("user", each.prompt),),
                each.completion,
                self._steps(self.constitution.principle(each.principle), each.critique, each.revision),
            )
            for each in self.constitution.examples
        )

    def _written(self, drafts: Sequence[Draft], asked: Mapping[int, RevisionDialogue], step: str, seed: int) -> dict[int, _Written]:
        """Return what the model wrote in each dialogue, by the draft's number."""
        written: dict[int, _Written] = {}
        requests: dict[int, tuple[Prompt, int]] = {}
        for k, dialogue in asked.items():
            try:
                conversation = self.constitution.turns.written(self._examples, dialogue)
                request = Prompt(f"{drafts[k].id}/{step}", conversation, source=drafts[k].prompt.source)
                requests[k] = request, self._length(request)
            except Unusable as unusable:
                written[k] = _Written(refusal=unusable.reason)
        if requests:
            prompts = [request for request, _ in requests.values()]
            for (k, (_, read)), (completion,) in zip(requests.items(), self.sampler.generate(prompts, 1, self.sampling, seed), strict=True):
                text, is_cut = self.constitution.turns.ended(completion.text, is_cut=completion.is_cut)
                written[k] = _Written(text, is_cut, "", read, len(completion.ids))
        return written

    def _length(self, request: Prompt) -> int:
        """Return the tokens of a request. Raises Unusable where the template refuses it, or where it leaves no room for an answer."""
        length, limit = len(prompt_ids(self.sampler.tokenizer, request)), self.sampler.max_tokens
        if limit is not None and length > limit - min(self.sampling.max_tokens, limit // 2):
            raise Unusable(
                f"{request.id} has {length} tokens, and the model takes {limit}. Lower sampling.max_tokens, leave out examples of the "
                "constitution, or revise shorter completions"
            )
        return length
