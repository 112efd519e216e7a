"""`counterfoil doctor`: whether all is there that the proxy needs, and what to do where it is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec
from rich.table import Table
from rich.text import Text

from proxy.cli.log import visible
from proxy.cli.tables import console
from proxy.doctor import SECONDS, Finding, State, examine, hanging
from proxy.messages import encodable

_MOST_SECONDS: Final = 86_400
_COLOURS: Final = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


@click.command()
@click.option(
    "-c",
    "--config",
    "settings",
    type=click.Path(path_type=Path, readable=False),  # why it cannot be read is a finding
    default="counterfoil.yaml",
    show_default=True,
    help="The settings.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--within",
    type=click.FloatRange(min=0.1),
    default=SECONDS,
    show_default=True,
    help="Seconds for all checks, and before them for the files; what takes longer is told as a failure.",
)
def doctor(settings: Path, *, as_json: bool, within: float) -> None:
    """Look at all that the proxy needs, and say what is wrong and how to put it right.

    Settings, policies, keyring, certificates, files, access log, places for checkpoints, receivers of
    alarms and traces, identity providers, stores, clocks and limits of the system: each is looked at as the
    proxy does it, whatever is wrong with the others (where counterfoil.yaml is at fault, what does not
    depend on it), beside a server that runs or before it does. Run it as the proxy's user, in its
    environment. A store is shown its own credential, and commands that print one are run; identity
    providers are asked without one, and nobody is shown anything of a client's.

    Exit status: 0 all is well, 1 there are warnings, 2 something fails.
    """
    if not within <= _MOST_SECONDS:  # nor is what is no number
        raise click.BadParameter(f"at most {_MOST_SECONDS}", param_hint="--within")
    found = examine(settings, os.environ, seconds=within)
    worst = max((each.state for each in found), default=State.OK)
    if as_json:
        click.echo(_json(found, worst))
    else:
        _show(found)
    _leave(worst)


def _leave(status: int) -> NoReturn:
    """Exit; a check that hangs, in threads that Python would wait for, does not keep anybody."""
    if hanging():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _show(found: Sequence[Finding]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("state", "check", "what", "found"):
        table.add_column(name, overflow="fold")
    for each in found:
        said = Text(visible(each.text))
        if each.fix:
            said.append(f"\n  fix: {visible(each.fix)}", style="cyan")
        if each.command:
            said.append(f"\n  $ {visible(each.command)}", style="bold")
        state = Text(each.state.name.lower(), style=_COLOURS[each.state])
        table.add_row(state, each.check, visible(each.what), said)
    out = console()
    out.print(table)
    counts = [sum(each.state is state for each in found) for state in State]
    out.print(f"{counts[0]} ok, {counts[1]} to look at, {counts[2]} at fault")


def _json(found: Sequence[Finding], worst: State) -> bytes:
    rows = [
        {
            "check": each.check,
            "what": encodable(each.what),  # a file's name may be in no encoding at all
            "state": each.state.name.lower(),
            "text": encodable(each.text),
            "fix": encodable(each.fix),
            "command": encodable(each.command),
        }
        for each in found
    ]
    return msgspec.json.encode({"state": worst.name.lower(), "findings": rows})
