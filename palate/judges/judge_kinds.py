"""The kinds of models that judge."""

from __future__ import annotations

from palate.judges.endpoint import OpenAIJudge
from palate.judges.function_judge import FunctionJudge

JudgeModelKind = OpenAIJudge | FunctionJudge
"""A model that judges: behind an OpenAI-compatible API, or a Python function."""
