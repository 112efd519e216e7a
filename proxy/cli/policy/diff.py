"""`counterfoil policy diff OLD NEW`: who gains and who loses what."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from proxy.cli.log import settings_option, visible
from proxy.cli.policy.folder import FAULTY, faulty, policies
from proxy.cli.tables import console
from proxy.documents import load
from proxy.errors import CounterfoilError, Faulty
from proxy.identity.entries import SubjectsFile
from proxy.review.catalogues import Declared, otherwise
from proxy.review.limiting import limited_otherwise
from proxy.snapshot import FILES, Snapshot, read_folder, snapshot_of
from proxy.worktree import files_at

if TYPE_CHECKING:
    from proxy.review.sentences import Sentence

_SUBJECTS: Final = "subjects.yaml"
_GIVES_NOTHING: Final = ("model.conf", "tests.yaml")
"""Files by which nobody gains or loses anything: of the model there is no other."""
_COLOURS: Final = {"gains": "green", "loses": "red", "sees": "cyan", "undecided": "magenta"}


@click.command("diff")
@click.argument("old")
@click.argument("new", default="")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 3600), default=2.0, show_default=True,
    help="For one question to the solver; what it cannot tell in that time is said to be undecided.",
)  # fmt: skip
@settings_option
@click.option("--json", "as_json", is_flag=True, help="Every change, in JSON.")
def diff(old: str, new: str, *, seconds: float, settings: Path, as_json: bool) -> None:
    """Who gains and who loses which rows and fields from OLD to NEW.

    Each is a folder of policies, or a git revision of one: HEAD~1, or main:conf/policies. Without NEW
    it is the folder as it is now: that of the settings, ./policies, or this one. Conditions are
    compared by a solver, for every row there could be; each change comes with a row, and a requester,
    for whom both versions were asked. Compared is what each role, group, user and tool that the files
    name is given, by itself and together with others; and what else the catalogue declares.

    Exit status: 0 nobody gains or loses, 1 somebody does, the catalogue declares something else or
    not all can be told, 2 faulty files.
    """
    try:
        from proxy.review.difference import difference  # noqa: PLC0415 - z3 is an extra, and slow to load
        from proxy.review.sentences import sentences  # noqa: PLC0415 - as above
    except ImportError:
        click.echo(
            "counterfoil: comparing needs a solver: pip install 'counterfoil[review]'", err=True
        )
        sys.exit(FAULTY)
    if math.isnan(seconds):  # it is in any range
        raise click.BadParameter("write a number", param_hint="--seconds")
    files: list[dict[str, bytes]] = []
    loaded: list[Snapshot] = []
    for where in (old, new):
        try:
            files.append(_files(where, settings))
            loaded.append(snapshot_of(files[-1]))
        except Faulty as exc:
            click.echo(f"{visible(where) or 'the folder'} is at fault:", err=True)
            read = files[len(loaded)] if len(files) > len(loaded) else {}
            faulty(exc.faults, read, as_json=as_json, of=where)
        except CounterfoilError as exc:
            click.echo(f"counterfoil: {exc}", err=True)
            sys.exit(FAULTY)
    before, after = loaded
    found = difference(before, after, seconds=seconds)
    declared = (
        *otherwise(*(each["reports.yaml"] for each in files)),
        *limited_otherwise(before.limits, after.limits),
    )
    left = [*found.uncompared, *([_SUBJECTS] if _declares_others(*files) else [])]
    aside = [name for name in _GIVES_NOTHING if files[0].get(name) != files[1].get(name)]
    if as_json:
        document = {
            "old": before.version, "new": after.version, "changes": found.changes,
            "catalogue": declared, "not-compared": left, "gives-nothing": aside,
        }  # fmt: skip
        click.echo(msgspec.json.encode(document, order="sorted"))
    else:
        out = console()
        out.print(f"from version {before.version[:12]} to {after.version[:12]}")
        if not (found.changes or declared or left):
            out.print("nobody gains or loses anything")
        _print(out, sentences(found.changes))
        _print_rest(out, declared, left, aside)
    sys.exit(1 if found.changes or declared or left else 0)


def _declares_others(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> bool:
    """Whether the two say something else of who is who."""
    said = [load(files[_SUBJECTS], SubjectsFile, file=_SUBJECTS).value for files in (old, new)]
    return said[0] != said[1]


def _files(where: str, settings: Path) -> dict[str, bytes]:
    if not where:
        return read_folder(policies(None, settings))
    if os.path.isdir(where):  # noqa: PTH112 - a Path's own raises where a name is too long
        return read_folder(Path(where))
    revision, colon, folder = where.partition(":")
    return files_at(Path(folder) if colon else policies(None, settings), revision, FILES)


# ── for people ──


def _print(console: Console, told: Iterable[Sentence]) -> None:
    """Who gains and who loses."""
    heading = ""
    for each in told:
        if heading != each.heading:
            heading = each.heading
            console.print()
            console.print(Text(visible(heading), style="bold"))
        colour = _COLOURS[each.kind.split()[0]]
        console.print(Text.assemble("  ", (each.kind, colour), f" {visible(each.text)}".rstrip()))
        if each.witness:
            console.print(Text(f"      such as {visible(each.witness)}", style="dim"))


def _print_rest(
    console: Console, declared: Iterable[Declared], left: Iterable[str], aside: Iterable[str]
) -> None:
    """What is no requester's alone."""
    told = (
        ("reports.yaml", [f"{each.about}: {each.what}" for each in declared]),
        ("not compared", left),
        ("not the same, but gives nobody anything", aside),
    )
    for heading, lines in told:
        for number, line in enumerate(lines):
            if not number:
                console.print()
                console.print(Text(heading, style="bold"))
            console.print(Text(f"  {visible(line)}"))
