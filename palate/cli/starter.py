"""The pipeline that `palate init` writes: stages for what the data hold, settings for the model's size, and a comment on each choice."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from palate.cli.inspection import Inspection, Kind
from palate.core import ConfigError
from palate.text.inspect import LengthQuantiles


@dataclass(frozen=True)
class Recipe:
    """Learning rates for models below a number of parameters, and whether an adapter alone is trained."""

    below: float
    sft: float
    reward: float
    direct: float
    has_adapter: bool = False


RECIPES = (
    Recipe(1e7, 1e-3, 5e-4, 1e-4),
    Recipe(1e9, 2e-5, 1e-5, 1e-6),
    Recipe(float("inf"), 1e-4, 5e-5, 1e-5, has_adapter=True),
)
"""By size: the first fits. They are places to start from, not optima."""

SFT = """
  # Learn to write such answers. {chosen}
  sft:
    stage: sft
    model: $model
    data: $data{columns}
    epochs: 1
    optimizer: {{lr: {recipe.sft:.1e}}}{adapters}
"""

SAMPLES = """
  # Let the model write: four completions of each prompt, for people or judges to compare.
  samples:
    stage: sample
    model: {policy}
    prompts: $data{columns}
    limit: 500
    samples_per_prompt: 4
    sampling: {{max_tokens: {longest}}}    # 95 % of the answers in the data are shorter; where they are not known, a guess
"""

PEOPLE = """
  # Have pairs judged. `palate label --ratings ratings.db` serves the pages; this stage waits until enough is judged.
  # A model judges with `from: {{kind: judge, ...}}` instead (docs/methods/judges.md).
  judged:
    stage: collect
    samples: $samples
    from: {{kind: people, database: ratings.db, project: my-project}}

  # Next: `palate init {runs}/judged-*/preferences.jsonl` writes the stages that learn from these judgments.
"""

REWARD = """
  # Learn a score from the pairs. {tested}
  reward:
    stage: reward
    model: $sft
    preferences: $data{columns}{held_out}
    optimizer: {{lr: {recipe.reward:.1e}}}{adapters}
"""

DIRECT = """
  # Tune on the judgments directly (DPO). A smaller beta lets the policy go further from its start.
  direct:
    stage: direct
    model: {policy}
    preferences: $data{columns}
    objective: {objective}
    optimizer: {{lr: {recipe.direct:.1e}}}{adapters}
"""

EVALUATE = """
  # What was gained: scores, lengths and KL on prompts{unseen}.
  # Name files of questions under `evals` to see what was lost (docs/methods/evals.md).
  eval-start: &eval
    stage: evaluate
    model: {policy}
    prompts: {prompts}{columns}
    limit: 200{reward}
    reference: {policy}
    sampling: {{max_tokens: {longest}}}
  eval-direct: {{<<: *eval, model: $direct}}

  report:
    stage: report
    title: What alignment changed
    reference: {start}
    models:
      - {{evaluation: $eval-start, name: {start}, role: {role}}}
      - {{evaluation: $eval-direct, name: DPO, role: direct}}{report_reward}
"""

STAGES: dict[Kind, tuple[str, ...]] = {
    "demonstrations": (SFT, SAMPLES, PEOPLE),
    "prompts": (SAMPLES, PEOPLE),
    "preferences": (SFT, REWARD, DIRECT, EVALUATE),
    "unpaired": (DIRECT, EVALUATE),
}


@dataclass(frozen=True)
class Start:
    """What the pipeline is written for.

    Attributes:
        inspection: what the data file holds.
        model: a directory or a name on the hub.
        parameters: of the model.
        held_out: judgments that training does not see, or None.
        columns: words that say what the columns hold, as `palate inspect --columns` takes them.
        name: the pipeline's name.
    """

    inspection: Inspection
    model: str
    parameters: int
    held_out: Path | None
    columns: tuple[str, ...]
    name: str

    @property
    def recipe(self) -> Recipe:
        """The settings for this size."""
        return next(one for one in RECIPES if self.parameters < one.below)


def starter(start: Start) -> str:
    """Return the pipeline as commented YAML.

    Raises:
        ConfigError: texts alone are no data for alignment.
    """
    kind, seen = start.inspection.kind, start.inspection.statistics
    if kind not in STAGES:
        raise ConfigError(
            f"{start.inspection.path} holds {kind}. Alignment starts from demonstrations, prompts or judgments: give such a file. "
            "To continue pretraining, see `palate pretrain --help`."
        )
    recipe, is_judged = start.recipe, kind in {"preferences", "unpaired"}
    policy = "$sft" if kind in {"demonstrations", "preferences"} else "$model"
    words = {
        "recipe": recipe,
        "policy": policy,
        "start": "SFT" if policy == "$sft" else "start",
        "role": "sft" if policy == "$sft" else "base",
        "runs": f"runs/{start.name}",
        "longest": _longest(seen.completion_tokens),
        "columns": _columns(start.columns),
        "adapters": "\n    adapters: {rank: 16}" if recipe.has_adapter else "",
        "chosen": "The chosen side of each pair is learned." if kind == "preferences" else "",
        "tested": "It is tested on $held_out." if start.held_out else "A tenth of the prompts is set aside to test it.",
        "held_out": "\n    held_out: $held_out" if start.held_out else "",
        "objective": "{kind: kto}" if kind == "unpaired" else "{beta: 0.1}",
        "prompts": "$held_out" if start.held_out else "$data",
        "unseen": "" if start.held_out else " that training saw, for `init` was given no --held_out",
        "reward": "\n    reward: $reward" if kind == "preferences" else "",
        "report_reward": "\n    reward: $reward" if kind == "preferences" else "",
    }
    inputs = {"data": start.inspection.path, "model": start.model}
    if start.held_out is not None and is_judged:
        inputs["held_out"] = str(start.held_out)
    head = [
        *(f"# {line}" for line in textwrap.wrap(_seen(start), 120)),
        "# Each setting is a place to start from. docs/reference.md explains all; `palate plan` says what fits into memory.",
        f"name: {start.name}",
        "seed: 0",
        f"inputs: {{{', '.join(f'{name}: {json.dumps(value, ensure_ascii=False)}' for name, value in inputs.items())}}}",
        "stages:",
    ]
    stages = [text.format(**words) for text in STAGES[kind]]
    return "\n".join(line.rstrip() for line in ("\n".join(head) + "".join(stages)).split("\n"))


def _seen(start: Start) -> str:
    seen = start.inspection.statistics
    dropped = f", and {sum(seen.dropped.values()):,} that cannot be used (`palate inspect` says why)" if seen.dropped else ""
    size = f"{start.parameters / 1e6:,.1f} million" if start.parameters < 1e9 else f"{start.parameters / 1e9:,.1f} billion"
    adapter = " An adapter alone is trained (LoRA)." if start.recipe.has_adapter else ""
    return (
        f"{start.inspection.path} holds {seen.rows:,} rows of {start.inspection.kind}{dropped}. The model has {size} parameters.{adapter}"
    )


def _longest(lengths: LengthQuantiles | None) -> int:
    """Tokens of the longest completion: the data's 95th percentile, rounded up to 16."""
    return 256 if lengths is None else max(16, 16 * ceil(lengths.p95 / 16))


def _columns(words: tuple[str, ...]) -> str:
    """The setting `columns` as a line of a stage, or nothing."""
    pairs = [word.partition("=") for word in words]
    return (
        f"\n    columns: {{{', '.join(f'{name}: {json.dumps(column)}' if equals else f'kind: {name}' for name, equals, column in pairs)}}}"
        if pairs
        else ""
    )
