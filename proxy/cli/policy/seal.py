"""`counterfoil policy seal`: say which state of the folder is a whole one."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from proxy.cli.policy.folder import faulty, policies
from proxy.errors import CounterfoilError, Faulty
from proxy.seal import LOCK, seal


@click.command("seal")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def seal_(folder: Path | None, *, as_json: bool) -> None:
    """Write FOLDER/.lock, the digest of each policy file and key file.

    Where the settings say `policies_must_be: sealed`, the server takes the folder only as it was
    sealed: copy .lock with the other files, and a folder that is copied by half is never in force.

    Exit status: 0 it is sealed, 1 the manifest cannot be written, 2 the files are at fault.
    """
    folder = policies(folder)
    try:
        names = seal(folder)
    except Faulty as exc:
        faulty(exc.faults, {}, as_json=as_json)
    except OSError as exc:
        raise CounterfoilError(f"{folder / LOCK} cannot be written: {exc.strerror}") from exc
    if as_json:
        click.echo(msgspec.json.encode({"manifest": str(folder / LOCK), "sealed": names}))
    else:
        click.echo(f"{folder / LOCK} seals {', '.join(names)}")
