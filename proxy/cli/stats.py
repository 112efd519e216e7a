"""`counterfoil log stats`: what is counted of accesses, as small charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.text import Text

from proxy.audit import Reader, Stats
from proxy.audit.stats import Count
from proxy.cli.log import (
    Moment,
    log_option,
    print_json,
    resolve_log_path,
    settings_option,
    visible,
)
from proxy.cli.operated import note
from proxy.cli.tables import console, table

_WIDTH: Final = 40
"""Cells of the longest bar."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_MOST_BINS: Final = 100
"""Hours or days that are shown; of more the newest are."""


@click.command()
@log_option
@settings_option
@click.option("--since", type=Moment(), help="Begun then or later: RFC 3339, a day, or 7d, 2h ago.")
@click.option("--until", type=Moment(), help="Begun before then.")
@click.option(
    "--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many of each."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def stats(
    log_file: Path | None,
    settings: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    top: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Count accesses by time, report, subject and refusal.

    Of up to three days by the hour, of more by the day (UTC); --since and --until are widened to whole
    hours or days. An access counts where it began.

    Reads the log's file itself, outside enforcement: no policy decides this use of it, and it is on record as
    the operator's.
    """
    note("log stats", settings, log_file)
    with Reader(resolve_log_path(log_file, settings)) as reader:
        found = reader.stats(since=since, until=until, top=top)
        names = {one.name: reader.principal(one.name) for one in found.subjects}
    if as_json:
        document = msgspec.to_builtins(found)
        for one in document["subjects"]:
            one["principal"] = names[one["name"]]
        print_json(msgspec.json.encode(document, order="sorted"))
        return
    _show(found, names)


def _show(found: Stats, names: dict[str, str]) -> None:
    shown = console()
    if not found.bins:
        shown.print("no access in that time")
        return
    permitted, refused = (
        sum(getattr(one, name) for one in found.bins) for name in ("permitted", "refused")
    )
    rows = sum(one.rows for one in found.bins)
    first, last = found.bins[0].name, found.bins[-1].name
    span = f"{_named(first)} to {_named(last)}" if first != last else _named(first)
    shown.print(
        Text(
            f"{span}: {permitted:,} permitted, {refused:,} refused, {rows:,} rows given",
            style="bold",
        )
    )
    bins = _filled(found)[-_MOST_BINS:]
    most = max(permitted + refused for _, permitted, refused in bins)
    numbers = ("permitted", "refused")
    times = table((found.unit, *numbers, ""), right=numbers)
    for name, permitted, refused in bins:
        bar = Text.assemble((_bar(permitted, most), "green"), (_bar(refused, most), "red"))
        times.add_row(visible(_named(name)), f"{permitted:,}", f"{refused:,}", bar)
    shown.print(times)
    _show_counts(
        shown, "reports, by rows given", found.reports, [one.name for one in found.reports]
    )
    _show_counts(
        shown,
        "subjects, by rows given",
        found.subjects,
        [names[one.name] or one.name for one in found.subjects],
    )
    reasons = sorted(found.reasons, key=lambda one: -one.accesses)
    _show_counts(shown, "refusals, by reason", reasons, [one.name for one in reasons], rows=False)


def _show_counts(
    shown: Console, title: str, counts: Sequence[Count], names: list[str], *, rows: bool = True
) -> None:
    if not counts:
        return
    numbers = ("accesses", "rows")[: 1 + rows]
    most = table((title, *numbers, ""), right=numbers)
    amounts = [one.rows if rows else one.accesses for one in counts]
    for one, name, amount in zip(counts, names, amounts, strict=True):
        cells = [f"{one.accesses:,}", f"{one.rows:,}"][: 1 + rows]
        most.add_row(Text(visible(name)), *cells, Text(_bar(amount, max(amounts)), "cyan"))
    shown.print()
    shown.print(most)


def _bar(amount: int, most: int) -> str:
    """A bar as long as `amount` is of `most`, to an eighth of a cell; what is there at all is seen."""
    eighths = -(-amount * _WIDTH * 8 // most) if most else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _named(name: str) -> str:
    """A bin for people: `2026-11-23 22h`, `2026-11-23`."""
    return name.replace("T", " ") + "h" * ("T" in name)


def _filled(found: Stats) -> list[tuple[str, int, int]]:
    """Each hour or day from the first to the last with its accesses, those without any too."""
    counted = {one.name: (one.permitted, one.refused) for one in found.bins}
    form, step = (
        ("%Y-%m-%dT%H", timedelta(hours=1))
        if found.unit == "hour"
        else ("%Y-%m-%d", timedelta(days=1))
    )
    last = datetime.strptime(found.bins[-1].name, form).replace(tzinfo=UTC)
    first = datetime.strptime(found.bins[0].name, form).replace(tzinfo=UTC)
    first = max(first, last - step * (_MOST_BINS - 1))
    names = [f"{first + step * number:{form}}" for number in range((last - first) // step + 1)]
    return [(name, *counted.get(name, (0, 0))) for name in names]
