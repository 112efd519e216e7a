"""`counterfoil policy show` and `policy status`: what is in force, and what was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from proxy import config, documents, lockdowns
from proxy.audit import Access, Asked, Reader
from proxy.catalogue.entries import CatalogueFile
from proxy.cli.log import log_option, resolve_log_path, settings_option, visible
from proxy.cli.tables import console, table
from proxy.errors import CounterfoilError, Faulty
from proxy.snapshot import read_folder, version_of
from proxy.versions import Reign, Versions, reigns

CURRENT: Final = "current"
_MOST_ALARMS: Final = 1_000
_DRIFT: Final = {
    "undeclared-field": "fields that its store gives and nothing declares:",
    "vanished-field": "declared fields that its store lacks:",
}
_TELLS: Final = "the server's log tells all, `counterfoil policy check` all but of key files"
_SHORT: Final = 12


@click.command()
@click.argument("version", required=False)
@click.option("--file", "name", default="", help="Only this file, to the byte.")
@log_option
@settings_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(
    version: str | None, name: str, log_file: Path | None, settings: Path, *, as_json: bool
) -> None:
    """Show a version of the policy that was in force: its files, and when it was.

    VERSION is the beginning of its hash, or `current`; without one, all of them are listed. Reads the
    access log's file and the versions that are kept beside it, outside enforcement.
    """
    path = resolve_log_path(log_file, settings)
    with Reader(path) as reader:
        known = reigns(reader)
    kept = Versions.beside(Path(os.path.realpath(path)))
    if version is None:
        if as_json:
            for reign in known:
                click.echo(msgspec.json.encode(reign))
        else:
            _print_reigns(known)
        return
    found = _current(known) if version == CURRENT else kept.find(version)
    files = kept.files(found)
    if name:
        if name not in files:
            has = ", ".join(sorted(files))
            raise CounterfoilError(f"version {found[:_SHORT]} has no `{visible(name)}`: {has}")
        _print_text(files[name])
    elif as_json:
        texts = {name: data.decode("utf-8", "backslashreplace") for name, data in files.items()}
        times = [reign for reign in known if reign.version == found]
        click.echo(msgspec.json.encode({"version": found, "files": texts, "in_force": times}))
    else:
        click.echo(f"version {found}")
        for reign in known:
            if reign.version == found:
                click.echo("in force " + visible(_when(reign)))
        for each, content in sorted(files.items()):
            click.echo(f"\n── {each} " + "─" * max(0, 76 - len(each)))
            _print_text(content)


@click.command()
@log_option
@settings_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(log_file: Path | None, settings: Path, *, as_json: bool) -> None:
    """Say which policy is in force, and why the folder's is not; then the exit status is 1.

    Reads the access log's file and the policy folder, outside enforcement.
    """
    path = resolve_log_path(log_file, settings)
    with Reader(path) as reader:
        known = reigns(reader)
        refused = _standing_refusal(reader)
        kept = Versions.beside(Path(os.path.realpath(path)))
        drift = _drift(reader, kept, known[-1].version) if known else {}
    found = config.load(settings, os.environ)
    files: Mapping[str, bytes] = {}
    try:
        files = read_folder(found.path(found.settings.policies))
    except Faulty as exc:
        here, unreadable = "", str(exc)
    else:
        here, unreadable = version_of(files), ""
    reign = known[-1] if known else None
    same = reign is not None and here == reign.version
    stale = not same or refused is not None
    if as_json:
        why = _refusal(refused) if refused is not None else None
        click.echo(
            msgspec.json.encode(
                {"in_force": reign, "folder": here, "stale": stale, "refused": why, "drift": drift}
            )
        )
    else:
        in_force = f"{reign.version} {_when(reign)}" if reign else "nothing yet"
        click.echo(f"in force  {visible(in_force)}")
        click.echo(f"folder    {here or unreadable}{' (the same)' if same else ''}")
        if refused is not None:
            said = _refusal(refused)
            click.echo(
                f"refused   {said['at']} {said['cause']}, faults: {said['faults']}, the first at"
                f" {visible(str(said['first']) or '-')}; {_TELLS}"
            )
            if said["commit"]:
                who = f"by {said['author']}, commit {str(said['commit'])[:_SHORT]}"
                click.echo(f"          {visible(who)}")
            if said["cause"] == "lockdown-lost":
                locked, lifted = lockdowns.left(path, kept, files)
                for fault in lockdowns.lost(locked, files, lifted=lifted):
                    click.echo(f"          {fault}")
        for report, drifted in drift.items():
            told = [f"{_DRIFT[cause]} {fields}" for cause, fields in sorted(drifted.items())]
            click.echo(f"drift     {visible(report)}: {', '.join(told)}")
    sys.exit(1 if stale else 0)


def _standing_refusal(reader: Reader) -> Access | None:
    """The newest refusal, unless what the folder has was put in force since, or is so again.

    A grant or a lockdown changes what is in force beside a refused folder; the server then puts the
    refusal on record once more.
    """
    (refused,) = reader.query(Asked(outcome="policy-refused"), limit=1) or (None,)
    (loaded,) = reader.query(Asked(outcome="policy-loaded"), limit=1) or (None,)
    if refused is None or (loaded is not None and refused.started < loaded.started):
        return None
    return refused


def _drift(reader: Reader, kept: Versions, in_force: str) -> dict[str, dict[str, int]]:
    """Report -> cause -> fields that the server told of since its start.

    An alarm is over once the catalogue declares other fields of the report.
    """

    @cache
    def declared(version: str, report: str) -> AbstractSet[str]:
        with suppress(CounterfoilError):
            content = kept.files(version)["reports.yaml"]
            entry = documents.load(content, CatalogueFile, file="reports.yaml").value.reports
            return entry[report].fields.keys() if report in entry else frozenset()
        return frozenset()

    opened = reader.query(Asked(outcome="opened"), limit=1)
    found: dict[str, dict[str, int]] = {}
    for event in reader.query(Asked(outcome="drift"), limit=_MOST_ALARMS):
        report = event.report
        if opened and event.started < opened[0].started:
            break
        if declared(event.policy, report) == declared(in_force, report):
            causes = found.setdefault(report, {})
            causes[event.cause] = max(event.count, causes.get(event.cause, 0))
    return dict(sorted(found.items()))


def _current(known: list[Reign]) -> str:
    if not known:
        raise CounterfoilError("no policy was in force yet, says the access log")
    return known[-1].version


def _when(reign: Reign) -> str:
    parts = [f"since {reign.since}", reign.until and f"until {reign.until}"]
    parts += [reign.author and f"by {reign.author}", reign.commit and f"commit {reign.commit}"]
    return ", ".join(part for part in parts if part)


def _refusal(refused: Access) -> dict[str, str | int]:
    first = next(iter(refused.lines), "")
    return {
        "at": refused.started,
        "cause": refused.cause,
        "faults": refused.count,
        "first": first,
        "author": refused.principal.removeprefix("author:"),
        "commit": refused.commit,
        "event": refused.access,
    }


def _print_text(content: bytes) -> None:
    """To a terminal without what it would obey; to anything else to the byte."""
    if sys.stdout.isatty():
        for line in content.decode("utf-8", "backslashreplace").splitlines():
            click.echo("".join(c if c.isprintable() or c == "\t" else visible(c) for c in line))
    else:
        click.echo(content, nl=False)


def _print_reigns(known: Iterable[Reign]) -> None:
    shown = table(("version", "in force since", "until", "author", "commit"))
    for reign in known:
        cells = (
            reign.version[:_SHORT],
            reign.since[:19] + "Z",
            reign.until and reign.until[:19] + "Z",
            reign.author,
            reign.commit[:_SHORT],
        )
        shown.add_row(*(Text(visible(cell)) for cell in cells))
    console().print(shown)
