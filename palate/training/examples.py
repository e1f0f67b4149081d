"""Completions of the same few prompts at some moments of a training, for people who watch the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice, zip_longest

from torch import nn

from palate.core import Completion, Conversation, Demonstration, ModelError, Prompt, Sampling, TrainingError, derive_seed
from palate.data.jsonl import read_rows, write_rows
from palate.distributed.ranks import ranks
from palate.distributed.sharing import rejoined
from palate.models.causal import CausalPolicy
from palate.models.shared_layers import fit_together
from palate.runs.run import EXAMPLES, Run
from palate.samplers.local import LocalSampler
from palate.text.spans import prompt_ids
from palate.text.template import Unusable, is_plain_text

PROMPTS = 4
MOMENTS = 8
"""Parts of a training after which the prompts are completed, at most."""
STEPS_APART = 100
"""The fewest steps of a part where the stage draws nothing else: completing the prompts takes about as long as a step."""
SHORT = 20
"""Below so many steps there is only the start and the end."""
OPENING = 48
"""Characters of a plain text that a model is given to go on from, at most."""

SAMPLING = Sampling(max_tokens=64)
"""How a stage that draws nothing else completes the prompts."""

Draw = Callable[[Sequence[Prompt], int], Sequence[Sequence[Completion]]]
"""Returns a completion of each prompt by the weights as they stand, drawn with a seed. Several ranks share the prompts."""


class Examples:
    """Writes `examples.jsonl`: a row per prompt at the start, after every part of the training, and at the end.

    The seed is the same each time, so that completions differ by the weights alone. Nothing is learned from them, and nothing else in the
    run changes. Where the model cannot complete the prompts, the run says so once and goes on without them.
    """

    def __init__(self, run: Run, draw: Draw, prompts: Iterable[Prompt], length: int, parts: int = MOMENTS) -> None:
        """Complete the first few of some prompts.

        Args:
            run: the run that trains.
            draw: draws the completions. It raises ModelError, on all ranks, where that cannot be done.
            prompts: of the data, in order.
            length: iterations or steps of the run.
            parts: into how many parts they cut the training.
        """
        self._run, self._draw = run, draw
        self._prompts = list(islice(FirstPrompts(prompts), PROMPTS))
        self._every = -(-length // parts)

    def before(self, done: int) -> None:
        """Write the completions before an iteration or step, if it is their turn. `done` counts those before it."""
        if done % self._every == 0:
            self.write(done)

    def write(self, done: int) -> None:
        """Write the completions by the weights as they stand. Rows of later weights go: a resumed run makes them again.

        Args:
            done: iterations or steps that made the weights.
        """
        if not self._prompts:
            return
        # A rank without a prompt would not gather weights that ranks share out.
        prompts = list(islice(cycle(self._prompts), max(len(self._prompts), ranks().world)))
        try:
            groups = self._draw(prompts, derive_seed(self._run.seed, "examples"))
        except (ModelError, TrainingError) as error:
            if isinstance(error, ModelError):  # weights that are no numbers end the run, with a message that names what it read
                self._run.say(f"no samples for `palate watch`: {error}")
            self._prompts = []
            return
        path = self._run.directory / EXAMPLES
        before = [row for _, row in read_rows(path) if int(str(row["step"])) < done] if path.is_file() else []
        now = [
            {"step": done, "id": prompt.id, "prompt": _text(prompt.conversation), "completion": completion.text}
            for prompt, (completion,) in zip(self._prompts, groups, strict=False)
        ]
        write_rows(path, [*before, *now])


class FirstPrompts:
    """The first few distinct prompts of each source, one of each source in turn."""

    def __init__(self, prompts: Iterable[Prompt] = ()) -> None:
        self._of: dict[str, dict[Conversation, Prompt]] = {}
        for prompt in prompts:
            self.add(prompt)

    def add(self, prompt: Prompt) -> None:
        """Take a prompt, if there are not enough of its source."""
        own = self._of.setdefault(prompt.source_name, {})
        if len(own) < PROMPTS:
            own.setdefault(prompt.conversation, prompt)

    def __iter__(self) -> Iterator[Prompt]:
        """Yield the prompts."""
        return (prompt for row in zip_longest(*(own.values() for own in self._of.values())) for prompt in row if prompt is not None)


def prompt_of(row: Demonstration) -> Prompt:
    """Return what a model completes to show what it learns from a row: the turns before the first one that is learned.

    Of a text that is learned from its first word it is the beginning.
    """
    first = min(row.learned, default=0)
    turns = row.conversation[:first] if first else (replace(row.conversation[0], text=_opening(row.conversation[0].text)),)
    name = row.source.rpartition("/")[2]  # the same wherever the folder of the data is
    return Prompt(name, turns, source=row.source, source_name=row.source_name)


def _opening(text: str) -> str:
    """Return the words with which a text begins: half of it at most."""
    cut = text[: min(OPENING, len(text) // 2)]
    return cut.rstrip() if " " not in cut else cut[: cut.rindex(" ")]


def _text(conversation: Conversation) -> str:
    """Return a prompt as people read it: its text, or its turns with their roles where there are several."""
    if len(conversation) == 1 or is_plain_text(conversation):
        return "".join(turn.text for turn in conversation)
    return "\n\n".join(f"{turn.role}: {turn.text or turn.tool_fields}" for turn in conversation)


def examples_of(run: Run, policy: CausalPolicy, prompts: Iterable[Prompt], steps: int) -> Examples:
    """Return the examples of a stage that draws nothing else, sampled from its policy in this process.

    Args:
        run: the run that trains.
        policy: the policy that learns.
        prompts: of the data, in order. Those that leave no room for a completion are left out.
        steps: optimizer steps of the run.
    """
    chosen = [prompt for prompt in FirstPrompts(prompts) if _has_room(policy, prompt)]
    if not chosen:
        run.say("no samples for `palate watch`: no prompt of the data can be completed")
    parts = max(1 if steps < SHORT else 2, min(MOMENTS, steps // STEPS_APART))
    return Examples(run, lambda prompts, seed: _drawn(policy, prompts, seed), chosen, steps, parts)


def _has_room(policy: CausalPolicy, prompt: Prompt) -> bool:
    try:
        ids = prompt_ids(policy.tokenizer, prompt)
    except Unusable:
        return False
    return policy.max_tokens is None or len(ids) < policy.max_tokens


def _drawn(policy: CausalPolicy, prompts: Sequence[Prompt], seed: int) -> list[list[Completion]]:
    """Return a completion of each prompt.

    Raises:
        ModelError: on all ranks, where one of them cannot draw.
        TrainingError: on all ranks, where the weights are no numbers.
    """
    module, share = policy.module, list[list[Completion]]()
    fault: Exception | None = None
    if not all(ranks().gather(fit_together(module))):
        raise ModelError("ranks share out the layers, and a device has no room for all of them at once")
    with _sampling(module):
        try:
            share = LocalSampler(policy).generate_share(prompts, 1, SAMPLING, seed)
        except TrainingError as error:
            fault = error
        except Exception as error:  # noqa: BLE001 (whatever keeps a model from being sampled does not keep it from learning)
            fault = ModelError(f"{type(error).__name__}: {error}")
    if faults := [fault for fault in ranks().gather(fault) if fault is not None]:
        raise faults[0]
    return rejoined(share)


@contextmanager
def _sampling(module: nn.Module) -> Iterator[None]:
    """A context in which a module samples: activations are not recomputed, which it does only in training mode."""
    is_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(is_training)
