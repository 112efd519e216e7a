"""What is looked at: a folder with all that a proxy needs, and a store that answers."""

from __future__ import annotations

import pytest

from tests.harness import sales
from tests.harness.background import Background
from tests.harness.proxy import Home
from tests.harness.store import Store


@pytest.fixture(scope="module")
def background():
    running = Background()
    yield running
    running.close()


@pytest.fixture
def store(background):
    running = Store(background)
    yield running
    running.close()


@pytest.fixture
def home(tmp_path, store) -> Home:
    return Home(tmp_path / "home", reports=sales.REPORTS, rules=sales.RULES, store=store.url)
