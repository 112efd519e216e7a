"""`counterfoil demo`: a report store, people and a policy to try the proxy with."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from proxy import cores
from proxy.demo import people
from proxy.demo.material import PORT, STORE_PORT, Material, prepare
from proxy.demo.run import check_free, proxy_url, store_url
from proxy.demo.run import run as run_processes
from proxy.demo.size import MOST_ROWS, ROWS

_PORT: Final = click.IntRange(1, 65535)


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
@click.option(
    "--port",
    type=_PORT,
    show_default=str(PORT),
    help="The proxy's, in a new demo; one that there is keeps its own.",
)
@click.option(
    "--store-port", type=_PORT, show_default=str(STORE_PORT), help="As above, the store's."
)
@click.option(
    "--rows",
    type=click.IntRange(1, MOST_ROWS),
    default=ROWS,
    show_default=True,
    help="Rows of the daily sales.",
)
def run(port: int | None, store_port: int | None, rows: int) -> None:
    """Run the store and the proxy until Ctrl-C, making what they need on the first time."""
    cores.forbid()
    own, of_store = port or PORT, store_port or STORE_PORT
    if not Material(root=Path.cwd()).settings.exists():  # before it has ports that it cannot have
        check_free("127.0.0.1", own, "name another port with --port")
        check_free("127.0.0.1", of_store, "name another port with --store-port")
    material = prepare(Path.cwd(), now=datetime.now(UTC), port=own, store_port=of_store)
    for option, asked, kept, file in (
        ("--port", port, proxy_url(material).port, material.settings),
        ("--store-port", store_port, store_url(material).port, material.policies / "reports.yaml"),
    ):
        if asked not in (None, kept):
            place = file.relative_to(material.root)
            click.echo(f"{option} is for a new demo: this one has {kept}, in {place}", err=True)
    run_processes(material, rows=rows, say=click.echo)
