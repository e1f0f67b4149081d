"""Published evals, one module per data set: rows of a published file become questions (docs/methods/evals.md)."""

from palate.data.published.eval_files import PUBLISHED, EvalTable, fixed_choice, read_evals
from palate.data.published.eval_questions import BENCHMARK, CLUSTER, GROUP

__all__ = ["BENCHMARK", "CLUSTER", "GROUP", "PUBLISHED", "EvalTable", "fixed_choice", "read_evals"]
