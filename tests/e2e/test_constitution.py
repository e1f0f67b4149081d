"""Constitutional AI on a very small kitchen: critiques, revisions, labels by principles, what is learned from them, and the report."""

from pathlib import Path

import pytest

from palate.cli import main
from palate.judges.revision_rounds import RevisionRound
from palate.runs.record import list_runs
from tests.support.stages import rows_of, summary_of

pytestmark = pytest.mark.slow

PIPELINE = """\
name: tiny
seed: 3
stages:
  world:
    stage: world
    kitchen: {texts: 400, demonstrations: 60, prompts: 10, held_out: 20, evals: 6, revisions: 0.9, red_team: 40}
  base:
    stage: pretrain
    data: $world
    tokenizer: $world/tokenizer
    architecture: {hidden_size: 32, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 64}
    documents_per_step: 25
    epochs: 2
  sft: &sft {stage: sft, model: $base, data: $world, demonstrations_per_step: 20}
  drafts: {stage: sample, model: $sft, prompts: $world/red_team.jsonl, samples_per_prompt: 1, sampling: &sampling {max_tokens: 48}}
  revisions:
    stage: revise
    model: $sft
    samples: $drafts
    constitution: $world/constitution.yaml
    rounds: 2
    sampling: *sampling
    demonstrations: $world
    demonstrations_share: 0.5
    gold: palate.kitchen:judge
  cai-sft: {<<: *sft, data: $revisions}
  cai-dpo: {stage: direct, model: $cai-sft, preferences: $revisions, prompts_per_step: 8}
  answers: {stage: sample, model: $cai-sft, prompts: $world/red_team.jsonl, samples_per_prompt: 2, sampling: *sampling}
  labels:
    stage: collect
    samples: $answers
    dimensions: [helpful, honest, harmless]
    from:
      kind: hybrid
      judge:
        kind: likelihood
        model: {kind: local, model: $base}
        principles: $world/constitution.yaml
        score:
          kind: named
          text: "<guest> {prompt} <end> <cook> {completion} <end> <guest> {principle}"
        clamp: [0.1, 0.9]
      people: {kind: simulated, gold: "palate.kitchen:judge", pool: {raters: 3}, repeat_share: 0}
      people_shares: {helpful: 1, honest: 0, harmless: 0}
  reward: {stage: reward, model: $cai-sft, preferences: $labels, held_out_share: 0.2, prompts_per_step: 8}
  ppo:
    stage: online
    model: $cai-sft
    reward: $reward
    prompts: $world/red_team.jsonl
    iterations: 1
    prompts_per_iteration: 4
    minibatches: 1
    sampling: *sampling
    reward_requirements: {min_accuracy: 0, min_spread: 0}
  compared: {stage: collect, samples: $revisions, from: {kind: simulated, gold: "palate.kitchen:judge", pool: {raters: 3}}}
  eval-sft: &eval
    stage: evaluate
    model: $sft
    prompts: $world/held_out.jsonl
    gold: palate.kitchen:judge
    sampling: *sampling
  eval-cai: {<<: *eval, model: $cai-dpo}
  eval-full: {<<: *eval, model: $ppo}
  report:
    stage: report
    reference: SFT
    models:
      - {evaluation: $eval-sft, name: SFT, role: sft}
      - {evaluation: $eval-cai, name: CAI, role: direct}
      - {evaluation: $eval-full, name: the full path, role: online}
    revisions: $revisions
    revision_labels: $compared
    costs: true
"""


def test_a_model_learns_from_its_own_revisions_and_the_report_says_what_they_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(PIPELINE)
    assert main(["run", str(file), "--runs", str(tmp_path / "runs")]) == 0
    runs = {record.name: path for path, record in list_runs(tmp_path / "runs") if record.status == "done"}
    rounds = [RevisionRound.of(each) for row in rows_of(runs["revisions"], "revisions.jsonl") for each in row["rounds"]]
    assert len(rounds) == 80
    assert {each.principle for each in rounds} == {"safe", "true", "wanted"}
    summary = summary_of(runs["revisions"])
    assert summary["pairs"] > 5
    assert summary["helpful_demonstrations"] == summary["demonstrations"] > 5
    assert len(summary["gold"]["harmless"]) == 3
    page = (runs["report"] / "report.html").read_text()
    assert all(said in page for said in ("What the principles did", "Preferred to the original", "What each model cost"))
    tokens = f"{summary['tokens_read']:,}"
    assert f'data-label="Tokens models read">{tokens}<' in page
    labels = rows_of(runs["labels"], "preferences.jsonl") + rows_of(runs["labels"], "held_out.jsonl")
    principles = {"honest": "#true", "harmless": "#safe"}
    for row in labels:
        (rater,) = row["raters"]
        assert rater.endswith(principles[row["dimension"]]) if row["dimension"] in principles else rater.startswith("simulated")
    by_people = sum(row["dimension"] == "helpful" for row in labels)
    assert 0 < by_people == len(labels) / 3
    assert f'data-label="Labels of people">{by_people}<' in page
    capsys.readouterr()
    assert main(["run", str(file), "--runs", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.count("skipped") == len(runs)
