"""`counterfoil demo`: a report store, people and a policy to try the proxy with."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy.demo import people
from proxy.demo.material import PORT, STORE_PORT, Material, prepare
from proxy.demo.run import run as run_processes


@click.group()
def demo() -> None:
    """Try the proxy: a sample report store, people and a policy; all in .demo/ of this folder."""


@demo.command()
@click.argument("name", type=click.Choice(sorted(people.PEOPLE)), metavar="NAME")
def token(name: str) -> None:
    """Print an access token, good for eight hours, for one of the demo's people."""
    material = Material(root=Path.cwd())
    try:
        key, key_id = material.issuer_key.read_bytes(), material.key_id
    except FileNotFoundError as error:
        raise click.ClickException(
            "there is no demo in this folder: start one with `counterfoil demo run`"
        ) from error
    click.echo(people.token(name, key=key, key_id=key_id, now=time.time()))


@demo.command()
@click.option("--port", default=PORT, show_default=True, help="The proxy's, in a new demo.")
@click.option("--store-port", default=STORE_PORT, show_default=True, help="As above, the store's.")
@click.option("--rows", default=120_000, show_default=True, help="Rows of the daily sales.")
def run(port: int, store_port: int, rows: int) -> None:
    """Run the store and the proxy until Ctrl-C, making what they need on the first time."""
    material = prepare(Path.cwd(), now=datetime.now(UTC), port=port, store_port=store_port)
    run_processes(material, rows=rows, say=click.echo)
