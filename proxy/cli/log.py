"""`counterfoil log …`: read the access log's file.

For people one line an event or access, for programs JSON lines. Nothing that a requester chose (a
path, a tool's name) reaches a terminal with its control, bidirectional or invisible characters.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy import config
from proxy.access import AccessEvent, decode
from proxy.audit import OUTCOMES, Access, Leaf, Reader
from proxy.errors import LogUnavailable
from proxy.reasons import Reason
from proxy.values import calendar_date, instant

_POLL: Final = 0.25
"""Seconds between two looks of `tail --follow`."""

_RELATIVE: Final = re.compile(r"([0-9]{1,5})([smhdw])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WORDS: Final = ("", "permit", "deny", *sorted(OUTCOMES), *(reason.slug for reason in Reason))
"""What `--outcome` can be, beside the causes on record; '' is any."""
_WIDE: Final = 4096
"""Columns of a table that no terminal shows: nothing is cut off."""


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


def resolve_log_path(log_file: Path | None, settings: Path) -> Path:
    """The log's file: as said by `--log`, else by the settings. Raises CounterfoilError."""
    if log_file is not None:
        return log_file
    found = config.load(settings, os.environ)
    return found.path(found.settings.log)


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


@click.group()
def log() -> None:
    """Read the access log.

    These verbs read the log's file itself. They are outside enforcement: no policy decides what
    they show, and their use is not on record. Whoever may read the file may use them. They work
    beside a running server.
    """


@log.command()
@log_option
@settings_option
@click.option(
    "-n", "count", type=click.IntRange(0), default=20, show_default=True, help="How many."
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

    Reads the log's file itself, outside enforcement: this use of it is not decided by policy and
    not on record.
    """
    with Reader(resolve_log_path(log_file, settings)) as reader:
        head = reader.head
        for leaf in reader.last(count):
            _print_leaf(reader, leaf, as_json=as_json)
        while follow:
            time.sleep(_POLL)
            for leaf in reader.since(head):
                head = leaf.place
                _print_leaf(reader, leaf, as_json=as_json)


@log.command()
@log_option
@settings_option
@click.option("--subject", default="", help="Who: user:alice or alice, tool:bi, or an opaque id.")
@click.option("--report", default="", help="What: a report's id, or prefix/*.")
@click.option("--tool", default="", help="Through which tool.")
@click.option("--since", type=Moment(), help="Still going on then: RFC 3339, a day, or 7d, 2h ago.")
@click.option("--until", type=Moment(), help="Begun before then.")
@click.option(
    "--outcome",
    default="",
    help="permit, deny, a reason (not-found), a cause, or how it ended (whole, client-gone, open,"
    " unresolved …).",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="An access a line, in JSON.")
def query(
    log_file: Path | None,
    settings: Path,
    *,
    subject: str,
    report: str,
    tool: str,
    since: datetime | None,
    until: datetime | None,
    outcome: str,
    limit: int,
    as_json: bool,
) -> None:
    """Show accesses, the newest first, all records of one access as one.

    Reads the log's file itself, outside enforcement: this use of it is not decided by policy and
    not on record. No durable record is missed, even where the index lags.
    """
    with Reader(resolve_log_path(log_file, settings)) as reader:
        found = reader.query(
            subject=_known(reader, subject) if subject else "", report=report, tool=tool, since=since,
            until=until, outcome=outcome, limit=limit,
        )  # fmt: skip
        if not (found or outcome in _WORDS or reader.query(outcome=outcome, limit=1)):
            raise click.BadParameter(
                f"{visible(outcome)} is no cause on record, nor one of {', '.join(_WORDS[1:])}",
                param_hint="--outcome",
            )
    if as_json:
        for access in found:
            _print_json(msgspec.json.encode(access, order="sorted"))
    else:
        _print_table(found)


def _known(reader: Reader, subject: str) -> str:
    """Somebody of whom the log knows, as it knows them. Raises LogUnavailable."""
    if ":" not in subject and reader.query(subject=subject, limit=1):
        return subject  # an opaque id, which no name that somebody chose may pass for
    named = subject if ":" in subject else f"user:{subject}"
    if not reader.subjects(named):
        raise LogUnavailable(
            f"the directory of this log does not know {visible(named)}:"
            " no access by that name, or the name was erased (ask by its opaque id then)"
        )
    return named


def _print_json(line: bytes) -> None:
    click.echo(visible_json(line) if sys.stdout.isatty() else line)


def _print_leaf(reader: Reader, leaf: Leaf, *, as_json: bool) -> None:
    if as_json:
        _print_json(leaf.entry)
        return
    try:
        event = decode(leaf.entry)
    except (msgspec.MsgspecError, UnicodeError):
        shown = f"{leaf.log}[{leaf.index}] is not an access event"
    else:
        shown = "  ".join(filter(None, _parts(event, reader.principal(event.subject))))
    click.echo(visible(shown))


def _parts(event: AccessEvent, principal: str) -> list[str]:
    """What a line of `tail` says of a record."""
    return [
        event.at,
        f"{event.step:<10}",
        _who(event.subject, principal, event.tool, event.address),
        _what(event, event.log),
        " ".join(filter(None, [event.decision, event.reason, event.cause])),
        event.ended,
        f"{event.rows} rows {event.bytes} bytes" if event.decision == "permit" else "",
        _counted(event.step, event.count),
        event.access,
    ]


def _what(event: AccessEvent | Access, log: str) -> str:
    """What a record is about; `log` where that may be a log itself."""
    if about := event.report or event.path:
        head = "HEAD" if event.method == "HEAD" else ""
        had = "304" if event.status == 304 else ""  # RFC 9110 §15.4.5: nothing of it was given
        return " ".join(filter(None, (head, about, event.span, had)))
    if event.policy and not event.decision:
        after = f" after {event.previous[:12]}" if event.previous else ""
        return f"policy {event.policy[:12]}{after}"
    if event.previous:
        return f"policy {event.previous[:12]} stays: {' '.join(event.lines)}"
    return log


_COUNTED: Final = {"drift": "field", "policy-refused": "fault"}
"""What the records of a step count; those of all others count refusals."""


def _counted(step: str, count: int) -> str:
    if not count:
        return ""
    return f"{count} {_COUNTED.get(step, 'refusal')}{'' if count == 1 else 's'}"


def _who(subject: str, principal: str, tool: str, address: str) -> str:
    who = principal or subject
    if not who:
        return address
    return f"{who} through {tool}" if tool and tool != who else who


def _given(fields: Mapping[str, Mapping[str, int]]) -> str:
    """How many fields were given in each form: `clear 9, round(100) 1`."""
    forms = Counter(form for forms in fields.values() for form in forms)
    return ", ".join(f"{form} {count}" for form, count in sorted(forms.items()))


_HEADINGS: Final = ("when", "who", "what", "outcome", "rows", "bytes", "given", "access")
_RIGHT: Final = frozenset({"rows", "bytes"})


def _print_table(found: list[Access]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in _HEADINGS:
        table.add_column(
            heading,
            justify="right" if heading in _RIGHT else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for access in found:
        cells = (
            access.started[:19] + "Z",
            _who(access.subject, access.principal, access.tool, access.address),
            _what(access, access.log if access.outcome == "opened" else ""),
            access.reason or " ".join(filter(None, [access.outcome, access.cause])),
            str(access.rows) if access.decision == "permit" else "",
            str(access.bytes) if access.decision == "permit" else "",
            _given(access.fields) or _counted(access.outcome, access.count),
            access.access,
        )
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_WIDE)
    console.print(table)
