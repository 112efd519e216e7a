"""`counterfoil serve`: run the proxy."""

from __future__ import annotations

import os
from pathlib import Path

import click
import uvloop

from proxy import app, config, process
from proxy.errors import CounterfoilError
from proxy.workers import supervisor


@click.command()
@click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default="counterfoil.yaml",
    show_default=True,
    help="The settings.",
)
def serve(file: Path) -> None:
    """Run the proxy until SIGINT or SIGTERM; SIGHUP takes policy files and keyring anew."""
    process.prepare()
    settings = config.load(file, os.environ)
    serving = app.serve if settings.settings.workers == 1 else supervisor.serve
    process.speak(settings.settings.logging)
    try:
        uvloop.run(serving(settings))
    except CounterfoilError as exc:
        process.failed(exc)
