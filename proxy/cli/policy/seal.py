"""`counterfoil policy seal`: say which state of the folder is a whole one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.cli.policy.folder import FAULTY, policies, show
from proxy.errors import CounterfoilError, Faulty
from proxy.seal import LOCK, seal


@click.command("seal")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
def seal_(folder: Path | None) -> None:
    """Write FOLDER/.lock, the digest of each policy file and key file.

    Where the settings say `policies_must_be: sealed`, the server takes the folder only as it was
    sealed: copy .lock with the other files, and a folder that is copied by half is never in force.

    Exit status: 0 it is sealed, 1 the manifest cannot be written, 2 the files are at fault.
    """
    folder = policies(folder)
    try:
        names = seal(folder)
    except Faulty as exc:
        for fault in exc.faults:
            show(fault, {}, label="error", color="red")
        sys.exit(FAULTY)
    except OSError as exc:
        raise CounterfoilError(f"{folder / LOCK} cannot be written: {exc.strerror}") from exc
    click.echo(f"{folder / LOCK} seals {', '.join(names)}")
