"""`counterfoil policy replay NEW`: the accesses on record, decided again under a candidate policy."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from proxy.audit import Past, Reader
from proxy.cli.log import Moment, log_option, resolve_log_path, settings_option, visible
from proxy.cli.operated import note
from proxy.cli.policy.folder import FAULTY, faulty
from proxy.cli.tables import console
from proxy.errors import CounterfoilError, Faulty
from proxy.review.replay import Replay
from proxy.review.replayed import Difference, Kind, Replayed, Tally
from proxy.snapshot import Snapshot, read_folder, snapshot_of
from proxy.versions import Versions

_AT_ONCE: Final = 2_000
"""Accesses between two steps of the progress bar."""
_PEOPLE: Final = 6
"""Most people that are named beside a difference; the others are counted."""

_HEADINGS: Final = {
    Kind.REFUSED: ("would now be refused", "red"),
    Kind.ALLOWED: ("would now be allowed", "yellow"),
    Kind.CHANGED: ("would be given in another form", "cyan"),
    Kind.UNDECIDED: ("cannot be told", "magenta"),
}


@click.command("replay")
@click.argument("new", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--since",
    type=Moment(),
    default="7d",
    show_default=True,
    help="Still going on then: RFC 3339, a day, or 7d, 2h ago.",
)
@click.option("--until", type=Moment(), help="Begun before then.")
@log_option
@settings_option
@click.option("--json", "as_json", is_flag=True, help="All that was found, in JSON.")
def replay_(
    new: Path,
    *,
    since: datetime,
    until: datetime | None,
    log_file: Path | None,
    settings: Path,
    as_json: bool,
) -> None:
    """Decide the log's accesses again under the policies in the folder NEW.

    Says which would now be refused, which would now be allowed, and whose cells would be given in
    another form. The log does not hold the attributes that tokens give, nor what a malformed request
    asked for: what hangs on them is said to. Refusals for other reasons, such as a token that is not
    good, are counted and not decided again.

    Exit status: 0 nothing would change, 1 something would or cannot be told, 2 the candidate or the
    log cannot be read.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on
    record as the operator's.
    """
    files: dict[str, bytes] = {}
    try:
        files = read_folder(new)
        candidate = snapshot_of(files)
        path = resolve_log_path(log_file, settings)
        note("policy replay", settings, log_file)
        with Reader(path) as reader:
            versions = Versions.beside(Path(os.path.realpath(path)))
            found = _replayed(reader, candidate, versions, since=since, until=until)
    except Faulty as exc:
        faulty(exc.faults, files, as_json=as_json)
    except CounterfoilError as exc:
        click.echo(f"counterfoil: {exc}", err=True)
        sys.exit(FAULTY)
    if as_json:
        click.echo(msgspec.json.encode(_document(found, candidate), order="sorted"))
    else:
        _print(found, candidate, new)
    sys.exit(1 if found.tallies else 0)


def _replayed(
    reader: Reader,
    candidate: Snapshot,
    versions: Versions,
    *,
    since: datetime,
    until: datetime | None,
) -> Replayed:
    def then(version: str) -> Snapshot | None:
        try:
            return snapshot_of(versions.files(version))
        except CounterfoilError:  # not kept, or of another make: the forms on record count
            return None

    work = Replay(candidate, then=then, names=reader.principal)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True,
    ) as progress:  # fmt: skip
        task = progress.add_task("replaying", total=reader.count(since=since, until=until))
        for some in _some(reader.past(since=since, until=until)):
            work.add(some)
            progress.advance(task, len(some))
    return work.result()


def _some(pasts: Iterable[Past]) -> Iterator[list[Past]]:
    left = iter(pasts)
    while some := list(itertools.islice(left, _AT_ONCE)):
        yield some


# ── for programs ──


def _document(found: Replayed, candidate: Snapshot) -> dict[str, object]:
    return {
        "candidate": candidate.version,
        "accesses": found.accesses,
        "unchanged": found.unchanged,
        "skipped": dict(found.skipped),
        "unkept": found.unkept,
        "differences": [
            {
                "kind": tally.difference.kind,
                "report": tally.difference.report,
                "why": tally.difference.why,
                "fields": tally.difference.fields,
                "subject": tally.subject,
                "principal": tally.principal,
                "accesses": tally.count,
                "first": tally.first,
                "last": tally.last,
                "access": tally.access,
            }
            for tally in found.tallies
        ],
    }


# ── for people ──


def _print(found: Replayed, candidate: Snapshot, new: Path) -> None:
    out = console()
    out.print(
        f"{_accesses(found.accesses)} decided again under {visible(str(new))}"
        f" (version {candidate.version[:12]})"
    )
    for kind, (heading, colour) in _HEADINGS.items():
        tallies = [tally for tally in found.tallies if tally.difference.kind is kind]
        if not tallies:
            continue
        total = sum(tally.count for tally in tallies)
        out.print()
        out.print(Text(f"{_accesses(total)} {heading}", style=f"bold {colour}"))
        for difference, about in _by_difference(tallies):
            out.print(Text(f"  {visible(difference.report)}", style="bold"))
            for line in _lines(difference):
                out.print(Text(f"    {visible(line)}"))
            out.print(Text(f"    {visible(_who(about))}", style="dim"))
    out.print()
    out.print(f"{_accesses(found.unchanged)} as before")
    if found.skipped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.skipped.most_common())
        count = _accesses(found.skipped.total())
        out.print(f"{count} refused for what is not decided again: {reasons}")
    if found.unkept:
        out.print(
            f"{_accesses(found.unkept)} under policies that are not kept:"
            " compared with the forms on record"
        )


def _by_difference(tallies: Iterable[Tally]) -> list[tuple[Difference, list[Tally]]]:
    """The tallies of each difference together, most accesses first."""
    grouped: dict[Difference, list[Tally]] = {}
    for tally in tallies:
        grouped.setdefault(tally.difference, []).append(tally)
    return sorted(grouped.items(), key=lambda item: -sum(tally.count for tally in item[1]))


def _lines(difference: Difference) -> list[str]:
    if not difference.fields:
        return [difference.why] if difference.why else []
    width = max(len(change.field) for change in difference.fields)
    return [
        f"{change.field:<{width}}  {', '.join(change.then)} → {', '.join(change.now)}"
        for change in difference.fields
    ]


def _who(tallies: list[Tally]) -> str:
    named = [f"{tally.principal or tally.subject} {tally.count:,}" for tally in tallies[:_PEOPLE]]
    if len(tallies) > _PEOPLE:
        rest = sum(tally.count for tally in tallies[_PEOPLE:])
        named.append(f"{len(tallies) - _PEOPLE} more {rest:,}")
    last = max(tallies, key=lambda tally: tally.last)
    return f"{' · '.join(named)}   last {last.last[:19]}Z, event {last.access}"


def _accesses(count: int) -> str:
    return "1 access" if count == 1 else f"{count:,} accesses"
