"""Where the policy files are, and how what is wrong with them is shown."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import click

from proxy import config
from proxy.cli.log import visible
from proxy.errors import CounterfoilError, Fault

FAULTY = 2
"""The exit status where files are at fault."""

_TAB = "    "


def policies(given: Path | None) -> Path:
    """The folder that was named; else that of ./counterfoil.yaml; else ./policies."""
    if given is not None:
        return given
    settings = Path("counterfoil.yaml")
    if settings.is_file():
        loaded = config.load(settings, os.environ)
        return loaded.path(loaded.settings.policies)
    if Path("policies").is_dir():
        return Path("policies")
    raise CounterfoilError(
        "no folder of policies here: name one, or go to where counterfoil.yaml is"
    )


def show(fault: Fault, files: Mapping[str, bytes], *, label: str, color: str) -> None:
    """A fault with its line, a caret under the place, and what to write instead."""
    place = fault.file
    if fault.line:
        place += f":{fault.line}" + (f":{fault.column}" if fault.column else "")
    click.echo(
        f"{visible(place)}: {click.style(label, fg=color, bold=True)}: {visible(fault.message)}"
    )
    lines = files.get(fault.file, b"").split(b"\n")
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


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
