"""`counterfoil policy fmt`: the cells of policy files in columns."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from proxy import durable
from proxy.cli.log import visible
from proxy.cli.policy.folder import FAULTY, document, policies, show
from proxy.errors import Fault, Faulty
from proxy.policy.people import PEOPLE_FILE
from proxy.policy.source import RULE_FILES
from proxy.review.layout import aligned

_HINT: Final = f"fmt aligns {', '.join(RULE_FILES)}, and files like them"


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--check", "only", is_flag=True, help="Change nothing; exit with 1 where one would.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def fmt(paths: tuple[Path, ...], *, only: bool, as_json: bool) -> None:
    """Align the columns of rule files, named or in a folder; nothing else is changed.

    A file whose lines cannot be told apart into cells, for a character or a bracket, is left as it is.
    What its rules say is not looked at: that is for `policy check`. Exit status: 0 all are aligned,
    1 with --check where one is not, 2 a file cannot be.
    """
    changed, faults = list[str](), list[Fault]()
    for path in _files(paths):
        data, why = _content(path)
        try:
            if why:
                raise Faulty([Fault(file=str(path), message=why, hint=_HINT)])
            new = aligned(str(path), data)
        except Faulty as exc:
            faults += exc.faults
            for fault in () if as_json else exc.faults:
                show(fault, {str(path): data}, label="error", color="red")
            continue
        if new != data:
            if not only:
                try:
                    durable.write(path, new)
                except OSError as exc:
                    why = f"cannot be written: {exc.strerror}"
                    faults.append(Fault(file=str(path), message=why))
                    if not as_json:
                        show(faults[-1], {}, label="error", color="red")
                    continue
            changed.append(str(path))
            if not as_json:
                click.echo(visible(f"{'not aligned' if only else 'aligned'}: {path}"))
    if as_json:
        click.echo(msgspec.json.encode({**document(faults), "changed": changed}))
    sys.exit(FAULTY if faults else int(only and bool(changed)))


def _content(path: Path) -> tuple[bytes, str]:
    """What a rule file holds, and why it cannot be aligned; '' where it can."""
    if path.suffix != ".csv" or path.name == PEOPLE_FILE:
        return b"", "is no file of rules"
    try:
        if not path.is_file():
            return (
                b"",
                "cannot be read: not a file" if path.exists() else "cannot be read: no such file",
            )
        return path.read_bytes(), ""
    except OSError as exc:
        return b"", f"cannot be read: {exc.strerror}"


def _files(paths: tuple[Path, ...]) -> list[Path]:
    found = []
    for path in paths or (policies(None),):
        if os.path.isdir(path):  # noqa: PTH112 - a Path's own raises where a name is too long
            found += [path / name for name in RULE_FILES if os.path.lexists(path / name)]
        else:
            found.append(path)
    return found
