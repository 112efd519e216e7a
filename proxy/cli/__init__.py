"""The command line: one group, a module for each family of verbs."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from proxy import __version__
from proxy.cli.control import grant, lockdown, revoke
from proxy.cli.demo import demo
from proxy.cli.log import log
from proxy.cli.policy import policy
from proxy.cli.serve import serve
from proxy.errors import CounterfoilError


class _Group(click.Group):
    """Shows the errors that are ours as one message: no traceback reaches a user."""

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):  # https://no-color.org; rich looks by itself
            ctx.color = False
        try:
            return super().invoke(ctx)
        except CounterfoilError as exc:
            click.echo(f"counterfoil: {exc}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="counterfoil")
def main() -> None:
    """Counterfoil: rows and fields by policy, every access on record."""


for _command in (serve, policy, grant, revoke, lockdown, log, demo):
    main.add_command(_command)
