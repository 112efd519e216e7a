"""`counterfoil log exposure`: who was given which rows, in which form, and how surely."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from proxy.audit import Asked, Reader
from proxy.audit.accesses import csv_cell
from proxy.cli.log import (
    Moment,
    Words,
    log_option,
    print_json,
    resolve_log_path,
    settings_option,
    visible,
    what,
    who,
)
from proxy.cli.operated import note
from proxy.cli.query import keyring_at_hand, spreadsheet_safe
from proxy.cli.tables import console, table
from proxy.errors import LogUnavailable
from proxy.exposure.search import Exposed, Question, Search
from proxy.exposure.told import Asking, flat, in_words, summary
from proxy.exposure.where import Where
from proxy.keys import Keyring
from proxy.policy.conditions import BadCondition


class Condition(click.ParamType[Where]):
    """A condition on rows, in the language of the policy."""

    name = "condition"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Where:
        """The condition, parsed."""
        if isinstance(value, Where):
            return value
        try:
            return Where(str(value))
        except BadCondition as exc:
            told = "; ".join(
                each.message + f" ({each.hint})" * bool(each.hint) for each in exc.mistakes
            )
            self.fail(visible(told), param, ctx)


@click.command()
@log_option
@settings_option
@click.option(
    "--where",
    type=Condition(),
    help="Which rows: a condition as in the policy, on fields by which rows can be found:"
    " \"store_id in ['42','43'] and date >= date('2026-03-01')\". Left out: all rows.",
)
@click.option(
    "--fields", type=Words(), default="", help="Of which some was given: net_sales,units. Else any."
)
@click.option("--report", type=Words(), default="", help="Of a report's id, or prefix/*.")
@click.option("--from", "since", type=Moment(), help="Still going on then: as for log query.")
@click.option("--to", "until", type=Moment(), help="Begun before then.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the evidence to this file, a zip that proves itself to whoever has nothing else.",
)
@click.option("--json", "form", flag_value="json", help="An access a line, in JSON.")
@click.option("--csv", "form", flag_value="csv", help="CSV, with no cell that a spreadsheet runs.")
def exposure(
    log_file: Path | None,
    settings: Path,
    *,
    where: Where | None,
    fields: str,
    report: str,
    since: datetime | None,
    until: datetime | None,
    bundle: Path | None,
    form: str | None,
) -> None:
    """Show who was given which rows, in which form, and under which version of the policy.

    An access is `confirmed` where the answer went out whole, `assumed` where it broke off or its end is not
    on record, and `possible` where the log does not tell whether such rows were in it: none that may have
    been is left out. Values of confidential fields are found with the keyring that the settings name.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on record as
    the operator's. What was pruned it cannot tell of, and says so.
    """
    path = resolve_log_path(log_file, settings)
    asked = Asked(report=report, since=since, until=until, outcome="permit")
    named = frozenset(filter(None, (name.strip() for name in fields.split(","))))
    keyring = keyring_at_hand(settings)
    note("log exposure", settings, log_file)
    with Reader(path) as reader:
        question = Question(where=where, fields=named)
        search = Search(reader, question, keyring if isinstance(keyring, Keyring) else None)
        found = list(search.found(asked))
        _tell_unknown(reader, search, question, found)
        match form:
            case "json":
                for each in found:
                    print_json(msgspec.json.encode(flat(each), order="sorted"))
            case "csv":
                _print_csv(found)
            case _:
                _print_table(found, named)
        if bundle is not None:
            from proxy.exposure.bundle import write  # noqa: PLC0415 - for who asks for one

            asking = Asking.of(where, named, report, since, until)
            try:
                write(bundle, path, asking, found, search.records([each.access for each in found]))
            except OSError as exc:
                raise LogUnavailable(f"{bundle} cannot be written: {exc.strerror}") from None
            click.echo(f"counterfoil: the evidence is in {bundle}", err=True)


def _tell_unknown(
    reader: Reader, search: Search, question: Question, found: Sequence[Exposed]
) -> None:
    """Say what in the question no record can answer: a typo is no answer, and what is gone is none."""
    if pruned := reader.pruned:
        told = (
            f"{pruned} entries were pruned from this log: of accesses in them nothing can be told"
        )
        click.echo(f"counterfoil: {told}", err=True)
    kept = frozenset().union(*search.kept.values())
    for name in sorted(question.where.fields - kept if question.where and kept else ()):
        told = f"rows cannot be found by {visible(name)}, but by {', '.join(sorted(kept))}"
        click.echo(f"counterfoil: {told}", err=True)
    for id_, fault in sorted(question.where.faults.items() if question.where else ()):
        click.echo(f"counterfoil: of {visible(id_)} it cannot be told: {visible(fault)}", err=True)
    for name in sorted(question.fields):
        if not reader.query(Asked(field=name), limit=1):
            click.echo(f"counterfoil: no cell of {visible(name)} is on record", err=True)
    for each in found:
        if each.wrong:
            told = f"access {each.access.access}: {each.wrong}"
            click.echo(f"counterfoil: {visible(told)}", err=True)


def _print_csv(found: Sequence[Exposed]) -> None:
    """RFC 4180."""
    seen = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\r\n")
    for number, each in enumerate(found):
        values = flat(each)
        if not number:
            writer.writerow(values)
        writer.writerow(spreadsheet_safe(map(csv_cell, values.values()), seen=seen))


_HEADINGS: Final = (
    "when", "who", "what", "how surely", "rows", "in which form", "possible", "policy", "access",
)  # fmt: skip
_RIGHT: Final = frozenset({"rows", "possible"})


def _print_table(found: Sequence[Exposed], named: frozenset[str]) -> None:
    rows = table(_HEADINGS, right=_RIGHT)
    for each in found:
        access = each.access
        cells = (
            access.started[:19] + "Z",
            who(access.subject, access.principal, access.tool, access.address),
            what(access, access.log),
            each.certainty,
            str(each.rows) if each.rows else "",
            in_words(each.fields or each.possible_fields, named),
            str(each.possible) if each.possible else "",
            access.policy[:12],
            access.access,
        )
        rows.add_row(*(Text(visible(cell)) for cell in cells))
    shown = console()
    if found:
        shown.print(rows)
    shown.print(Text(visible(summary(found))))
