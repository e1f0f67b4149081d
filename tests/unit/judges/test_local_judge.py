"""A local model answers questions: the log-probabilities of options are those of plain transformers, whatever stands beside them."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from palate.core import Message, Sampling
from palate.judges.judge_model import JudgeQuestion, JudgeReply, NoReply
from palate.judges.packed_judge import PackedJudge
from palate.models.causal import CausalPolicy
from palate.testing.models import tiny_policy
from palate.testing.templates import chat_tokenizer
from palate.testing.tokenizers import byte_tokenizer

PLAIN = (Message("text", "the soup is cold . Answer:"),)
CHAT = (Message("system", "You judge."), Message("user", "Which is better, A or B?"))
BEGUN = (*CHAT, Message("assistant", "The better one is"))
QUESTIONS = [
    JudgeQuestion(PLAIN, (" A", " B")),
    JudgeQuestion(PLAIN, (" yes , it is", " no", " n")),
    JudgeQuestion(CHAT, ("A", "B")),
    JudgeQuestion(BEGUN, (" A", " B", " neither of them")),
    JudgeQuestion((*CHAT, Message("assistant", "A"), Message("user", "Why?")), ("Because", "No")),
]


def judge(policy: CausalPolicy, *, limit: int = 4096, seed: int = 0, sampling: Sampling | None = None) -> PackedJudge:
    return PackedJudge("tiny", policy, sampling or Sampling(temperature=1.0, max_tokens=12), limit, seed)


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    return tiny_policy(request.param, chat_tokenizer())


def logps_of(model: PackedJudge, questions: list[JudgeQuestion]) -> list[tuple[float, ...]]:
    replies = list(model.replies(questions))
    assert all(isinstance(reply, JudgeReply) for reply in replies)
    return [reply.logps for reply in replies if isinstance(reply, JudgeReply)]


def expected(policy: CausalPolicy, question: JudgeQuestion) -> list[float]:
    """The same by plain transformers: one text at a time, in tokens of single bytes, so that question and option do not merge."""
    tokenizer = policy.tokenizer
    last = question.conversation[-1]
    if last.role == "text":
        text = last.text
    else:
        turns = question.conversation[:-1] if last.role == "assistant" else question.conversation
        said = [{"role": turn.role, "content": turn.text} for turn in turns]
        text = str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
        text += last.text if last.role == "assistant" else ""
    module = copy.deepcopy(policy.module)
    module.set_attn_implementation("eager")
    start = len(tokenizer(text, add_special_tokens=False).input_ids)
    found = []
    for option in question.options:
        ids = torch.tensor([tokenizer(text + option, add_special_tokens=False).input_ids])
        with torch.no_grad():
            logps = module(input_ids=ids).logits.float().log_softmax(-1)[0]
        found.append(float(logps[start - 1 : -1].gather(-1, ids[0, start:, None]).sum()))
    return found


def test_options_have_the_log_probabilities_of_plain_transformers(policy: CausalPolicy) -> None:
    for question, logps in zip(QUESTIONS, logps_of(judge(policy), QUESTIONS), strict=True):
        for logp, plain, option in zip(logps, expected(policy, question), question.options, strict=True):
            assert logp == pytest.approx(plain, abs=1e-5 * len(option))  # 1e-5 nats a token


@pytest.mark.parametrize("limit", [1, 120, 4096])
def test_neither_batch_nor_order_changes_a_log_probability(policy: CausalPolicy, limit: int) -> None:
    whole = dict(zip(QUESTIONS, logps_of(judge(policy), QUESTIONS), strict=True))
    mixed = random.Random(limit).sample([*QUESTIONS, QUESTIONS[1]], len(QUESTIONS) + 1)  # one of them twice
    for question, logps in zip(mixed, logps_of(judge(policy, limit=limit), mixed), strict=True):
        assert logps == pytest.approx(whole[question], abs=1e-4)


def test_options_in_another_order_have_the_same_log_probabilities(policy: CausalPolicy) -> None:
    question = QUESTIONS[3]
    (forth,) = logps_of(judge(policy), [question])
    (back,) = logps_of(judge(policy), [JudgeQuestion(question.conversation, question.options[::-1])])
    assert back == pytest.approx(forth[::-1], abs=1e-4)


def test_nothing_is_sampled_for_options_and_tokens_are_counted() -> None:
    (reply,) = judge(tiny_policy("llama", byte_tokenizer())).replies([QUESTIONS[0]])
    assert isinstance(reply, JudgeReply)
    assert (reply.text, reply.tokens_out) == ("", 0)
    assert reply.tokens_in == len(PLAIN[0].text) + len(" A") + len(" B")


def test_a_written_answer_depends_on_question_draw_and_seed_alone() -> None:
    policy = tiny_policy("llama", chat_tokenizer())
    questions = [JudgeQuestion(conversation, draw=draw) for conversation in (CHAT, BEGUN, PLAIN) for draw in (0, 1)]
    together = list(judge(policy).replies(questions))
    alone = [reply for question in questions for reply in judge(policy).replies([question])]
    assert together == alone
    assert len({reply.text for reply in together if isinstance(reply, JudgeReply)}) == len(questions)
    assert list(judge(policy, seed=1).replies(questions)) != together


def test_a_written_answer_that_ends_by_itself_is_not_cut_and_another_is() -> None:
    policy = tiny_policy("llama", chat_tokenizer())
    replies = [
        reply for reply in judge(policy).replies([JudgeQuestion(CHAT, draw=draw) for draw in range(300)]) if isinstance(reply, JudgeReply)
    ]
    assert {reply.cut for reply in replies} == {"", "length"}
    for reply in replies:
        assert reply.tokens_out == 12 or not reply.cut
        assert "<|close|>" not in reply.text


def test_questions_that_do_not_fit_get_no_reply_and_the_others_theirs() -> None:
    policy = tiny_policy("llama", chat_tokenizer())
    assert policy.max_tokens == 128
    long = (Message("text", "a" * 127),)
    questions = [
        JudgeQuestion(long, (" A", " B")),
        JudgeQuestion((Message("text", "a" * 128),)),
        JudgeQuestion((Message("assistant", "So"),), (" A", " B")),
        JudgeQuestion(CHAT, ("A", "")),
        JudgeQuestion((Message("user", "it ends <|close|> here"),), ("A", "B")),
        QUESTIONS[2],
    ]
    *refused, answered = judge(policy).replies(questions)
    assert [type(reply) for reply in refused] == [NoReply] * 5
    reasons = [reply.reason for reply in refused if isinstance(reply, NoReply)]
    for reason, words in zip(reasons, ("129 tokens", "leave no room", "before the assistant", "adds no token", "<|close|>"), strict=True):
        assert words in reason
    assert isinstance(answered, JudgeReply)
