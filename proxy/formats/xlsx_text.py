r"""Plain text of values -> the cells of a sheet (ECMA-376 part 1, §18.3.1.4), by the type of their column.

    text       `<c t="inlineStr"><is><t>…</t></is></c>`: never a formula, whatever it begins with
    integer    a number, if it is written as JSON would and a program that reads it finds the same digits
    decimal    the same; with the format `0.00` where the catalogue declares its digits
    boolean    `<c t="b"><v>1</v></c>`
    date       a number of days with the format of a date, from 1900-03-01 on
    datetime   the same in UTC with the time, to the millisecond

What is anything else (`007`, 16 digits of an account's number, `n/a`, a day before) is a text cell with the
characters that it has. A number has 15 digits that count, or is the shortest form of a double with a
fraction, which is what workbooks compute with. Null is a cell without anything. Characters that XML cannot
hold are written as `_xHHHH_` (part 1, §22.9.2.19), and what looks like that as `_x005F_xHHHH_`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Final

import polars as pl
import pyarrow.compute as pc

from proxy.formats.base import refused
from proxy.texts import Coded, Texts, by_distinct, column, texts
from proxy.values import Type, calendar_date, instant, number

NOTHING: Final = "/>"
"""Cells are written from behind their reference on: `<c r="B7"`."""
BOLD, DATE, SECONDS, MILLISECONDS, DECIMALS = range(1, 6)
"""Numbers of formats in the workbook's styles; from `DECIMALS` on, one for each number of digits."""
LONGEST: Final = 32_767
"""Most UTF-16 code units of a cell's text."""
_REPEATS: Final = 4
"""Where cells occur so often on average, each distinct one is written once."""

_FIRST: Final = date(1900, 3, 1)
"""Before it, programs disagree: to Excel 1900 was a leap year."""
_ZERO: Final = date(1899, 12, 30)
_DAY: Final = 86_400_000
"""Milliseconds."""
_BEFORE_1970: Final = (date(1970, 1, 1) - _ZERO).days

_OPEN: Final = ' t="inlineStr"><is><t>'
_KEPT: Final = ' t="inlineStr"><is><t xml:space="preserve">'
_CLOSE: Final = "</t></is></c>"
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_LOOKS_ESCAPED: Final = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_SPECIAL: Final = r"[&<>\x00-\x1f\x{fffe}\x{ffff}]|_x|^\s|\s$"
"""Whatever a text cell may have to be written otherwise for, and more."""
_CANONICAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE][+-]?[0-9]{1,3})?\Z")
_EXACT: Final = 15
"""Digits up to which no two numbers are the same double."""
_SHORTEST: Final = 17
"""Most digits of a double's shortest form."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the cells of a column are written."""

    type: Type
    style: int = 0
    """Of decimals with no more than `digits` after the point."""
    digits: int = 0

    def cell(self, text: str | None) -> str:
        """One cell; raises SourceRefused for a text that is too long for any."""
        if text is None:
            return NOTHING
        return _SCALARS[self.type](text, self) or _text(text)

    def column(self, cells: pl.Series) -> Texts:
        """The same of all cells of a column."""
        return texts(_COLUMNS[self.type](cells, self))

    def written(self, cells: Texts) -> Texts | Coded:
        """The same, of each distinct cell once where it pays."""

        def form(distinct: list[str]) -> list[str | None]:
            return [self.cell(text) for text in distinct]

        found = by_distinct(cells, form, repeats=_REPEATS)
        if found is None:
            return self.column(column(cells))
        return Coded(pc.fill_null(found.distinct, NOTHING), found.codes)


# ── one by one; empty for what is no value of the type ──


def _text(text: str) -> str:
    # As UTF-8 it has at least as many bytes as code units.
    if len(text) > LONGEST // 2 and len(text.encode("utf-16-le")) // 2 > LONGEST:
        raise refused("cell-too-long")
    opening = _KEPT if text[:1].isspace() or text[-1:].isspace() else _OPEN
    if "_x" in text:
        text = _LOOKS_ESCAPED.sub("_x005F_", text)
    if "&" in text:
        text = text.replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = _UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return f"{opening}{text}{_CLOSE}"


def _as_text(text: str, _: Form) -> str:
    return _text(text)


def _as_number(text: str, form: Form) -> str:
    matched = _CANONICAL.match(text)
    if matched is None or (form.type is Type.INTEGER and not text.lstrip("-").isdigit()):
        return ""
    exact = number(text)
    if exact is None or not _says_the_same(text, Fraction(exact)):
        return ""
    fits = form.style and len(matched[1] or "") <= form.digits
    if fits and "e" not in text and "E" not in text:
        return f' s="{form.style}"><v>{text}</v></c>'
    return f"><v>{text}</v></c>"


def _says_the_same(text: str, exact: Fraction) -> bool:
    """Whether the double that is next to it is written with the same digits, by Excel too if it is whole."""
    mantissa = re.split("[eE]", text)[0]
    count = len(mantissa.replace("-", "").replace(".", "").strip("0"))
    if count <= _EXACT:
        return True
    return count <= _SHORTEST and exact.denominator > 1 and Fraction(repr(float(text))) == exact


def _as_boolean(text: str, _: Form) -> str:
    return {"true": ' t="b"><v>1</v></c>', "false": ' t="b"><v>0</v></c>'}.get(text, "")


def _as_date(text: str, _: Form) -> str:
    day = calendar_date(text)
    if day is None or day < _FIRST:
        return ""
    return f' s="{DATE}"><v>{(day - _ZERO).days}</v></c>'


def _as_instant(text: str, _: Form) -> str:
    at = instant(text)
    if at is None or at.date() < _FIRST or at.microsecond % 1000:
        return ""
    since = (at - datetime(1899, 12, 30, tzinfo=UTC)) // timedelta(milliseconds=1)
    return _moment(since)


def _moment(since: int) -> str:
    """Of milliseconds since 1899-12-30."""
    style = MILLISECONDS if since % 1000 else SECONDS
    return f' s="{style}"><v>{repr(since / _DAY).removesuffix(".0")}</v></c>'


# ── by columns: what is beyond doubt all at once, the rest one by one ──


def _finished(cells: pl.Series, sure: pl.Series, written: pl.Series, form: Form) -> pl.Series:
    """`written` where it is sure, and what is left one by one."""
    places = (~sure.fill_null(value=False) & cells.is_not_null()).arg_true()
    written = written.fill_null(NOTHING)
    if not len(places):
        return written
    others = pl.Series([*map(form.cell, cells.gather(places).to_list())], dtype=pl.String)
    return written.clone().scatter(places, others)


def _texts(cells: pl.Series, form: Form) -> pl.Series:
    sure = ~cells.str.contains(_SPECIAL) & (cells.str.len_bytes() <= LONGEST // 2)
    return _finished(cells, sure, _OPEN + cells + _CLOSE, form)


def _numbers(cells: pl.Series, form: Form) -> pl.Series:
    whole = r"^-?(?:0|[1-9][0-9]{0,14})"
    if form.type is Type.INTEGER:
        sure = cells.str.contains(whole + "$")
    else:
        most = min(form.digits, 14) if form.style else 14
        sure = cells.str.contains(rf"{whole}(?:\.[0-9]{{1,{max(most, 1)}}})?$")
        # 15 digits and a point, of which a minus may take one's place.
        sure &= cells.str.len_bytes() <= _EXACT + 1
        if form.style and not most:
            sure &= ~cells.str.contains(".", literal=True)
    opening = f' s="{form.style}"><v>' if form.style else "><v>"
    return _finished(cells, sure, opening + cells + "</v></c>", form)


def _dates(cells: pl.Series, form: Form) -> pl.Series:
    days = cells.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32) + _BEFORE_1970
    sure = cells.str.contains("^[0-9]{4}-[0-9]{2}-[0-9]{2}$") & (days > (_FIRST - _ZERO).days)
    return _finished(cells, sure, f' s="{DATE}"><v>' + days.cast(pl.String) + "</v></c>", form)


def _instants(cells: pl.Series, form: Form) -> pl.Series:
    sure = cells.str.contains("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z?$")
    at = cells.str.slice(0, 19).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S", strict=False, time_unit="ms"
    ).cast(pl.Int64) + _BEFORE_1970 * _DAY  # fmt: skip
    sure &= at >= ((_FIRST - _ZERO).days + 1) * _DAY
    written = pl.Series(
        [None if each is None else _moment(each) for each in at.to_list()], dtype=pl.String
    )
    return _finished(cells, sure, written, form)


def _each(cells: pl.Series, form: Form) -> pl.Series:
    return pl.Series([*map(form.cell, cells.to_list())], dtype=pl.String)


_SCALARS: Final[dict[Type, Callable[[str, Form], str]]] = {
    Type.TEXT: _as_text,
    Type.INTEGER: _as_number,
    Type.DECIMAL: _as_number,
    Type.BOOLEAN: _as_boolean,
    Type.DATE: _as_date,
    Type.DATETIME: _as_instant,
}
_COLUMNS: Final[dict[Type, Callable[[pl.Series, Form], pl.Series]]] = {
    Type.TEXT: _texts,
    Type.INTEGER: _numbers,
    Type.DECIMAL: _numbers,
    Type.BOOLEAN: _each,
    Type.DATE: _dates,
    Type.DATETIME: _instants,
}
