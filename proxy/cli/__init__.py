"""The command line: one group, a module for each family of verbs."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, Final

import click

from proxy import __version__
from proxy.cli.lazy import LazyGroup
from proxy.errors import CounterfoilError

# Before Arrow is imported, which looks once: an allocator of its own beside the C library's has what that one
# lacks, and gives it back late. A quarter of what a large Parquet report takes.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


class _Group(LazyGroup):
    """Shows errors of ours, and of the system's files, as one message: no traceback reaches a user."""

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):  # https://no-color.org; rich looks by itself
            ctx.color = False
        try:
            return super().invoke(ctx)
        except CounterfoilError as exc:
            click.echo(f"counterfoil: {_visible(str(exc))}", err=True)
            sys.exit(1)
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # click ends quietly where nobody reads on
                raise
            about = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
            click.echo(f"counterfoil: {_visible(f'{about}{exc.strerror or exc}')}", err=True)
            sys.exit(1)


def _visible(text: str) -> str:
    """Lines of which a terminal obeys nothing: they may name what somebody else has chosen."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


_COMMANDS: Final = {
    "serve": "proxy.cli.serve:serve",
    "doctor": "proxy.cli.doctor:doctor",
    "policy": "proxy.cli.policy:policy",
    "grant": "proxy.cli.control:grant",
    "revoke": "proxy.cli.control:revoke",
    "lockdown": "proxy.cli.control:lockdown",
    "reveal": "proxy.cli.reveal:reveal",
    "log": "proxy.cli.log:log",
    "keys": "proxy.cli.keys:keys",
    "certs": "proxy.cli.certs:certs",
    "demo": "proxy.cli.demo:demo",
}


@click.group(cls=_Group, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="counterfoil")
def main() -> None:
    """Counterfoil: rows and fields by policy, every access on record."""
