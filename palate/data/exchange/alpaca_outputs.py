"""AlpacaEval's outputs of models: `instruction`, `output`, `generator`. The readers of data sets read such files as samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.core import DataError
from palate.data.exchange.alpaca_eval import one_question, write_list
from palate.data.exchange.contents import Exchange
from palate.data.exchange.shape import Written, unheld
from palate.data.jsonl import Row


@dataclass(frozen=True)
class AlpacaOutputsShape:
    """One row per completion. `generator` is the policy, where it is known."""

    name: str = "alpaca-outputs"
    loses: str = "judgments, conversations of several turns, images and clips"

    def write(self, exchange: Exchange, path: Path) -> Written:
        """Write each completion of a user's turn once: a list in a `.json` file, else lines. Raises DataError if there is none."""
        rows: dict[tuple[str, str, str], Row] = {}
        left_out = []
        for item in exchange.items:
            question = one_question(item)
            if question is None or not all(side.text for side in item.candidates):
                left_out.append(unheld(item.id, "not texts that answer one user turn"))
                continue
            for side in item.candidates:
                generator = {"generator": side.policy} if side.policy else {}
                rows.setdefault((question, side.text, side.policy), {"instruction": question, "output": side.text, **generator})
        if not rows:
            raise DataError(f"{path}: nothing to write: no text answers one user turn. Write another kind.")
        return Written(write_list(path, list(rows.values())), tuple(left_out))
