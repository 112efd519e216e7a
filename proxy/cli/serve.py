"""`counterfoil serve`: run the proxy."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click
import uvloop

from proxy import app, config


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
    """Run the proxy until SIGINT or SIGTERM; SIGHUP takes the policy files anew."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("asyncio", "aiohttp", "casbin"):
        # Their messages echo requests and values; what matters of them is in the access log.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    uvloop.run(app.serve(config.load(file, os.environ)))
