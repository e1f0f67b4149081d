"""Whether `palate reward-check` names what is wrong with reward models: `python -m benchmarks.reward_faults --seeds 130 131 132`.

A short kitchen's reward model is the sound one: its raters like neither length nor phrases, and it reads the likelihood. Beside it are
models with a known fault: judges who do not see harm, judges who count words, shuffled labels, and a tokenizer that was changed
afterwards, which the model says or not. The check reads the held-out judgments of sound judges. There is a row per model, with what the
check names on each seed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.kitchen import LazyPipeline, seed_root, seeds_parser, write_pipeline
from benchmarks.short_kitchen import TEXTS, sound_kitchen
from palate.data.files import write_atomic
from palate.evaluation.reward_check.check_file import CheckedFile, check_file
from palate.evaluation.reward_check.check_report import CheckSettings, RewardCheck
from palate.kitchen import judge
from palate.kitchen.gold import read_reply
from palate.kitchen.guests import read_request
from palate.models.reward_file import REWARD_FILE
from palate.rewards.combination import RewardModels

FAULTS = {
    "sound": "",
    "blind to harmless": "blind",
    "counts words": "length",
    "shuffled labels": "chance",
    "another tokenizer": "tokenizer",
    "another tokenizer, not recorded": "tokenizer",
}
"""What the check calls the fault of each model."""


def at_hand(prompt: str, completion: str, **fields: object) -> Mapping[str, float]:
    """Return what judges see who call a reply harmless for each ingredient that the guest has, and never ask what the guest can eat."""
    seen, has = judge(prompt, completion, **fields), read_request(prompt).at_hand
    used = {item for item, _, _ in read_reply(completion).steps if item in has}
    return {**seen, "harmless": min(len(used), 2) / 2}


def words(prompt: str, completion: str, **fields: object) -> Mapping[str, float]:
    """Return the number of words in units of forty, on every dimension."""
    return dict.fromkeys(judge(prompt, completion, **fields), len(completion.split()) / 40)


def pipeline(texts: int) -> dict[str, Any]:
    """Return the stages of the sound model, and of those that learn from other judges or from shuffled labels."""
    stages = sound_kitchen(texts)
    short = {**stages["reward"], "epochs": 1}
    for name in ("at_hand", "words"):
        asked = {**stages["judged"]["from"], "gold": f"benchmarks.reward_faults:{name}"}
        stages[f"judged-{name}"] = {**stages["judged"], "from": asked}
        stages[f"reward-{name}"] = {**short, "preferences": f"$judged-{name}/preferences.jsonl"}
    stages["shuffled"] = {**short, "control": "shuffled"}
    return {"name": "reward-faults", "seed": 0, "stages": stages}


def models_of(stages: LazyPipeline) -> dict[str, Path]:
    """Train what is not trained yet, and return the directory of each model."""
    sound, root = stages.run("reward") / "model", stages.root
    moved = retokenised(sound, root / "moved")
    found = (
        sound,
        stages.run("reward-at_hand"),
        stages.run("reward-words"),
        stages.run("shuffled"),
        moved,
        unrecorded(moved, root / "moved-unrecorded"),
    )
    return dict(zip(FAULTS, found, strict=True))


def retokenised(model: Path, to: Path) -> Path:
    """Copy a model with a tokenizer that gives each word the number of another; special tokens keep theirs."""
    _copy(model, to)
    path = to / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    special = {token["content"] for token in content["added_tokens"]}
    numbers: dict[str, int] = content["model"]["vocab"]
    moved = [word for word in numbers if word not in special]
    numbers.update(zip(moved, [numbers[word] for word in (*moved[1:], moved[0])], strict=True))
    path.write_text(json.dumps(content), encoding="utf-8")
    return to


def unrecorded(model: Path, to: Path) -> Path:
    """Copy a model without the digest of the tokenizer that it was trained with, as other tools leave it."""
    _copy(model, to)
    content = json.loads((to / REWARD_FILE).read_text(encoding="utf-8"))
    (to / REWARD_FILE).write_text(json.dumps({name: value for name, value in content.items() if name != "tokenizer"}), encoding="utf-8")
    return to


def _copy(model: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(model, to)


def table(seeds: Sequence[int], checks: Sequence[Mapping[str, RewardCheck]]) -> str:
    """Return a Markdown table: a row per model, with what the check names and the accuracy by seed, and the seeds on which it is right."""
    lines = [f"| model | {' | '.join(f'seed {seed}' for seed in seeds)} | right |", "|---" * (len(seeds) + 2) + "|"]
    for name, fault in FAULTS.items():
        named = [tuple(dict.fromkeys(one.name for one in check[name].faults)) for check in checks]
        right = sum((fault in found) if fault else check[name].verdict == "passes" for found, check in zip(named, checks, strict=True))
        cells = [
            f"{', '.join(found) or check[name].verdict} ({check[name].figures.accuracy.value:.3f})"
            for found, check in zip(named, checks, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {right} of {len(checks)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is not done yet below `--runs`, one folder per seed; return exit status 0."""
    parser = seeds_parser("benchmarks.reward_faults", __doc__, [130, 131, 132])
    parser.add_argument("--texts", type=int, default=TEXTS, help="documents of the base corpus")
    options = parser.parse_args()
    checks = []
    for seed in options.seeds:
        root = seed_root(options, seed)
        file = write_pipeline(root / "reward_faults.yaml", pipeline(options.texts))
        stages = LazyPipeline(seed, root, file)
        models, pairs = models_of(stages), str(stages.run("judged") / "held_out.jsonl")
        settings = CheckSettings(phrases=cast("Any", stages.planned["judged"].stage).from_.pool.phrases)
        checks.append({name: check_file(RewardModels.load((str(path),)), CheckedFile(pairs), settings) for name, path in models.items()})
        for name, check in checks[-1].items():
            write_atomic(root / f"check-{name.replace(', ', '-').replace(' ', '-')}.json", json.dumps(check.plain(), indent=1) + "\n")
    print(table(options.seeds, checks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
