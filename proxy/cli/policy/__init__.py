"""`counterfoil policy …`: what a folder of policies says, before it is in force; a module for each verb."""

from __future__ import annotations

import click

from proxy.cli.policy.check import check_
from proxy.cli.policy.diff import diff
from proxy.cli.policy.explain import explain_
from proxy.cli.policy.fmt import fmt
from proxy.cli.policy.replay import replay_
from proxy.cli.policy.schema import schema
from proxy.cli.policy.seal import seal_
from proxy.cli.policy.test import test_
from proxy.cli.policy.versions import show, status


@click.group()
def policy() -> None:
    """Look at policies before they are in force."""


for _command in (check_, explain_, test_, fmt, diff, replay_, schema, seal_, show, status):
    policy.add_command(_command)
