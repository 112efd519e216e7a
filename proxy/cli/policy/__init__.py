"""`counterfoil policy …`: what a folder of policies says, before it is in force; a module for each verb."""

from __future__ import annotations

import click


@click.group()
def policy() -> None:
    """Look at policies before they are in force."""
