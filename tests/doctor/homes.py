"""Changes to a home, and what a doctor finds in it."""

from __future__ import annotations

from proxy.doctor import Finding, examine
from tests.harness.proxy import Home


def edit(home: Home, old: str, new: str) -> None:
    text = home.settings.read_text()
    assert old in text
    home.settings.write_text(text.replace(old, new))


def edit_reports(home: Home, more: str) -> None:
    """Say more of the store."""
    reports = (home.policies / "reports.yaml").read_text()
    home.write("reports.yaml", reports.replace("loopback: true", f"loopback: true, {more}"))


def add(home: Home, line: str) -> None:
    edit(home, "log: access.db", f"log: access.db\n{line}")


def found(home: Home, **environment: str) -> list[tuple[str, str, str]]:
    """Check, state and text of all that is found."""
    return [
        (each.check, each.state.name.lower(), each.text)
        for each in examine(home.settings, environment)
    ]


def told(home: Home, check: str, **environment: str) -> list[Finding]:
    """What is found by one check, with what to do."""
    return [each for each in examine(home.settings, environment) if each.check == check]
