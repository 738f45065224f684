from __future__ import annotations

import pytest

from mainspring import tracking
from mainspring.core import FixedClock
from mainspring.db import Database


@pytest.fixture
def experiment(database: Database, clock: FixedClock) -> str:
    with database.write() as connection:
        return tracking.create_experiment(connection, clock, "flights")
