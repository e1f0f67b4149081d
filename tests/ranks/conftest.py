"""The pipeline of every stage, run once on one rank."""

import pytest

from tests.device.work import on_the_cpu
from tests.ranks.commands import Runs, runs_at
from tests.support.once import once


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return runs_at(once(tmp_path_factory, "every-stage", on_the_cpu))
