"""`counterfoil certs`: certificates to try TLS with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from proxy.demo.certificates import certify, client_name

_FOLDER: Final = Path("certs/dev")


@click.group()
def certs() -> None:
    """Certificates for development; certs/README.md says what to do in earnest."""


@certs.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=_FOLDER,
    show_default=True,
    help="Where to put them.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="NAME",
    help="A client to make a certificate for; again for more of them.",
)
def dev(folder: Path, clients: tuple[str, ...]) -> None:
    """Make an authority, a certificate for this machine and some for clients.

    The authority's key is thrown away: for one more client all of them are made anew.
    """
    folder = folder.resolve()  # the settings start their paths from their own folder
    made = certify(folder, now=datetime.now(UTC), clients=clients)
    click.echo(f"{folder}: {'made anew' if made else 'still good, nothing made'}")
    click.echo(
        "in counterfoil.yaml:\n"
        "  listen:\n"
        f"    certificate: {folder}/server.crt\n"
        f"    key: {folder}/server.key"
    )
    if clients:
        click.echo(
            f"    clients: {{authority: {folder}/ca.crt, revoked: {folder}/ca.crl}}\n"
            "in subjects.yaml:\n"
            "  tools:"
        )
        for name in clients:
            click.echo(f'    - {{tool: {name}, certificates: ["{client_name(name)}"]}}')
        first = f"{folder}/client-{clients[0]}"
        click.echo(
            f"then:\n  curl --cacert {folder}/ca.crt --cert {first}.crt --key {first}.key https://localhost:…"
        )
