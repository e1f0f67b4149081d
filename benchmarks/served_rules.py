"""Output rules of `palate serve` in the kitchen: `python -m benchmarks.served_rules --seeds 120 122 123 --runs runs/bench-rules`.

The folders are those of `python -m benchmarks.rules`: each has the world, the SFT model and the classifier that learned all rules from
simulated people. The server answers held-out guests, without rules, with rules that refuse, and with rules that draw again first. Only the
classifier decides; the rules' own programs say afterwards what was true. Tempting guests try to talk the cook into breaking a rule,
ordinary ones want to eat. The three rules are about harm. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import post
from benchmarks.started_server import StartedServer
from palate.data.jsonl import read_rows
from palate.data.rule_file import RuleFile
from palate.evaluation.intervals import share
from palate.kitchen import rule_programs

PROGRAMS: Mapping[str, Callable[[str, str], bool]] = {
    "poison": rule_programs.poison,
    "allergen": rule_programs.allergen,
    "raw": lambda _, completion: rule_programs.raw(completion),
}
GUESTS = {"tempting": "red_team_held_out.jsonl", "ordinary": "held_out.jsonl"}
WAYS: Mapping[str, Sequence[str]] = {"none": (), "refuse": ("--on_breach", "refuse"), "regenerate": ("--on_breach", "regenerate")}
TOGETHER = 32


@dataclass(frozen=True)
class Served:
    """An answer: whether it is a refusal of the server, and whether it breaks a rule."""

    is_refused: bool
    is_broken: bool


def only(folder: Path, name: str) -> Path:
    """Return the run of a stage."""
    (found,) = folder.glob(f"{name}-*")
    return found


async def answered(port: int, prompts: Sequence[list[dict[str, Any]]]) -> list[Served]:
    """Return the answer to each prompt; the seed is the prompt's number."""
    gate = asyncio.Semaphore(TOGETHER)

    async def one(number: int, prompt: list[dict[str, Any]]) -> Served:
        body = json.dumps({"messages": prompt, "max_tokens": 80, "seed": number}).encode()
        async with gate:
            status, content, _ = await post(port, "/v1/chat/completions", body)
        assert status == 200, content
        choice = json.loads(content)["choices"][0]
        text, is_refused = choice["message"]["content"], choice["finish_reason"] == "content_filter"
        return Served(is_refused, not is_refused and any(check(prompt[-1]["content"], text) for check in PROGRAMS.values()))

    return list(await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts))))


def measured(folder: Path, guests: Sequence[list[dict[str, Any]]], way: str) -> list[Served]:
    """Return what the server answers, with or without rules."""
    with tempfile.TemporaryDirectory() as place:
        words: list[str] = []
        if way != "none":
            rules = [rule for rule in RuleFile.read(only(folder, "world") / "rules.yaml").rules if rule.id in PROGRAMS]
            path = Path(place) / "rules.json"
            path.write_text(json.dumps({"rules": [{"id": rule.id, "text": rule.text, "question": rule.question} for rule in rules]}))
            words = ["--output_rules", str(path), "--rule_model", str(only(folder, "classifier")), "--store", place, *WAYS[way]]
        server = StartedServer("serve", str(only(folder, "sft")), "--slots", str(TOGETHER), *words)
        server.start()
        try:
            return asyncio.run(answered(server.port, guests))
        finally:
            server.kill()


def main() -> None:
    """Measure and print a table per seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served_rules")
    parser.add_argument("--seeds", type=int, nargs="+", default=[120, 122, 123])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-rules"))
    parser.add_argument("--limit", type=int, default=400)
    options = parser.parse_args()
    print("| seed | guests | rules | n | breaks a rule | refused by the server | refused although it would have broken none |")
    print("|---|---|---|---|---|---|---|")
    for seed in options.seeds:
        folder = options.runs / f"seed{seed}"
        for kind, file in GUESTS.items():
            rows = list(read_rows(only(folder, "world") / file))[: options.limit]
            guests: list[list[dict[str, Any]]] = [row["prompt"] for _, row in rows]  # type: ignore[misc]
            plain: list[Served] = []
            for way in WAYS:
                found = measured(folder, guests, way)
                plain = plain or found
                needless = [one.is_refused for one, before in zip(found, plain, strict=True) if not before.is_broken]
                figures = [
                    share(sum(flags), len(flags)) for flags in ([o.is_broken for o in found], [o.is_refused for o in found], needless)
                ]
                cells = " | ".join(f"{100 * one.value:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]" for one in figures)
                print(f"| {seed} | {kind} | {way} | {len(found)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
