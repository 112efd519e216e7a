"""`counterfoil policy schema`: JSON Schemas of the YAML files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import msgspec

from proxy.catalogue.entries import CatalogueFile
from proxy.errors import CounterfoilError
from proxy.identity.entries import SubjectsFile
from proxy.review.specification import SpecificationFile
from proxy.settings import Settings

SCHEMAS: Final = {
    "counterfoil": Settings,
    "reports": CatalogueFile,
    "subjects": SubjectsFile,
    "tests": SpecificationFile,
}
"""File, without its `.yaml` -> the type that it is read as."""


@click.command()
@click.argument("name", type=click.Choice(tuple(SCHEMAS)), required=False)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write all of them to this folder, which is made where there is none.",
)
def schema(name: str | None, folder: Path | None) -> None:
    """Print the JSON Schema of a file, or write all: an editor then completes and checks as you type.

    The first line of a YAML file that says which schema is its own:

        # yaml-language-server: $schema=./reports.schema.json
    """
    if folder is not None:
        try:
            _write(folder)
        except OSError as exc:
            raise CounterfoilError(f"{folder} cannot be written to: {exc.strerror}") from exc
    elif name is not None:
        click.echo(_schema(name), nl=False)
    else:
        raise click.UsageError(f"name one of {', '.join(SCHEMAS)}, or --write a folder")


def _write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in SCHEMAS:
        path = folder / f"{each}.schema.json"
        path.write_bytes(_schema(each))
        click.echo(
            f"{path}: first line of {each}.yaml: # yaml-language-server: $schema=./{path.name}"
        )


def _schema(name: str) -> bytes:
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{name}.yaml",
        **msgspec.json.schema(SCHEMAS[name]),
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
