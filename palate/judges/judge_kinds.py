"""The kinds of models that judge."""

from __future__ import annotations

from palate.judges.endpoint import OpenAIJudge
from palate.judges.function_judge import FunctionJudge
from palate.judges.local_judge import LocalJudge

JudgeModelKind = OpenAIJudge | LocalJudge | FunctionJudge
"""A model that judges: behind an OpenAI-compatible API, in this process, or a Python function."""
