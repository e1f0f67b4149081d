"""Palate aligns a language model with human taste: the whole loop of RLHF in one package.

From Python, every stage is a function (`palate.sft(...)`), and its parts can be used alone (`palate.load_policy(...)`). docs/python.md has
examples. A name is loaded when it is first used, so that `import palate` stays light.
"""

from importlib import import_module

__version__ = "0.1.0"

_STAGES = (
    "world", "pretrain", "sft", "sample", "revise", "collect", "reward", "collect_rules", "rules", "refresh", "direct", "online", "pair",
    "average", "rerank", "evaluate", "regrade", "compare", "report",
)  # fmt: skip
"""The functions of stages."""

_HOMES = {
    "palate.api.stage_calls": ("FinishedRun", "run", "run_stage", "stage_class"),
    "palate.api.model_parts": ("as_policy", "as_prompts", "compose", "generate", "load_policy", "load_reward", "logps", "score"),
    "palate.api.online_steps": ("online_loop", "rollouts"),
    "palate.core": ("Completion", "Demonstration", "Message", "PalateError", "Preference", "Prompt", "Sampling", "UnpairedPreference"),
    "palate.data.data_sources": ("DataSource",),
}
"""Where the other public names live."""

_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_STAGES, *_MODULE_OF]


def __getattr__(name: str) -> object:
    if name in _STAGES:
        found = import_module("palate.api.stage_calls").stage_function(name)
    elif name in _MODULE_OF:
        found = getattr(import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
