"""What all tests share: deterministic hypothesis profiles, and skips that fail where none may be."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "test",
    derandomize=True,
    deadline=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("prove", parent=settings.get_profile("test"), max_examples=2000)
settings.load_profile(os.environ.get("COUNTERFOIL_PROFILE", "test"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where every peer must be present (`COUNTERFOIL_NO_SKIP=1`), a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("COUNTERFOIL_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but no skip is allowed here: {report.longrepr}"
    return report
