"""`counterfoil log prune | hold | erase`: what of the access log goes, what must not, and whose name goes.

Each is on record before it is done. They work on the files, outside enforcement.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.table import Table

from proxy import config
from proxy.access import written
from proxy.audit import Reader, holds, names, projection, pruned
from proxy.audit.holds import Hold
from proxy.audit.names import Names
from proxy.audit.pruning import Bundle, Pruner, alone
from proxy.audit.shared import mirror_of
from proxy.audit.store import Files
from proxy.cli.log import (
    Moment,
    Words,
    log_option,
    resolve_log_path,
    settings_option,
    visible,
)
from proxy.cli.operated import database_of, keyring_of, note, recording
from proxy.cli.tables import console
from proxy.errors import CounterfoilError
from proxy.keys import Keyring
from proxy.stated import plain

_OPAQUE: Final = re.compile(r"[0-9a-f]{32}\Z")
_NOBODY: Final = re.compile(r"(?:group|role|set):|anyone\Z|(?:[a-z]+:)?\s*\Z")
"""What no record has as its subject: a hold of it would keep nothing, and say nothing of that."""
_REPORTS: Final = re.compile(r"[^\s*]+(/\*)?\Z")
_MOST_RUNS: Final = 1_000
"""Runs of entries that one record names."""
_MOST_IDS: Final = 1_000
_NAME: Final = 100


@click.command()
@log_option
@settings_option
@click.option(
    "--before",
    type=Moment(),
    help="Remove what is older than this day or time; by default than `retention` in the settings says.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
def prune(log_file: Path | None, settings: Path, *, before: datetime | None, dry_run: bool) -> None:
    """Remove old entries from the access log; their hashes stay, and prove those that remain.

    Entries go by 256, as they are published, where all of them are older and none is on a legal hold; the
    log of a running server ends with it, and stays until then. What goes is on record before it does,
    `log verify` says so, and it is overwritten, but for copies elsewhere.
    """
    now = datetime.now(UTC)
    if before is None:
        months = config.load(settings, os.environ).settings.retention.months
        before = _months_ago(now, months)
    if before > now:
        raise click.UsageError("--before is in the future")
    stamp = written(before)
    path = resolve_log_path(log_file, settings)
    keyring, database = keyring_of(settings), database_of(settings, log_file)
    files = Files.at(path)
    with alone(files, database) as retention, closing(Pruner(files, retention)) as pruner:
        held = holds.in_force(files)
        people = [ids | {*keyring.opaques(name)} for name, ids in names.known(files).items()]
        kept = [each.of_all(people) for each in held.values()]
        plan = [*pruner.plan(before=stamp, holds=kept)]
        going = sum(bundle.count for bundle in plan)
        if dry_run:
            _tell(plan, "would go", len(held))
            return
        if plan:
            with recording(path, keyring, database) as log:
                for parameters, count in _records(plan, stamp):
                    log.put("prune", parameters=parameters, count=count)
                pruner.prune(plan)
        else:
            pruner.tidy()  # what a prune before left, where that broke off
        if going or projection.differing(files):
            projection.rebuild(files)
    _tell(plan, "gone", len(held))


def _tell(plan: Sequence[Bundle], what: str, held: int) -> None:
    counts: Counter[str] = Counter()
    for bundle in plan:
        counts[bundle.log] += bundle.count
    for log, count in counts.items():
        click.echo(f"{visible(log)}  {count} entries {what}")
    if not counts:
        click.echo("nothing is old enough, ended and on no hold")
    if held:
        click.echo(f"{held} legal hold{'' if held == 1 else 's'} in force")


def _records(plan: Sequence[Bundle], before: str) -> Iterator[tuple[dict[str, str], int]]:
    """The parameters of each record, and how many entries it is about."""
    runs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for bundle in plan:
        runs[bundle.log].append((bundle.first, bundle.first + bundle.count))
    for log, each in runs.items():
        together = pruned.joined(each)
        for start in range(0, len(together), _MOST_RUNS):
            some = together[start : start + _MOST_RUNS]
            said = {"before": before, pruned.LOG: log, pruned.ENTRIES: pruned.written(some)}
            yield said, sum(end - first for first, end in some)


def _months_ago(now: datetime, months: int) -> datetime:
    """The same day so many months ago, or the last one of its month; years before the first are the first."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    if year < 1:
        return datetime(1, 1, 1, tzinfo=UTC)
    for day in range(now.day, 27, -1):
        try:
            return now.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return now.replace(year=year, month=month + 1)


@click.group()
def hold() -> None:
    """Keep entries that must not be pruned: legal holds.

    A hold keeps the records that fit each of its conditions, until it is released, whatever their age.
    Both are on record, and the records are the holds: there is no other list of them.
    """


@hold.command("add")
@log_option
@settings_option
@click.argument("name")
@click.option("--reason", required=True, help="Why; it is kept in the access log.")
@click.option(
    "--subject",
    "subjects",
    type=Words(),
    multiple=True,
    help="Whose records: user:alice or alice, tool:bi, or an opaque id; may be given again.",
)
@click.option(
    "--report",
    "reports",
    type=Words(),
    multiple=True,
    help="Of which report: an id, or prefix/*; may be given again.",
)
@click.option("--since", type=Moment(), help="Of this day or time, and later.")
@click.option("--until", type=Moment(), help="Of before this day or time.")
def add(
    log_file: Path | None,
    settings: Path,
    name: str,
    *,
    reason: str,
    subjects: tuple[str, ...],
    reports: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Hold the records that fit all that is said, or all records where nothing is.

    Prints the hold's id. Of several subjects or reports, one is to fit.
    """
    name, reason = plain(name)[:_NAME], plain(reason)
    if not name or not reason:
        raise click.UsageError("a hold has a name and a reason")
    for each in subjects:
        if _NOBODY.match(each):
            raise click.UsageError(
                "--subject is a user or a tool (alice, user:alice, tool:bi), or an opaque id"
            )
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until: nothing would be held")
    for each in reports:
        if _REPORTS.match(each) is None:
            raise click.UsageError("--report is a report's id, or prefix/*")
    path = resolve_log_path(log_file, settings)
    keyring, database = keyring_of(settings), database_of(settings, log_file)
    files = Files.at(path)
    with alone(files, database):
        if any(each.name == name for each in holds.in_force(files).values()):
            raise CounterfoilError(f"there is a hold {visible(name)} already")
        made = Hold(
            name=name,
            reason=reason,
            subjects=_ids(path, keyring, subjects),
            reports=reports,
            since=_stamp(since),
            until=_stamp(until),
        )
        with recording(path, keyring, database) as log:
            made_id = log.put("hold", parameters=made.parameters)
    click.echo(f"{made_id}  holds, as {visible(name)}")


@hold.command("list")
@log_option
@settings_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(log_file: Path | None, settings: Path, *, as_json: bool) -> None:
    """Show the holds that are in force."""
    note("log hold list", settings, log_file)
    path = resolve_log_path(log_file, settings)
    found = holds.in_force(Files.at(path))
    with Reader(path) as reader:
        if as_json:
            rows = [
                {"id": each.id, "at": each.at, "by": reader.principal(each.by) or each.by}
                | each.parameters
                for each in found.values()
            ]
            click.echo(msgspec.json.encode(rows))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("id", "name", "since", "by", "covers", "reason"):
            table.add_column(heading, no_wrap=heading != "reason")
        for each in found.values():
            by = reader.principal(each.by) or each.by
            subjects = {reader.principal(one) or one for one in each.subjects}
            said = (each.id, each.name, each.at, by, _covers(each, subjects), each.reason)
            table.add_row(*map(visible, said))
    console().print(table)


def _covers(held: Hold, subjects: set[str]) -> str:
    said = [*sorted(subjects), *held.reports]
    if held.since:
        said.append(f"from {held.since}")
    if held.until:
        said.append(f"before {held.until}")
    return ", ".join(said) or "all"


@hold.command()
@log_option
@settings_option
@click.argument("which", metavar="ID|NAME")
@click.option("--reason", required=True, help="Why; it is kept in the access log.")
def release(log_file: Path | None, settings: Path, which: str, *, reason: str) -> None:
    """End a hold: what it kept goes with the next `log prune`, where it is old enough."""
    reason = plain(reason)
    if not reason:
        raise click.UsageError("a release has a reason")
    path = resolve_log_path(log_file, settings)
    keyring, database = keyring_of(settings), database_of(settings, log_file)
    files = Files.at(path)
    with alone(files, database):
        known = holds.in_force(files)
        name = plain(which)[:_NAME]  # as `add` has it
        held = known.get(which) or next(
            (each for each in known.values() if each.name == name), None
        )
        if held is None:
            raise CounterfoilError(f"there is no hold {visible(which)} in force")
        with recording(path, keyring, database) as log:
            log.put("hold", parameters={holds.ENDS: held.id, "name": held.name, "reason": reason})
    click.echo(f"{held.id}  released, {visible(held.name)}")


@click.command()
@log_option
@settings_option
@click.argument("subject", type=Words())
def erase(log_file: Path | None, settings: Path, subject: str) -> None:
    """Erase the name of SUBJECT (user:alice or alice) from the directory of names.

    The log knows subjects by opaque ids alone, and stays as it is. Whoever asks again is known again. On
    record are the ids.
    """
    name = subject if ":" in subject else f"user:{subject}"
    path = resolve_log_path(log_file, settings)
    keyring = keyring_of(settings)
    files = Files.at(path)
    with Reader(path) as reader:
        known = reader.subjects(name)
    if not known:
        raise CounterfoilError(f"the directory of this log does not know {visible(name)}")
    with recording(path, keyring, database_of(settings, log_file)) as log:
        log.put(
            "operated", action="log erase", parameters={"subjects": " ".join(known[:_MOST_IDS])}
        )
        directory = Names(files.names)
        try:
            count = directory.erase(name)
        finally:
            directory.close()
    database = database_of(settings, log_file)
    if database is not None:  # once the name that we ourselves just told of is there
        with closing(mirror_of(files, database)) as mirror:
            mirror.forget(name)
            mirror.catch_up()
    click.echo(f"{count} id{'' if count == 1 else 's'} of {visible(name)} without a name now")


def _ids(path: Path, keyring: Keyring, subjects: tuple[str, ...]) -> tuple[str, ...]:
    """The opaque ids of those who are named: under each key, and those that the directory has."""
    found: dict[str, None] = {}
    with Reader(path) as reader:
        for each in subjects:
            if _OPAQUE.match(each):
                found[each] = None
                continue
            name = each if ":" in each else f"user:{each}"
            for key in keyring.ids:
                found[keyring.mac("audit-subject", key_id=key).hexdigest(name.encode())[:32]] = None
            found.update(dict.fromkeys(reader.subjects(name)))
    if len(found) > _MOST_IDS:
        raise CounterfoilError(f"a hold is of at most {_MOST_IDS} ids: add several")
    return tuple(found)


def _stamp(moment: datetime | None) -> str:
    return "" if moment is None else written(moment)
