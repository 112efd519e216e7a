"""What all tests share: deterministic hypothesis profiles, and skips that fail where none may be."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import postgres as servers
from tests.harness import telltale
from tests.harness.background import Background

SHARED = Path(__file__).parents[2] / "shared"
for kind in ("corpora", "data"):  # what is not the project's own, where it is at hand
    if (SHARED / kind).is_dir():
        os.environ.setdefault(f"COUNTERFOIL_{kind.upper()}", str(SHARED / kind))

settings.register_profile(
    "test",
    derandomize=True,
    deadline=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("prove", parent=settings.get_profile("test"), max_examples=2000)
settings.load_profile(os.environ.get("COUNTERFOIL_PROFILE", "test"))

LISTENER = telltale.Listener()


def pytest_configure():
    """Every test of the suite is one of what is logged: at DEBUG, no cell and no token."""
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(LISTENER)


@pytest.fixture(autouse=True)
def nothing_is_told_in_logs():
    """PROMISE 1 (no cell without a grant): what is logged while a test runs holds none of its canaries."""
    LISTENER.wrong = ""
    yield
    assert not LISTENER.wrong, LISTENER.wrong


@pytest.fixture
def background():
    """An event loop in a thread of its own, for what has to run beside the test."""
    running = Background()
    yield running
    running.close()


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server, for the tests of one process."""
    with servers.serving() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where every peer must be present (`COUNTERFOIL_NO_SKIP=1`), a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("COUNTERFOIL_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but no skip is allowed here: {report.longrepr}"
    return report
