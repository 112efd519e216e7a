"""`counterfoil policy …`: what a folder of policies says, before it is in force; a module for each verb."""

from __future__ import annotations

from typing import Final

import click

from proxy.cli.lazy import LazyGroup

_COMMANDS: Final = {
    "check": "proxy.cli.policy.check:check_",
    "explain": "proxy.cli.policy.explain:explain_",
    "test": "proxy.cli.policy.test:test_",
    "fmt": "proxy.cli.policy.fmt:fmt",
    "diff": "proxy.cli.policy.diff:diff",
    "replay": "proxy.cli.policy.replay:replay_",
    "schema": "proxy.cli.policy.schema:schema",
    "seal": "proxy.cli.policy.seal:seal_",
    "show": "proxy.cli.policy.versions:show",
    "status": "proxy.cli.policy.versions:status",
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def policy() -> None:
    """Look at policies before they are in force."""
