"""Where the policy files are, and how what is wrong with them is shown."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec

from proxy import config
from proxy.cli.log import visible
from proxy.errors import CounterfoilError, Fault
from proxy.policy.source import POLICY_FILE

FAULTY: Final = 2
"""The exit status where files are at fault."""

_TAB: Final = "    "
_SETTINGS: Final = Path("counterfoil.yaml")


def policies(given: Path | None, settings: Path = _SETTINGS) -> Path:
    """The folder that was named; else that of the settings; else ./policies, or this one if it is one."""
    if given is not None:
        return given
    if settings != _SETTINGS or settings.is_file():
        loaded = config.load(settings, os.environ)
        return loaded.path(loaded.settings.policies)
    if Path("policies").is_dir():
        return Path("policies")
    if Path(POLICY_FILE).is_file():
        return Path()
    raise CounterfoilError(
        "no folder of policies here: name one, or go to where counterfoil.yaml is"
    )


def faulty(
    faults: Iterable[Fault], files: Mapping[str, bytes], *, as_json: bool, **more: object
) -> NoReturn:
    """Tell what is wrong, for people or as one JSON object with `more` in it, and exit."""
    if as_json:
        click.echo(msgspec.json.encode({**document(faults), **more}))
    else:
        for fault in faults:
            show(fault, files, label="error", color="red")
    sys.exit(FAULTY)


def document(faults: Iterable[Fault]) -> dict[str, object]:
    """What programs are told of a folder, or of files, at fault."""
    return {"version": None, "errors": [*map(row, faults)], "warnings": []}


def row(fault: Fault) -> dict[str, object]:
    """A fault for programs."""
    return {
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "message": fault.message,
        "hint": fault.hint,
    }


def show(fault: Fault, files: Mapping[str, bytes], *, label: str, color: str) -> None:
    """A fault with its line, a caret under the place, and what to write instead."""
    place = fault.file
    if fault.line:
        place += f":{fault.line}" + (f":{fault.column}" if fault.column else "")
    click.echo(
        f"{visible(place)}: {click.style(label, fg=color, bold=True)}: {visible(fault.message)}"
    )
    lines = _lines(files.get(fault.file, b""))
    if 0 < fault.line <= len(lines):
        text = lines[fault.line - 1].decode("utf-8", "replace").rstrip("\r")
        start = max(0, fault.column - 60)
        shown = visible(text[start : start + 100].replace("\t", _TAB))
        before = visible(text[start : max(fault.column - 1, start)].replace("\t", _TAB))
        number = str(fault.line)
        click.echo(f"  {number} | {shown}")
        if fault.column:
            click.echo(
                f"  {' ' * len(number)} | {' ' * _width(before)}{click.style('^', fg=color)}"
            )
    if fault.hint:
        click.echo(f"  {click.style('help', fg='cyan')}: {visible(fault.hint)}")


@lru_cache(maxsize=16)
def _lines(data: bytes) -> list[bytes]:
    """The lines of a file, which may have as many faults as lines."""
    return data.split(b"\n")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
