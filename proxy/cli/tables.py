"""Tables on standard output, for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

_WIDE: Final = 4096


def console() -> Console:
    """Standard output; where it is no terminal, nothing is cut off."""
    made = Console(highlight=False, markup=False, emoji=False)
    if made.is_terminal:
        return made
    return Console(highlight=False, markup=False, emoji=False, width=_WIDE)


def table(headings: Iterable[str], *, right: Collection[str] = ()) -> Table:
    """One without lines, whose columns `right` are of numbers; what is too wide is cut off."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    return made
