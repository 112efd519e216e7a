"""`counterfoil log verify | prove | check | keys`: whether the log is whole, and what proves it.

These verbs need no server and no key: what they look at is signed. They read files, outside enforcement; that
they were used is on record where the keyring is at hand.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proxy import config
from proxy.audit import projection, registry
from proxy.audit.checkpoint import NotACheckpoint, Note, VerifierKey
from proxy.audit.findings import Grade, Verified
from proxy.audit.looking import MOST_PROCESSES
from proxy.audit.postgres.database import Database
from proxy.audit.proof import NotProved, Proof, checkpoint_of, proved
from proxy.audit.shared import mirror_of
from proxy.audit.sources import Leaves
from proxy.audit.store import Files, failing_as_unavailable
from proxy.audit.tiles import Folder
from proxy.audit.verdict import Begun, invalid, looked_at, of_log, of_tiles
from proxy.audit.verify import Watch
from proxy.cli.log import Words, log_option, resolve_log_path, settings_option, visible
from proxy.cli.operated import note
from proxy.errors import CounterfoilError, LogUnavailable

_MOST_FILE: Final = 1 << 20
_WORDS: Final = {
    Grade.WHOLE: "whole",
    Grade.GAPS: "whole, but not all that happened is known for sure",
    Grade.CONTRADICTED: "NOT the history of which a checkpoint was retained",
    Grade.INVALID: "NOT whole",
}


class Key(click.ParamType[VerifierKey]):
    """A verifier key: `name+id+base64`, or a file that holds one."""

    name = "key"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> VerifierKey:
        """The key."""
        if isinstance(value, VerifierKey):
            return value
        text = str(value)
        if "+" not in text and os.path.isfile(text):  # noqa: PTH113 - a Path's own raises where a name is too long
            text = _read(Path(text)).decode("utf-8", "replace")
        try:
            return VerifierKey.parse(text)
        except ValueError as error:
            self.fail(f"{error}; `counterfoil log keys` prints it", param, ctx)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_FILE)
    except OSError as error:
        raise LogUnavailable(f"{path} cannot be read: {error.strerror}") from None


@click.command()
@log_option
@settings_option
@click.option(
    "--tiles",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Verify published files alone, a copy of them perhaps; needs --vkey.",
)
@click.option("--vkey", type=Key(), help="The registry's verifier key, as you kept it.")
@click.option(
    "--retained",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="A checkpoint that was kept where nobody could rewrite it; may be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="What was found, in JSON.")
def verify(
    log_file: Path | None,
    settings: Path,
    *,
    tiles: Path | None,
    vkey: VerifierKey | None,
    retained: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Prove that the access log is whole, or say where it is not.

    Every entry is hashed again and held against tiles, roots, signatures, the registry of logs, and the
    checkpoints that you retained. Exits with 0 where it is whole, 10 where the end of some access is not
    known or no checkpoint covers entries that are not new, 30 where it contradicts a retained checkpoint,
    40 where its parts do not fit together. Where a database holds the log, it is held against this machine's
    copy, too.
    """
    notes = [_read(path) for path in retained]
    for path, data in zip(retained, notes, strict=True):
        try:
            Note.parse(data)
        except NotACheckpoint as error:  # a finding; but of many files, which one?
            click.echo(f"counterfoil: {visible(str(path))} is no checkpoint: {error}", err=True)
    if tiles is not None:
        if vkey is None:
            raise click.UsageError("to verify files alone, give the registry's --vkey")
        with _progress("entries") as begun:
            found = of_tiles(tiles, vkey, notes, processes=_processes(), begun=begun)
    else:
        # It shows nothing of what is on record: so it may be recorded once that cannot alter what is found.
        files = Files.at(resolve_log_path(log_file, settings))
        with _progress("entries") as begun:
            found = of_log(files, vkey, notes, processes=_processes(), begun=begun)
        if found.grade is not Grade.INVALID:
            found.findings += looked_at(files.index, lambda: _index(files)).findings
        database = None if log_file is not None else config.load(settings, os.environ).database
        if database is not None and found.grade is not Grade.INVALID:
            found.findings += _database(files, database).findings
        if found.grade <= Grade.GAPS:
            note("log verify", settings, log_file)
        else:
            click.echo("counterfoil: not on record: the log is left as it was found", err=True)
    _print(found, known=vkey is not None, as_json=as_json)
    sys.exit(found.grade)


def _index(files: Files) -> Verified:
    wrong = projection.differing(files)
    if not wrong:
        return Verified()
    text = f"the index for queries says otherwise of access {wrong} than the log; delete it"
    return invalid(files.index, text)


def _database(files: Files, database: Database) -> Verified:
    """What the database says otherwise than its copy, which was just looked at."""
    found = Verified()
    with (
        _progress("events of the database") as begun,
        closing(mirror_of(files, database)) as mirror,
    ):
        wrong = mirror.differing(begun(0))
    if wrong:
        found.add(Grade.INVALID, database.name, wrong)
    return found


def _processes() -> int:
    return min(os.cpu_count() or 1, MOST_PROCESSES)


@contextmanager
def _progress(what: str) -> Iterator[Begun]:
    """A bar on a terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:

        def begun(total: int) -> Watch:
            task = bar.add_task(what, total=total or None)
            return lambda count: bar.update(task, advance=count)

        yield begun


def _print(found: Verified, *, known: bool, as_json: bool) -> None:
    if as_json:
        said = {
            "grade": found.grade.name.lower(),
            "entries": found.entries,
            "unpublished": found.unpublished,
            "unresolved": found.unresolved,
            "attachments": found.attachments,
            "pruned": [
                {"log": each.log, "first": each.first, "last": each.last, "record": each.where}
                for each in found.pruned
            ],
            "logs": [{"name": each.origin, "size": each.size} for each in found.checkpoints],
            "findings": [
                {
                    "grade": each.grade.name.lower(),
                    "log": each.log,
                    "index": each.index,
                    "text": each.text,
                }
                for each in found.findings
            ],
        }
        click.echo(msgspec.json.encode(said))
        return
    for each in sorted(found.findings, key=lambda finding: -finding.grade):
        click.echo(visible(str(each)))
    logs = _counted(len(found.checkpoints), "log", "logs")
    click.echo(f"{_counted(found.entries, 'entry', 'entries')} of {logs}: {_WORDS[found.grade]}")
    if found.attachments:
        click.echo(f"{_counted(found.attachments, 'attachment', 'attachments')} looked at")
    for gone in found.pruned:
        click.echo(visible(str(gone)))
    if found.unresolved:
        unresolved = _counted(found.unresolved, "access is", "accesses are")
        click.echo(f"{unresolved} unresolved: assume that all was released")
    if found.unpublished:
        click.echo(
            f"{_counted(found.unpublished, 'entry is', 'entries are')} newer than any checkpoint"
        )
    if not known:
        click.echo(
            "The verifier key was the log's own word: give the one that you kept, by --vkey, and"
            " checkpoints that you retained, by --retained; else a history rewritten and signed"
            " again would pass."
        )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


@click.command()
@log_option
@settings_option
@click.argument("event", type=Words())
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="The folder in which the files are put.",
)
def prove(log_file: Path | None, settings: Path, *, event: str, out: Path) -> None:
    """Write proofs that the records of an access, EVENT, are in the log.

    Of each record two files: EVENT-0.json, its exact bytes, and EVENT-0.tlog-proof, which
    `counterfoil log check` or any other verifier of c2sp.org/tlog-proof@v1 takes.
    """
    note("log prove", settings, log_file)
    files = Files.at(resolve_log_path(log_file, settings))
    with failing_as_unavailable(files.leaves), closing(Leaves(files)) as leaves:
        records = leaves.records(event)
    if not records:
        raise LogUnavailable(f"no record of an access {visible(event)} is in the log")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number, (epoch, index, entry) in enumerate(records):
            folder = Folder(files.tiles / str(epoch))
            proof = proved(folder, checkpoint_of(folder), index)
            (out / f"{event}-{number}.json").write_bytes(entry)
            (out / f"{event}-{number}.tlog-proof").write_bytes(bytes(proof))
            click.echo(f"{out / event}-{number}.tlog-proof")
    except OSError as error:
        raise LogUnavailable(f"{error.filename} cannot be written: {error.strerror}") from None


@click.command()
@click.argument("proof", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("record", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--vkey", type=Key(), required=True, help="The verifier key of the record's log.")
def check(proof: Path, record: Path, vkey: VerifierKey) -> None:
    """Check that PROOF shows the record in the file RECORD to be in the log."""
    try:
        checkpoint = Proof.parse(_read(proof)).check(_read(record), vkey)
    except NotProved as error:
        raise CounterfoilError(f"{proof}: {error}") from None
    click.echo(f"in {checkpoint.origin}, among its first {checkpoint.size} entries")


@click.command()
@log_option
@settings_option
def keys(log_file: Path | None, settings: Path) -> None:
    """Print the verifier keys: the registry's, which is the one to keep, and each log's."""
    files = Files.at(resolve_log_path(log_file, settings))
    with failing_as_unavailable(files.leaves), closing(Leaves(files)) as leaves:
        key = leaves.key()
        entries = leaves.entries(registry.EPOCH, 0, leaves.size(registry.EPOCH, 0))
    try:
        said = [VerifierKey.parse(key), *map(registry.decode, entries)]
    except ValueError as error:
        raise LogUnavailable(f"{files.leaves} is damaged: {error}") from None
    for each in said:
        if not isinstance(each, registry.Sealed):
            click.echo(visible(each.key if isinstance(each, registry.Opened) else str(each)))
