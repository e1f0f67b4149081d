"""The pipeline of every stage, run once on one rank."""

import pytest

from palate.cli import main
from tests.device.work import PIPELINE
from tests.ranks.commands import Runs, runs_at


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("alone")
    assert main(["run", str(PIPELINE), "--runs", str(folder)]) == 0
    return runs_at(folder)
