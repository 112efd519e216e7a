"""`counterfoil log …`: read the access log's file; what its verbs share, and `tail`.

For people one line an event or access, for programs JSON lines. Nothing that a requester chose (a
path, a tool's name) reaches a terminal with its control, bidirectional or invisible characters.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from proxy import config
from proxy.access import NO_EVENT, AccessEvent, decode
from proxy.audit import Access, Leaf, Reader
from proxy.audit.shared import mirror_of
from proxy.audit.store import Files
from proxy.cli.lazy import LazyGroup
from proxy.cli.operated import note
from proxy.config import Config
from proxy.errors import LogUnavailable
from proxy.values import calendar_date, instant

_POLL: Final = 0.25
"""Seconds between two looks of `tail --follow`."""

MOST: Final = 2**53
"""Of what can be asked for at once."""
_RELATIVE: Final = re.compile(r"([0-9]{1,5})([smhdw])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def visible(text: str) -> str:
    r"""`text` on one line: what a terminal would obey or hide is an escape (`\x1b`, `\u202e`)."""
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def visible_json(line: bytes) -> str:
    """A JSON line with such characters as JSON escapes: the same value in other bytes."""
    return "".join(
        c if c.isprintable() else "".join(f"\\u{high:02x}{low:02x}" for high, low in _units(c))
        for c in line.decode("utf-8", "backslashreplace")
    )


def _units(character: str) -> list[tuple[int, int]]:
    """The UTF-16 code units of `character`, as pairs of bytes."""
    data = character.encode("utf-16-be")
    return list(zip(data[::2], data[1::2], strict=True))


class Moment(click.ParamType[datetime]):
    """RFC 3339, a day, or how long ago: `2026-11-23T22:00:00Z`, `2026-11-23`, `7d`, `2h`."""

    name = "when"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The instant in UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        if ago := _RELATIVE.match(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if day := calendar_date(text):
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        return instant(text) or self.fail(
            "write RFC 3339, a day, or how long ago: 2026-11-23T22:00:00Z, 2026-11-23, 7d, 2h",
            param,
            ctx,
        )


class Words(click.ParamType[str]):
    """A text of Unicode characters: others are in no record."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The text itself."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{visible(text)} is not UTF-8", param, ctx)
        return text


def resolve_log_path(log_file: Path | None, settings: Path) -> Path:
    """The log's file: as said by `--log`, else by the settings. Raises CounterfoilError.

    Where it is a copy of what a database holds, it is brought up to date; that of `--log` is taken as it is.
    """
    return log_file if log_file is not None else up_to_date(config.load(settings, os.environ))


def up_to_date(found: Config) -> Path:
    """The log's file of the settings, with all that is durable by now. Raises LogUnavailable."""
    path = found.path(found.settings.log)
    database = found.database
    if database is not None:
        try:
            with contextlib.closing(mirror_of(Files.at(path), database)) as mirror:
                mirror.catch_up()
        except LogUnavailable as error:
            raise LogUnavailable(f"{error} (`--log {path}` reads the copy as it is)") from None
    return path


@contextlib.contextmanager
def kept_up(log_file: Path | None, settings: Path) -> Iterator[Callable[[], None]]:
    """What brings the log's file up to date again and again, where it is a copy; says where it cannot."""
    found = None if log_file is not None else config.load(settings, os.environ)
    if found is None or found.database is None:
        yield lambda: None
        return
    told = ""
    with contextlib.closing(
        mirror_of(Files.at(found.path(found.settings.log)), found.database)
    ) as mirror:

        def refresh() -> None:
            nonlocal told
            said = ""
            try:
                mirror.catch_up()
            except LogUnavailable as error:
                said = str(error)
            if said and said != told:
                click.echo(f"counterfoil: {visible(said)}", err=True)
            told = said

        yield refresh


log_option = click.option(
    "--log",
    "log_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The access log's file; by default the one that the settings name.",
)
settings_option = click.option(
    "-c",
    "--config",
    "settings",
    type=click.Path(path_type=Path, dir_okay=False),
    default="counterfoil.yaml",
    show_default=True,
    help="The settings.",
)


_LAZY: Final = {
    **{name: f"proxy.cli.evidence:{name}" for name in ("verify", "prove", "check", "keys")},
    "witness": "proxy.cli.witness:witness",
    "query": "proxy.cli.query:query",
    "stats": "proxy.cli.stats:stats",
    "exposure": "proxy.cli.exposure:exposure",
    "export": "proxy.cli.export:export",
    "prune": "proxy.cli.retention:prune",
    "hold": "proxy.cli.retention:hold",
    "erase": "proxy.cli.retention:erase",
}


@click.group(cls=LazyGroup, lazy=_LAZY)
def log() -> None:
    """Read the access log.

    These verbs read the log's file itself. They are outside enforcement: no policy decides what
    they show. Whoever may read the file may use them; what reads events, or removes them, is on record as
    `operator:UID@HOST`, in the log that the settings name.
    """


@log.command()
@log_option
@settings_option
@click.option(
    "-n", "count", type=click.IntRange(0, MOST), default=20, show_default=True, help="How many."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new records until interrupted.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="The stored bytes, a record a line (if not to a terminal).",
)
def tail(log_file: Path | None, settings: Path, count: int, *, follow: bool, as_json: bool) -> None:
    """Show the newest records, as they were committed.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on record as
    the operator's.
    """
    note("log tail", settings, log_file)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Reader(resolve_log_path(log_file, settings)) as reader,
        kept_up(log_file, settings) as refresh,
    ):
        head = reader.head
        for leaf in reader.last(count):
            _print_leaf(reader, leaf, as_json=as_json)
        while follow:
            time.sleep(_POLL)
            refresh()
            for leaf in reader.since(head):
                head = leaf.number
                _print_leaf(reader, leaf, as_json=as_json)


def print_json(line: bytes) -> None:
    """A JSON line as it is, or on a terminal as one shows it."""
    click.echo(visible_json(line) if sys.stdout.isatty() else line)


def _print_leaf(reader: Reader, leaf: Leaf, *, as_json: bool) -> None:
    if as_json:
        print_json(leaf.entry)
        return
    try:
        event = decode(leaf.entry)
    except NO_EVENT:
        shown = f"{leaf.log}[{leaf.index}] is not an access event"
    else:
        shown = "  ".join(filter(None, _parts(event, reader.principal(event.subject))))
    click.echo(visible(shown))


def _parts(event: AccessEvent, principal: str) -> list[str]:
    """What a line of `tail` says of a record."""
    return [
        event.at,
        f"{event.step:<10}",
        who(event.subject, principal, event.tool, event.address),
        what(event, event.log),
        " ".join(filter(None, [event.decision, event.reason, event.cause])),
        event.ended,
        f"{event.rows} rows {event.bytes} bytes" if event.decision == "permit" else "",
        unrevealed(event.unrevealed),
        counted(event.step, event.count),
        event.access,
    ]


def what(event: AccessEvent | Access, log: str) -> str:
    """What a record is about; `log` where that may be a log itself."""
    if about := event.report or event.path:
        head = "HEAD" if event.method == "HEAD" else ""
        if event.action == "reveal" and event.report:
            head = "reveal"
        had = "304" if event.status == 304 else ""  # RFC 9110 §15.4.5: nothing of it was given
        return " ".join(filter(None, (head, about, event.span, had)))
    if (event.step if isinstance(event, AccessEvent) else event.outcome) == "operated":
        return event.action
    if about_keys := _keys(event.parameters):
        return about_keys
    if event.policy and not event.decision:
        after = f" after {event.previous[:12]}" if event.previous else ""
        return f"policy {event.policy[:12]}{after}"
    if event.previous:
        return f"policy {event.previous[:12]} stays: {' '.join(event.lines)}"
    return log


def _keys(parameters: Mapping[str, str]) -> str:
    """What a record of the keyring says; '' where it is one of something else."""
    if not parameters.keys() >= {"seals", "names"}:
        return ""
    return f"key {parameters['seals']} seals, {parameters['names']} names"


_COUNTED: Final = {
    "drift": ("field", "fields"),
    "policy-refused": ("fault", "faults"),
    "prune": ("entry", "entries"),
}
"""What the records of a step count; those of all others count refusals."""


def counted(step: str, count: int) -> str:
    """How many of what a record counts; '' where it counts nothing."""
    if not count:
        return ""
    one, many = _COUNTED.get(step, ("refusal", "refusals"))
    return f"{count} {one if count == 1 else many}"


def unrevealed(causes: Mapping[str, int]) -> str:
    """How many cells were asked for and not given back, and why: `not revealed: not-authentic 2`."""
    if not causes:
        return ""
    return "not revealed: " + ", ".join(f"{why} {count}" for why, count in sorted(causes.items()))


def who(subject: str, principal: str, tool: str, address: str) -> str:
    """Who asked, and through what; from where, where that is all that is known."""
    asking = principal or subject
    if not asking:
        return address
    return f"{asking} through {tool}" if tool and tool != asking else asking
