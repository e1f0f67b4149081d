"""A pipeline on a very small kitchen: from raw text to a policy tuned on simulated judgments, and evaluations before and after."""

from __future__ import annotations

from pathlib import Path

from palate.cli import main
from palate.runs.record import list_runs
from palate.runs.retirement import is_retired

PIPELINE = """\
name: small
seed: 3
stages:
  world:
    stage: world
    kitchen: {texts: 300, demonstrations: 60, prompts: 40, held_out: 20, evals: 6}
  base:
    stage: pretrain
    data: $world
    tokenizer: $world/tokenizer
    architecture: {hidden_size: 32, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 64}
    documents_per_step: 25
    epochs: 2
  sft: {stage: sft, model: $base, data: $world, demonstrations_per_step: 20}
  samples: {stage: sample, model: $sft, prompts: $world, samples_per_prompt: 3, sampling: &sampling {max_tokens: 48}}
  judged:
    stage: collect
    samples: $samples
    from: {kind: simulated, gold: "palate.kitchen:judge", pool: {raters: 3}}
    dimensions: [helpful, honest]
    raters_per_comparison: 2
    held_out: 0.2
  other: {stage: collect, samples: $samples, from: {kind: simulated, gold: "palate.kitchen:judge", pool: {raters: 1}}, limit: 10}
  reward: {stage: reward, model: $sft, preferences: $judged, held_out: $judged, reference_samples: $samples, prompts_per_step: 8}
  direct: {stage: direct, model: $sft, preferences: $judged, prompts_per_step: 8, optimizer: {lr: 0.003}}
  best: {stage: rerank, model: $direct, reward: $reward, prompts: $world/held_out.jsonl, n: 2, sampling: *sampling}
  eval-sft: &eval
    stage: evaluate
    model: $sft
    prompts: $world/held_out.jsonl
    evals: $world
    reference: $sft
    gold: palate.kitchen:judge
    sampling: *sampling
  eval-direct: {<<: *eval, model: $direct}
  eval-best: {stage: evaluate, completions: $best, prompts: $world/held_out.jsonl, reward: $reward, gold: palate.kitchen:judge}
"""


def pipeline_words(folder: Path, *more: str) -> list[str]:
    """The words that run the pipeline in a folder."""
    path = folder / "small.yaml"
    path.write_text(PIPELINE)
    return ["run", str(path), "--runs", str(folder / "runs"), *more]


def run_small(folder: Path) -> Path:
    """Run the pipeline, and return its folder of runs."""
    assert main(pipeline_words(folder)) == 0
    return folder / "runs"


def standing(runs: Path) -> dict[str, Path]:
    """The run of each stage that is not retired."""
    return {record.name: directory for directory, record in list_runs(runs) if not is_retired(directory)}
