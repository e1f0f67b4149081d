"""What the test of a classifier of rules says against its audits, from the run that trained it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.agreement.estimates import Estimate
from palate.data.files import read_json
from palate.evaluation.rule_figures import shortfall
from palate.runs.record import run_of

UNTESTED = "the classifier was not tested on this rule, so nobody knows whether it finds breaches"


def classifier_limits(model: str, rules: Sequence[str]) -> dict[str, str]:
    """Return a reason for each rule of which the test of the classifier does not show that it finds breaches.

    A classifier that no run of stage `rules` trained has no test, so there is a reason for every rule.

    Args:
        model: the classifier, as a setting names it: a run, or a directory in one.
        rules: ids of the rules that it checks.
    """
    home = run_of(Path(model).resolve())
    file = None if home is None else home / "summary.json"
    summary: Any = read_json(file) if file is not None and file.is_file() else {}
    tested: Mapping[str, Any] = summary.get("held_out", {})
    reasons = {rule: UNTESTED if rule not in tested else shortfall(_area(tested[rule])) for rule in rules}
    return {rule: reason for rule, reason in reasons.items() if reason is not None}


def _area(figures: Mapping[str, Any]) -> Estimate | None:
    """Return the area on held-out wordings: against the rule's program where it has one, else against the raters."""
    stored = figures["auc_program_held_out"] or figures["auc_held_out"]
    if stored is None:
        return None
    value, se, low, high = (math.nan if stored[name] is None else float(stored[name]) for name in ("value", "se", "low", "high"))
    return Estimate(value, se, low, high, int(stored["n"]))
