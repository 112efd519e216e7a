"""`counterfoil reveal`: a file as it was downloaded, with one column's sealed cells given back."""

from __future__ import annotations

import io
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any, Final, NamedTuple, NoReturn

import click
import msgspec

from proxy.cli.extracts import BadExtract, Extract, Row, extract_of
from proxy.cli.server import NO_JSON, Connection, Refused, document, server_options
from proxy.errors import CounterfoilError

_CELLS: Final = 200
_BYTES: Final = 512 << 10
"""Most cells and bytes of one question; a server may allow fewer, and says so."""
_PATIENCE: Final = 90
"""Most seconds that one question waits for the allowance to come back."""
_TOO_MANY: Final = 429
_CUT_OFF: Final = 2
"""Exit status."""


class _Options(NamedTuple):
    report: str
    field: str
    purpose: str
    form: str
    key: str
    given_for: str


class _Given(msgspec.Struct, frozen=True):
    """A cell that the server gives back."""

    type: str
    value: str


@click.command()
@click.argument("report")
@click.argument("field")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--purpose", default="", help="The purpose for which you ask.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "ndjson"]),
    help="What the file is; left out, as its name says, else csv.",
)
@click.option("--form", default="", help="Tokens: in which form, where a field has several.")
@click.option("--key", default="", help="Tokens: under which key, where it was another one then.")
@click.option("--given-for", default="", help="Tokens: the purpose for which the file was given.")
@server_options
def reveal(
    *, report: str, field: str, file: str, purpose: str, format_: str | None, form: str, key: str,
    given_for: str, **server: Any,
) -> None:  # fmt: skip
    """Write FILE (- for standard input), of REPORT, with FIELD's encrypted or tokenised cells given back.

    FILE is CSV or NDJSON as it was downloaded, with the columns that identify its rows. It goes to
    standard output; all but the revealed cells is left as it is, to the character. The server decides,
    row by row, what you may have back, and puts it on record.

    Exit status: 0 all cells of FIELD are revealed; 1 some are not: those stay as they are, and are counted
    on standard error; 2 it was refused or cut off: what is written is not the whole file.
    """
    kind = format_ or ("ndjson" if file.endswith((".ndjson", ".jsonl")) else "csv")
    asking = _Options(report, field, purpose, form, key, given_for)
    connection = Connection(**server)
    with ExitStack() as stack:
        source = _opened(file, stack)
        out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="", write_through=True)
        stack.callback(out.detach)
        try:
            extract = extract_of(kind, source, field)
            out.write(extract.head)
            given, left = _reveal(extract, connection, asking, out)
        except BadExtract as exc:
            _cut_off(f"{file}: {exc}")
        except UnicodeDecodeError:
            _cut_off(f"{file} is not written in UTF-8")
        except CounterfoilError as exc:
            _cut_off(str(exc))
    click.echo(f"{given} revealed, {left} not revealed", err=True)
    sys.exit(1 if left else 0)


def _cut_off(why: str) -> NoReturn:
    click.echo(f"counterfoil: {why} (what is written is not the whole file)", err=True)
    sys.exit(_CUT_OFF)


def _opened(file: str, stack: ExitStack) -> IO[str]:
    if file == "-":
        wrapped = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", newline="")
        stack.callback(wrapped.detach)
        return wrapped
    try:
        return stack.enter_context(open(file, encoding="utf-8", newline=""))  # noqa: PTH123 - `-` is none
    except OSError as exc:
        raise CounterfoilError(f"{file} cannot be read: {exc.strerror}") from exc


def _reveal(
    extract: Extract, connection: Connection, asking: _Options, out: IO[str]
) -> tuple[int, int]:
    """Write every row; how many cells are revealed, and how many are not."""
    given = left = 0
    for rows in _batches(extract.rows()):
        wanted = [row for row in rows if row.cell]
        values = iter(_ask(connection, asking, wanted) if wanted else ())
        for row in rows:
            value = next(values) if row.cell else None
            if value is not None:
                given += 1
                out.write(extract.written(row, value.type, value.value))
            else:
                left += bool(row.cell)
                out.write(row.text)
    return given, left


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """As many rows as one question may be about."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        more = row.size
        if batch and (len(batch) == _CELLS or size + more > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += more
    if batch:
        yield batch


def _ask(connection: Connection, asking: _Options, rows: Sequence[Row]) -> list[_Given | None]:
    """What the server gives back; waits where too much was asked for lately."""
    body: dict[str, Any] = {
        "report": asking.report,
        "field": asking.field,
        "cells": [{"cell": row.cell, "row": row.members} for row in rows],
    }
    tokens = {"form": asking.form, "key": asking.key, "given_for": asking.given_for}
    body |= {name: value for name, value in tokens.items() if value}
    headers = {"Counterfoil-Purpose": asking.purpose} if asking.purpose else {}
    for attempt in itertools.count():
        try:
            said = connection.ask("POST", "/-/reveal", document(body), headers)
            cells = msgspec.convert(said.get("cells"), list[_Given | None])
        except Refused as exc:
            if attempt or exc.status != _TOO_MANY or not 0 < exc.after <= _PATIENCE:
                raise
            click.echo(f"waiting {exc.after} s: so much is revealed in a minute", err=True)
            time.sleep(exc.after)
            continue
        except NO_JSON as exc:
            raise CounterfoilError("the server does not answer as Counterfoil does") from exc
        if len(cells) != len(rows):
            raise CounterfoilError("the server does not answer as Counterfoil does")
        return cells
    raise AssertionError  # the loop has no end
