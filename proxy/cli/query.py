"""`counterfoil log query`: accesses by what is asked of them, as a table, JSON lines or CSV."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from proxy import config
from proxy.audit import OUTCOMES, Access, Asked, Reader
from proxy.audit.accesses import csv_cell
from proxy.cli.log import (
    MOST,
    Moment,
    Words,
    counted,
    log_option,
    print_json,
    resolve_log_path,
    settings_option,
    unrevealed,
    visible,
    what,
    who,
)
from proxy.cli.operated import note
from proxy.cli.tables import console, table
from proxy.errors import CounterfoilError, LogUnavailable
from proxy.formulas import neutral
from proxy.keys import Keyring
from proxy.keys import file as keyring_file
from proxy.keys.kek import kek_of
from proxy.reasons import Reason
from proxy.values import Type

_WORDS: Final = ("", "permit", "deny", *sorted(OUTCOMES), *(reason.slug for reason in Reason))
"""What `--outcome` can be, beside the causes on record; '' is any."""


@click.command()
@log_option
@settings_option
@click.option(
    "--subject",
    type=Words(),
    default="",
    help="Who: user:alice or alice, tool:bi, or an opaque id.",
)
@click.option("--group", type=Words(), default="", help="Who was in this group then.")
@click.option("--tool", type=Words(), default="", help="Through which tool.")
@click.option("--report", type=Words(), default="", help="What: a report's id, or prefix/*.")
@click.option(
    "--action",
    type=click.Choice(["read", "reveal", "grant", "lockdown"]),
    help="What was asked to be done.",
)
@click.option(
    "--parameter",
    "parameters",
    type=Words(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Asked with this value; may be given again. Of a confidential field's, which the log has digests of"
    " alone, with the keyring that the settings name.",
)
@click.option("--field", type=Words(), default="", help="Who was given cells of this field …")
@click.option(
    "--treatment",
    type=Words(),
    default="",
    help="… in this form: clear, round(100), or by its name, round.",
)
@click.option("--purpose", type=Words(), default="", help="For this stated purpose.")
@click.option("--since", type=Moment(), help="Still going on then: RFC 3339, a day, or 7d, 2h ago.")
@click.option("--until", type=Moment(), help="Begun before then.")
@click.option(
    "--outcome",
    type=Words(),
    default="",
    help="permit, deny, a reason (not-found), a cause, or how it ended (whole, client-gone, open,"
    " unresolved …).",
)
@click.option(
    "--rows-over", type=click.IntRange(0, 2**53), metavar="N", help="Given more rows than N."
)
@click.option(
    "--policy",
    type=Words(),
    default="",
    metavar="VERSION",
    help="By this version of the policy; its hash, or how that begins.",
)
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="How many."
)
@click.option(
    "--explain", is_flag=True, help="Say of each why it was decided so, by the policy of then."
)
@click.option("--json", "form", flag_value="json", help="An access a line, in JSON.")
@click.option("--csv", "form", flag_value="csv", help="CSV, with no cell that a spreadsheet runs.")
def query(
    log_file: Path | None,
    settings: Path,
    *,
    subject: str,
    group: str,
    tool: str,
    report: str,
    action: str | None,
    parameters: tuple[str, ...],
    field: str,
    treatment: str,
    purpose: str,
    since: datetime | None,
    until: datetime | None,
    outcome: str,
    rows_over: int | None,
    policy: str,
    limit: int,
    explain: bool,
    form: str | None,
) -> None:  # fmt: skip
    """Show accesses, the newest first, all records of one access as one.

    Of several conditions all hold. Where a record has cut a list of groups or fields that was too long,
    what you ask for is taken to be in it: an answer may hold an access too many, and lacks none.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on record as
    the operator's. No durable record is missed, even where the index lags.
    """
    path = resolve_log_path(log_file, settings)
    note("log query", settings, log_file)
    with Reader(path) as reader:
        name, ids = _known(reader, subject, settings) if subject else ("", ())
        asked = Asked(
            subject=name, ids=ids, group=group, tool=tool, report=report, action=action or "",
            parameters=_parameters(reader, parameters, settings), field=field, treatment=treatment,
            purpose=purpose, since=since, until=until, outcome=outcome, rows_over=rows_over, policy=policy,
        )  # fmt: skip
        found = reader.query(asked, limit=limit)
        if not (found or outcome in _WORDS or reader.query(Asked(outcome=outcome), limit=1)):
            raise click.BadParameter(
                f"{visible(outcome)} is no cause on record, nor one of {', '.join(_WORDS[1:])}",
                param_hint="--outcome",
            )
        if not found:
            _tell_unknown(reader, asked)
        why: list[tuple[str, ...]] = [()] * len(found)
        if explain:
            why = _reasons(reader, found, path)
    match form:
        case "json":
            for access, told in zip(found, why, strict=True):
                document = msgspec.to_builtins(access) | ({"why": told} if explain else {})
                print_json(msgspec.json.encode(document, order="sorted"))
        case "csv":
            _print_csv(found, why, explained=explain)
        case _ if not found:
            click.echo("counterfoil: no access on record fits", err=True)
        case _ if explain:
            _print_explained(found, why)
        case _:
            _print_table(found)


def _known(reader: Reader, subject: str, settings: Path) -> tuple[str, tuple[str, ...]]:
    """Somebody of whom the log knows, as it knows them, with ids that it does not. Raises LogUnavailable."""
    if ":" not in subject and reader.query(Asked(subject=subject), limit=1):
        return subject, ()  # an opaque id, which no name that somebody chose may pass for
    named = subject if ":" in subject else f"user:{subject}"
    if reader.subjects(named):
        return named, ()
    keyring = keyring_at_hand(settings)
    if isinstance(keyring, Keyring):
        macs = (keyring.mac("audit-subject", key_id=key) for key in keyring.ids)
        ids = tuple([mac.hexdigest(named.encode())[:32] for mac in macs])
        if reader.query(Asked(subject=named, ids=ids), limit=1):
            return named, ids
    also = "; what users did through it: --tool" if named.startswith("tool:") else ""
    raise LogUnavailable(
        f"the directory of this log does not know {visible(named)}:"
        " no access by that name, or the name was erased (ask by its opaque id then, or with the keyring)"
        + also
    )


_NAMED: Final = ("group", "tool", "report", "field", "treatment", "purpose", "policy")
"""Conditions whose words may be mistyped."""


def _tell_unknown(reader: Reader, asked: Asked) -> None:
    """Say which conditions no access at all fits: a typo is no answer."""
    for name in _NAMED:
        value = getattr(asked, name)
        if value and not reader.query(dataclasses.replace(Asked(), **{name: value}), limit=1):
            click.echo(f"counterfoil: nothing on record fits --{name} {visible(value)}", err=True)


def _parameters(
    reader: Reader, parameters: tuple[str, ...], settings: Path
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each name, with all forms in which its value may be on record."""
    if not parameters:
        return ()
    from proxy.gateway.record import concealed  # noqa: PLC0415 - half a second, for who asks for values

    pairs = [each.partition("=") for each in parameters]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.BadParameter("write NAME=VALUE", param_hint="--parameter")
    keyring = keyring_at_hand(settings)
    if not isinstance(keyring, Keyring):
        told = f"values of confidential fields are not looked for, without the keyring: {keyring}"
        click.echo(f"counterfoil: {told}", err=True)
        return tuple([(name, (value,)) for name, _, value in pairs])
    under = list(itertools.product(reader.reports(), keyring.ids))
    return tuple([
        (name, (value, *(concealed(keyring, r, name, value, key_id=key) for r, key in under)))
        for name, _, value in pairs
    ])  # fmt: skip


def keyring_at_hand(settings: Path) -> Keyring | CounterfoilError:
    """The keyring that the settings name, or why there is none at hand."""
    try:
        found = config.load(settings, os.environ)
        kek = kek_of(found.key_encryption_key, found.environment)
        return keyring_file.read(found.keyring, kek)
    except CounterfoilError as exc:
        return exc


def _reasons(reader: Reader, found: list[Access], log: Path) -> list[tuple[str, ...]]:
    from proxy.cli.reasoned import Reasoned  # noqa: PLC0415 - as above

    reasoned = Reasoned(reader, log)
    return [reasoned.why(access) for access in found]


def _given(fields: Mapping[str, Mapping[str, int]]) -> str:
    """How many fields were given in each form: `clear 9, round(100) 1`."""
    forms = Counter(form for forms in fields.values() for form in forms)
    return ", ".join(f"{form} {count}" for form, count in sorted(forms.items()))


_HEADINGS: Final = ("when", "who", "what", "outcome", "rows", "bytes", "given", "access")
_RIGHT: Final = frozenset({"rows", "bytes"})


def _cells(access: Access) -> tuple[str, ...]:
    permitted = access.decision == "permit"
    return (
        access.started[:19] + "Z",
        who(access.subject, access.principal, access.tool, access.address),
        what(access, access.log if access.outcome == "opened" else ""),
        access.reason or " ".join(filter(None, [access.outcome, access.cause])),
        str(access.rows) if permitted else "",
        str(access.bytes) if permitted else "",
        "; ".join(filter(None, (_given(access.fields), unrevealed(access.unrevealed))))
        or counted(access.outcome, access.count),
        access.access,
    )


def _print_table(found: list[Access]) -> None:
    rows = table(_HEADINGS, right=_RIGHT)
    for access in found:
        rows.add_row(*(Text(visible(cell)) for cell in _cells(access)))
    console().print(rows)


def _print_explained(found: list[Access], why: list[tuple[str, ...]]) -> None:
    shown = console()
    for access, told in zip(found, why, strict=True):
        when, asking, about, outcome, rows, *_ = _cells(access)
        parts = (when, asking, about, outcome, f"{rows} rows" if rows else "", access.access)
        shown.print(Text(visible("  ".join(filter(None, parts))), style="bold"))
        for sentence in told:
            shown.print(Text(f"    {visible(sentence)}"))


def _print_csv(found: list[Access], why: list[tuple[str, ...]], *, explained: bool) -> None:
    """RFC 4180; lists and what is given by name are JSON in their cells."""
    seen = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    names = Access.__struct_fields__
    writer.writerow((*names, "why") if explained else names)
    for access, told in zip(found, why, strict=True):
        cells = [csv_cell(getattr(access, name)) for name in names]
        cells += [" ".join(told)] if explained else []
        writer.writerow(spreadsheet_safe(cells, seen=seen))


def spreadsheet_safe(cells: Iterable[str], *, seen: bool) -> list[str]:
    """The cells as a spreadsheet takes them for texts, and as a terminal shows them where they are `seen`."""
    return [neutral(visible(cell) if seen else cell, Type.TEXT) for cell in cells]
