"""The pipeline of every stage, run once on one rank."""

import pytest

from tests.device.work import PIPELINE
from tests.ranks.commands import Runs, whole


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return whole(tmp_path_factory.mktemp("alone"), PIPELINE)
