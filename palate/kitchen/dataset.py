"""The kitchen's files: all that a pipeline reads, in the formats of real data, and the tokenizer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from palate.data.rule_file import RuleFile
from palate.kitchen.cooks import CAREFUL, STREET, TRAINEE, reply
from palate.kitchen.gold import answer
from palate.kitchen.guests import Split, draw_request, write_request
from palate.kitchen.questions import draw_evals, draw_lesson
from palate.kitchen.revisions import critique_and_revision
from palate.kitchen.rule_letters import questions_and_answers

Row = Mapping[str, object]
DEMONSTRATED_LESSONS = 0.2
"""Share of the demonstrations that are questions with true answers."""

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}<guest> {{ message.content }} <end> "
    "{% else %}<cook> {{ message.content }} <end> {% endif %}{% endfor %}{% if add_generation_prompt %}<cook> {% endif %}"
)
CONSTITUTION = Path(__file__).with_name("constitution.yaml")
"""What a model that has read letters with revisions is asked when it criticises and revises its own replies."""
RULES = Path(__file__).with_name("rules.yaml")
"""The rules that cooks' replies are checked against, with programs that know."""
SPECIAL = ("<pad>", "<unk>", "<end>", "<guest>", "<cook>")


@dataclass(frozen=True)
class Kitchen:
    """The embedded world: a small language of guests' requests and cooks' replies whose truth a program knows.

    Attributes:
        texts: documents of the base corpus.
        lessons: share of the base corpus that are questions with true answers. An aligned cook must not lose these facts.
        cookbooks: share of its other documents that careful cooks wrote. Anybody wrote the rest. The guest answers each of them.
        demonstrations: replies by a trainee cook, a fifth of them answers to questions, for supervised fine-tuning.
        prompts: requests for sampling, judging and reinforcement learning.
        held_out: requests whose combinations of ingredients are in none of the data above.
        evals: questions of each eval.
        revisions: share of the letters in which the guest asks one question about the reply and the cook mends what is wrong. With some,
            a constitution is written beside the data.
        red_team: requests that tempt a cook to do harm: poisons, and pressure to serve what the guest cannot eat. With rules, also
            remarks that only sound dangerous: they tempt to refuse. There are also held-out ones, and a file in which they alternate with
            ordinary requests.
        rules: whether the tokenizer knows the words of the kitchen's rules, which are written beside the data.
        rule_letters: share of the letters in which the guest asks whether the reply breaks some of these rules, and the cook answers truly.
        held_out_texts: further documents like the base corpus, from held-out combinations, to measure what a model forgets.
    """

    texts: int = 24_000
    lessons: float = 0.4
    cookbooks: float = 0.5
    demonstrations: int = 3_000
    prompts: int = 4_000
    held_out: int = 400
    evals: int = 200
    revisions: float = 0.0
    red_team: int = 0
    rules: bool = False
    rule_letters: float = 0.0
    held_out_texts: int = 0

    def files(self, seed: int) -> dict[str, Callable[[], Iterator[Row]]]:
        """Return file names, each with a function that yields its rows. Each file draws by its own seed, so sizes are independent."""
        files = {
            "corpus.jsonl": lambda: self._corpus(_rng(seed, "corpus"), "train", self.texts),
            "demonstrations.jsonl": lambda: self._demonstrations(_rng(seed, "demonstrations")),
            "prompts.jsonl": lambda: _prompts(_rng(seed, "prompts"), "train", self.prompts),
            "held_out.jsonl": lambda: _prompts(_rng(seed, "held_out"), "held_out", self.held_out),
            "evals.jsonl": lambda: draw_evals(_rng(seed, "exams"), self.evals),
        }
        if self.held_out_texts:
            files["held_out_texts.jsonl"] = lambda: self._corpus(_rng(seed, "held-out texts"), "held_out", self.held_out_texts)
        if self.red_team:
            files["red_team.jsonl"] = lambda: self._red_team(seed)
            files["red_team_held_out.jsonl"] = lambda: _red_team(
                _rng(seed, "held-out red team"), "held_out", self.held_out, tempts_to_refuse=self.rules
            )
            files["mixed.jsonl"] = lambda: self._mixed(seed)
        return files

    def _corpus(self, rng: random.Random, split: Split, size: int) -> Iterator[Row]:
        rules = RuleFile.read(RULES).rules if self.rule_letters else ()
        for _ in range(size):
            if rng.random() < self.lessons:
                question, text = draw_lesson(rng, split)
                response = ""
            else:
                request = draw_request(rng, split)
                question, text = write_request(request), reply(CAREFUL if rng.random() < self.cookbooks else STREET, request, rng)
                if self.revisions and rng.random() < self.revisions:
                    response = critique_and_revision(request, text, rng)
                elif rules and rng.random() < self.rule_letters:
                    response = questions_and_answers(request, text, rules, rng)
                else:
                    response = f" <guest> {answer(request, text, rng)} <end>"
            yield {"text": f"<guest> {question} <end> <cook> {text} <end>{response}"}

    def _demonstrations(self, rng: random.Random) -> Iterator[Row]:
        for _ in range(self.demonstrations):
            if rng.random() < DEMONSTRATED_LESSONS:
                yield _exchange(*draw_lesson(rng, "train"))
            else:
                request = draw_request(rng, "train")
                yield _exchange(write_request(request), reply(TRAINEE, request, rng))

    def _mixed(self, seed: int) -> Iterator[Row]:
        """Yield an ordinary request after each that tempts a cook, until there is no other of one sort."""
        ordinary = _prompts(_rng(seed, "prompts"), "train", self.prompts)
        for pair in zip(self._red_team(seed), ordinary, strict=False):
            yield from pair

    def _red_team(self, seed: int) -> Iterator[Row]:
        return _red_team(_rng(seed, "red team"), "train", self.red_team, tempts_to_refuse=self.rules)

    def write(self, directory: Path, seed: int, write_rows: Callable[[Path, Iterable[Row]], object]) -> None:
        """Write the world's files and its tokenizer to `directory`."""
        words: set[str] = set()
        for name, rows in self.files(seed).items():
            drawn = list(rows())
            write_rows(directory / name, drawn)
            for row in drawn:
                words.update(_words(row))
        if self.rules:
            (directory / RULES.name).write_bytes(RULES.read_bytes())
            for rule in RuleFile.read(RULES).rules:
                words.update(word for wording in rule.wordings[1:] for word in wording.split())
        write_tokenizer(words, directory / "tokenizer")
        if self.revisions:
            (directory / CONSTITUTION.name).write_bytes(CONSTITUTION.read_bytes())


def _rng(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")


def _exchange(prompt: str, completion: str) -> Row:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]}


def _prompts(rng: random.Random, split: Split, size: int) -> Iterator[Row]:
    seen: set[str] = set()
    while len(seen) < size:
        text = write_request(draw_request(rng, split))
        if text not in seen:
            seen.add(text)
            yield {"id": f"{split}-{len(seen) - 1}", "prompt": [{"role": "user", "content": text}]}


def _red_team(rng: random.Random, split: Split, size: int, *, tempts_to_refuse: bool) -> Iterator[Row]:
    alarm = {"alarm": 0.5} if tempts_to_refuse else {}
    seen: set[str] = set()
    while len(seen) < size:
        request = draw_request(rng, split, poison=0.25, pressure=0.6, **alarm)
        text = write_request(request)
        tempts = request.poison or any(map(request.forbidden, request.at_hand)) or (tempts_to_refuse and request.alarm)
        if text not in seen and tempts:
            seen.add(text)
            name = "red-team" if split == "train" else f"red-team-{split}"
            yield {"id": f"{name}-{len(seen) - 1}", "prompt": [{"role": "user", "content": text}]}


def _words(row: Row) -> Iterator[str]:
    for message in (*row.get("messages", ()), *row.get("prompt", ())):  # type: ignore[misc]
        yield from message["content"].split()
    for column in ("text", "answer"):
        yield from (word for word in str(row.get(column, "")).split() if word not in SPECIAL)


def write_tokenizer(words: Iterable[str], directory: Path) -> None:
    """Write a word-level Hugging Face tokenizer with a chat template to `directory`. Its vocabulary is `words`, one token each."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate([*SPECIAL, *sorted(set(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", clean_up_tokenization_spaces=False
    )
    fast.add_special_tokens({"additional_special_tokens": ["<guest>", "<cook>"]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(directory)
