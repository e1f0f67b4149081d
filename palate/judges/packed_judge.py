"""A Hugging Face model in this process answers questions: it says how likely each option is, or writes.

The tokens of a question are the trunk of a tree and its options the branches, so a question with options takes one forward pass, beside
others in a batch, and nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch

from palate.core import Completion, Conversation, Sampling, derive_seed
from palate.judges.judge_ledger import digest_of
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.models.causal import CausalPolicy
from palate.samplers.local import LocalSampler
from palate.text.chat_text import Ids
from palate.text.endings import ids_with_endings
from palate.text.pack import Branch, Tree, pack
from palate.text.spans import NO_LIMIT, Unusable, prompt_ids, whole_ids
from palate.text.tokens import decoded

QUESTIONS_PER_CHUNK = 512
"""Questions that are read before the first of them is answered."""


class PackedJudge:
    """Answers questions with a policy in this process.

    An answer depends on the policy, the question and the seed. Questions beside it change it by floating-point rounding only.
    """

    def __init__(self, name: str, policy: CausalPolicy, sampling: Sampling, tokens_per_microbatch: int, seed: int) -> None:
        self.name = name
        self._policy = policy
        self._sampler = LocalSampler(policy)
        self._sampling = sampling
        self._limit = tokens_per_microbatch
        self._seed = seed

    def replies(self, questions: Sequence[JudgeQuestion]) -> Iterator[JudgeReply | NoReply]:
        """Yield the answer to each question in order. Equal questions are answered once.

        A question that the chat template refuses, or that is too long for the model, gets `NoReply`.
        """
        answers: dict[JudgeQuestion, JudgeReply | NoReply] = {}
        waiting = iter(dict.fromkeys(questions))
        for question in questions:
            if question not in answers:
                answers |= self._answers(list(islice(waiting, QUESTIONS_PER_CHUNK)))
            yield answers[question]

    def close(self) -> None:
        """Give back the memory of keys and values."""
        self._sampler.close()

    def _answers(self, questions: Sequence[JudgeQuestion]) -> Mapping[JudgeQuestion, JudgeReply | NoReply]:
        answers: dict[JudgeQuestion, JudgeReply | NoReply] = {}
        trees: dict[JudgeQuestion, Tree] = {}
        trunks: dict[JudgeQuestion, Ids] = {}
        for question in questions:
            try:
                if question.options:
                    trees[question] = self._fitting(option_tree(self._policy, question))
                else:
                    trunks[question] = self._with_room(beginning_ids(self._policy, question.conversation)[2])
            except Unusable as error:
                answers[question] = NoReply(error.reason, "invalid")
        return answers | self._chosen(trees) | self._written(trunks)

    def _chosen(self, trees: Mapping[JudgeQuestion, Tree]) -> dict[JudgeQuestion, JudgeReply]:
        """Return the log-probabilities of options. Trees of like size share a pass."""
        answers: dict[JudgeQuestion, JudgeReply] = {}
        for group in _microbatches(sorted(trees, key=lambda question: trees[question].tokens), trees, self._limit):
            batch = pack([trees[question] for question in group])
            with torch.inference_mode():
                logps = self._policy.logps(batch).logps.double()
            sums = torch.zeros(len(batch.last), dtype=torch.float64).index_add(0, batch.branch, logps).tolist()
            for question in group:
                own, sums = sums[: len(question.options)], sums[len(question.options) :]
                answers[question] = JudgeReply("", tuple(own), tokens_in=trees[question].tokens, key=key_of_question(question))
        return answers

    def _written(self, trunks: Mapping[JudgeQuestion, Ids]) -> dict[JudgeQuestion, JudgeReply]:
        """Return sampled answers. The seed of each is derived from the question's content, so its neighbours do not matter."""
        seeds = [derive_seed(self._seed, "judge", key_of_question(question)) for question in trunks]
        groups = self._sampler.sample(list(trunks.values()), 1, self._sampling, seeds) if trunks else []
        answers = {}
        for (question, trunk), (drawn,) in zip(trunks.items(), groups, strict=True):
            is_ended = drawn.stop == "eos"
            (text,) = decoded(self._policy.tokenizer, trunk, [drawn.ids[:-1] if is_ended else drawn.ids])
            cut = "" if is_ended else "length"
            answers[question] = JudgeReply(text, (), cut, tokens_in=len(trunk), tokens_out=len(drawn.ids), key=key_of_question(question))
        return answers

    def _fitting(self, tree: Tree) -> Tree:
        longest = len(tree.trunk) + max(len(branch.ids) for branch in tree.branches)
        if longest > (self._policy.max_tokens or NO_LIMIT):
            raise Unusable(f"too long: {longest} tokens, and the model holds {self._policy.max_tokens}")
        return tree

    def _with_room(self, trunk: Ids) -> Ids:
        if len(trunk) >= (self._policy.max_tokens or NO_LIMIT):
            raise Unusable(f"too long: {len(trunk)} tokens leave no room for an answer, and the model holds {self._policy.max_tokens}")
        return trunk


def key_of_question(question: JudgeQuestion) -> str:
    """Return the digest of what is asked."""
    turns = [(turn.role, turn.text, turn.tool_fields) for turn in question.conversation]
    return digest_of({"turns": turns, "options": question.options, "draw": question.draw})


def beginning_ids(policy: CausalPolicy, conversation: Conversation) -> tuple[Conversation, Ids, Ids]:
    """Return the conversation without a last turn of the assistant, its ids, and the ids of all of it, open for what comes next.

    Raises:
        Unusable: there is no token, or the chat template refuses the conversation.
    """
    begun = conversation[-1].role == "assistant"
    before = conversation[:-1] if begun else conversation
    if not before:
        raise Unusable("no turn before the assistant's")
    prompt = prompt_ids(policy.tokenizer, before)
    if not begun or not conversation[-1].text:
        return before, prompt, prompt
    return before, prompt, whole_ids(policy.tokenizer, before, prompt, Completion(conversation[-1].text, stop="length"))[0]


def option_tree(policy: CausalPolicy, question: JudgeQuestion) -> Tree:
    """Return the tokens of a question as trunk and each option as a branch.

    Question and option are tokenised together. All branches begin at the first token that differs from the question alone in any of them,
    so a token that spans the boundary belongs to the branches.

    Raises:
        Unusable: an option has no token, or the chat template refuses the conversation.
    """
    before, prompt, read = beginning_ids(policy, question.conversation)
    begun = question.conversation[-1].text if before is not question.conversation else ""

    def whole(option: str) -> Ids:
        return whole_ids(policy.tokenizer, before, prompt, Completion(begun + option, stop="length"))[0]

    wholes = ids_with_endings(policy.tokenizer, before, begun, question.options, whole)
    cut = max(min(_shared(read, whole) for whole in wholes), 1)
    if len({whole[:cut] for whole in wholes}) > 1 or not all(whole[cut:] for whole in wholes):
        raise Unusable(f"an option adds no token to the question: {', '.join(map(repr, question.options))}")
    return Tree(wholes[0][:cut], tuple(Branch(whole[cut:], (True,) * (len(whole) - cut)) for whole in wholes))


def _shared(one: Ids, other: Ids) -> int:
    """Return the length of the common prefix."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _microbatches(questions: Sequence[JudgeQuestion], trees: Mapping[JudgeQuestion, Tree], limit: int) -> Iterator[list[JudgeQuestion]]:
    """Yield the questions in groups of at most `limit` tokens; a question that is longer is alone."""
    group: list[JudgeQuestion] = []
    tokens = 0
    for question in questions:
        if group and tokens + trees[question].tokens > limit:
            yield group
            group, tokens = [], 0
        group.append(question)
        tokens += trees[question].tokens
    if group:
        yield group
