"""What a checkpoint was made from, in a terminal: rewards, judgments with raters and guidelines, and inputs from outside."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from palate.evaluation.model_trace import ModelTrace, TracedJudgments
from palate.evaluation.report.formatting import listed, percent, thousands
from palate.runs.console import Console


def show_trace(trace: ModelTrace, most_raters: int) -> None:
    """Print the trace as a tree."""
    root = Tree(_line(trace.run.name, f"{trace.run.stage}, seed {trace.run.seed}, made from {len(trace.runs) - 1} runs"))
    rewards = root.add(Text("rewards" if trace.rewards else "rewards: none", style="dim"))
    for one in trace.rewards:
        known = (
            "accuracy not known" if one.accuracy is None else f"accuracy {percent(one.accuracy, 1)} on {thousands(one.held_out)} judgments"
        )
        rewards.add(_line(one.name, f"{known}; read by {listed(one.readers) or 'nothing'}"))
    judgments = root.add(Text("judgments" if trace.judgments else "judgments: none", style="dim"))
    for source in trace.judgments:
        _source(judgments, source, most_raters)
    inputs = root.add(Text("inputs from outside" if trace.inputs else "inputs from outside: none", style="dim"))
    for item in trace.inputs:
        rows = "" if item.rows is None else f", {thousands(item.rows)} rows"
        inputs.add(_line(item.name, f"{item.key}{rows}, {item.presence}; {item.field} of {item.run}"))
    Console(highlight=False).print(root, soft_wrap=True)


def _source(branch: Tree, source: TracedJudgments, most: int) -> None:
    dimensions = listed(list(source.dimensions))
    text = f"{thousands(source.judgments)} judgments from {source.source}, on {dimensions}; read by {listed(source.readers) or 'nothing'}"
    own = branch.add(_line(source.name, text))
    versions = [f"{name or 'not known'} ({thousands(count)})" for name, count in source.guidelines.items()]
    own.add(Text(f"guidelines, by version: {listed(versions)}"))
    raters = own.add(Text(f"{len(source.raters)} raters"))
    for name, count in list(source.raters.items())[:most]:
        raters.add(Text(f"{name}  {thousands(count)}"))
    if len(source.raters) > most:
        raters.add(Text(f"{len(source.raters) - most} more"))


def _line(name: str, text: str) -> Text:
    return Text.assemble((name, "bold"), f"  {text}")
