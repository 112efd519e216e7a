"""The sample reports: a quarter of a chain's sales, seeded and deterministic.

CSV is RFC 4180's (with plain line feeds), JSON RFC 8259's. Pure: a seed and sizes in, bytes out.
Every value is a hash of the seed, what it is and which row it is in, so the same arguments give
the same bytes with any version of any library. On purpose, names have commas, quotes and accents,
postal codes begin with 0, amounts end in 0, and some rows are returns:

    date,store_id,store_name,licence_no,city,postal_code,sku,product_name,producer,units,…
    2026-03-04,2191,"Dvořák, Cellar 94",LIC-697263,Porto,08626,SKU-0124,Aquavit Réserve,"Smith, …
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from proxy.demo.size import DAYS, PRODUCTS, ROWS, STORES

FIELDS: Final = (
    "date", "store_id", "store_name", "licence_no", "city", "postal_code", "sku", "product_name",
    "producer", "units", "net_sales", "gross_margin", "buyer_email",
)  # fmt: skip
"""The fields of `sales/store-daily`, in their order."""

FIRST_DAY: Final = date(2026, 1, 1)
FIRST_STORE: Final = 2001
BUYERS: Final = 5000

PRODUCERS: Final = (
    ("Domaine de l'Étoile", "FR"), ("Müller, Söhne & Co.", "DE"), ('Bodegas "El Niño", S.A.', "ES"),
    ("Cantina Già Vecchia", "IT"), ("Smith, Jones and Partners", "GB"), ("Ångström Bryggeri", "SE"),
    ("Quinta do Pássaro", "PT"), ("Pinot & Sons", "NZ"),
)  # fmt: skip
KINDS: Final = (
    "Chablis", "Rosé", "Crémant", "Riesling", "Rioja", "Aquavit", "Cidre", "Porto", "Stout",
    "Grappa",
)  # fmt: skip
QUALITIES: Final = (
    '"Vieilles Vignes"', "Réserve", "brut, dry", "No. 7", "Jubilé", "12 × 0,75 l", "Grand Cru",
    "Classic",
)  # fmt: skip
SHOPS: Final = (
    "Café", "Cellar", "Épicerie", "Market", "Wine & Spirits", "Corner Shop", 'The "Blue" Bottle',
    "Deli",
)  # fmt: skip
OWNERS: Final = (
    "O'Brien", "Núñez", "Łukasz", "Smith", "Dvořák", "García", "Weiß", "Lefèvre", "Åkesson",
    "Brown", "Yılmaz", "Nguyễn",
)  # fmt: skip
CITIES: Final = (
    "Saint-Étienne", "Málaga", "København", "Kraków", "Düsseldorf", "Porto", "Springfield, East",
    "León", "Zürich", "Århus", "Bath", "Győr",
)  # fmt: skip
GIVEN: Final = ("anna", "bjorn", "chloe", "dmitri", "eva", "farid", "greta", "hugo", "ines", "jan")

Numbers = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Cell = tuple[str, str]
"""A field's name and its text."""


def _hash(seed: int, what: str, which: Places) -> Numbers:
    """Spread each of `which` over 64 bits: splitmix64's finaliser, twice."""
    salt = (seed * 0x9E3779B97F4A7C15 + int.from_bytes(what.encode(), "big")) % 2**64
    mixed: Numbers = which.astype(np.uint64) + np.uint64(salt)
    for _ in range(2):
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def _below(limit: int, seed: int, what: str, which: Places) -> Places:
    """Draw a number in `range(limit)` for each of `which`."""
    return (_hash(seed, what, which) % np.uint64(limit)).astype(np.int64)


def _money(cents: Places) -> pl.Series:
    """Cents -> `-12.30`."""
    amount = pl.Series(cents)
    size = amount.abs()
    sign = pl.select(pl.when(amount < 0).then(pl.lit("-")).otherwise(pl.lit(""))).to_series()
    return sign + (size // 100).cast(pl.String) + "." + (size % 100).cast(pl.String).str.zfill(2)


def _csv_cell(text: str) -> str:
    """`text` as a CSV cell, quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _csv(cells: Iterable[Cell]) -> str:
    return ",".join(_csv_cell(text) for _, text in cells)


def _json(members: Iterable[Cell]) -> str:
    return ",".join(f'"{name}":{json.dumps(text, ensure_ascii=False)}' for name, text in members)


class Syntax(NamedTuple):
    """How a format writes a part of a row, and what stands around rows."""

    part: Callable[[Iterable[Cell]], str]
    begin: str
    number: str
    """What stands before a number of the name that it is formatted with."""
    end: str
    between: bytes


CSV: Final = Syntax(part=_csv, begin="", number=",", end="\n", between=b"")
JSON: Final = Syntax(part=_json, begin="{", number=',"{}":', end="}", between=b",\n")
NDJSON: Final = JSON._replace(between=b"\n")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a request's parameters select; None selects everything. Both days are included."""

    first: date | None = None
    last: date | None = None
    store_id: str | None = None


EVERYTHING: Final = Selection()


@dataclass(frozen=True, kw_only=True)
class Document:
    """A body in parts: a larger one has `rows` many times, with `between` in between."""

    type: str
    head: bytes = b""
    rows: bytes
    between: bytes = b""
    tail: bytes = b""

    @property
    def body(self) -> bytes:
        """The document with its rows once."""
        return self.head + self.rows + self.tail


class _Rows(NamedTuple):
    """Where each row is, and its numbers."""

    day: Places
    store: Places
    product: Places
    units: Places
    net: Places
    margin: Places
    """Money is in cents."""
    buyer: Places


@dataclass(frozen=True, kw_only=True)
class Sales:
    """`rows` rows, spread evenly over `days` × `stores`, by date and store.

    (date, store_id, sku) identifies a row.
    """

    seed: int = 7
    stores: int = STORES
    days: int = DAYS
    rows: int = ROWS

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that cannot be had."""
        if not (self.stores > 0 and self.days > 0 and self.rows > 0):
            raise ValueError("stores, days and rows are at least 1")
        if self.rows > self.stores * self.days * PRODUCTS:
            raise ValueError(
                f"a store sells each of {PRODUCTS} products once a day at most: fewer rows"
            )

    @property
    def last_day(self) -> date:
        """The last day with sales."""
        return FIRST_DAY + timedelta(days=self.days - 1)

    def store_daily_csv(self, selected: Selection = EVERYTHING) -> Document:
        """Write `sales/store-daily` as CSV with a header."""
        head = ",".join(FIELDS) + "\n"
        rows = self._select(self._csv_rows, CSV, selected)
        return Document(type="text/csv; charset=utf-8", head=head.encode(), rows=rows)

    def store_daily_json(self, selected: Selection = EVERYTHING) -> Document:
        """Write `sales/store-daily` as an array of objects; units and money are numbers."""
        rows = self._select(self._json_rows, JSON, selected)
        return Document(
            type="application/json", head=b"[", rows=rows, between=JSON.between, tail=b"]\n"
        )

    def store_daily_ndjson(self, selected: Selection = EVERYTHING) -> Document:
        """Write `sales/store-daily` as an object a line."""
        rows = self._select(self._json_rows, NDJSON, selected)
        return Document(type="application/x-ndjson", head=b"", rows=rows + b"\n" * bool(rows))

    def producers_json(self) -> Document:
        """Write `sales/producers`: sales by producer, in an envelope with a date and a total."""
        rows = self._rows
        producer = rows.product % len(PRODUCERS)
        cents = [int(rows.net[producer == n].sum()) for n in range(len(PRODUCERS))]
        sold = _money(np.array([*cents, sum(cents)], dtype=np.int64))
        members = [
            f'{{{_json(_producer(n))},"net_sales":{sold[n]},"share":{cents[n] / sum(cents):.4f}}}'
            for n in range(len(PRODUCERS))
        ]
        return Document(
            type="application/json",
            head=f'{{"as_of":"{self.last_day}","data":{{"rows":['.encode(),
            rows=",\n".join(members).encode(),
            tail=f']}},"total":{sold[-1]}}}\n'.encode(),
        )

    def payroll_csv(self) -> Document:
        """Write `finance/payroll`, which nobody is granted."""
        staff = np.arange(self.stores, dtype=np.int64)
        salary = _money(_below(4_000_000, self.seed, "salary", staff) + 2_400_000)
        given = _below(len(GIVEN), self.seed, "staff", staff)
        lines = [
            f"E-{n:05d},{GIVEN[given[n]].title()},{FIRST_STORE + n},{paid}\n"
            for n, paid in enumerate(salary)
        ]
        head = b"employee_no,given_name,store_id,salary\n"
        return Document(type="text/csv; charset=utf-8", head=head, rows="".join(lines).encode())

    @cached_property
    def _rows(self) -> _Rows:
        """All rows as numbers: row i belongs to pair i·(days·stores)/rows of a day and a store."""
        row = np.arange(self.rows, dtype=np.int64)
        pairs = self.days * self.stores
        pair = row * pairs // self.rows
        day, store = pair // self.stores, pair % self.stores
        nth = row + (-pair * self.rows) // pairs  # how many rows of its pair come before it
        product = (_below(PRODUCTS, self.seed, "product", pair) + nth) % PRODUCTS
        returned = np.where(_below(100, self.seed, "returned", row) == 0, -1, 1)
        units = returned * (1 + _below(48, self.seed, "units", row))
        price = 450 + 10 * _below(800, self.seed, "price", product)
        net = units * price * (80 + _below(21, self.seed, "discount", row)) // 100
        margin = net * (_below(41, self.seed, "margin", row) - 5) // 100
        buyer = _below(BUYERS, self.seed, "buyer", row)
        return _Rows(day, store, product, units, net, margin, buyer)

    @cached_property
    def _csv_rows(self) -> pl.Series:
        return self._written(CSV)

    @cached_property
    def _json_rows(self) -> pl.Series:
        return self._written(JSON)

    def _written(self, syntax: Syntax) -> pl.Series:
        """Write each row; a day, a store, a product, a buyer are written once and gathered."""
        rows = self._rows
        comma = pl.lit(",")

        def gathered(parts: Sequence[Sequence[Cell]], where: Places) -> pl.Series:
            return pl.Series([syntax.part(part) for part in parts]).gather(pl.Series(where))

        def labelled(name: str, numbers: pl.Series) -> tuple[pl.Expr, pl.Series]:
            return pl.lit(syntax.number.format(name)), numbers

        texts = pl.concat_str(
            pl.lit(syntax.begin),
            gathered([_day(n) for n in range(self.days)], rows.day), comma,
            gathered([self._store(n) for n in range(self.stores)], rows.store), comma,
            gathered([_product(n) for n in range(PRODUCTS)], rows.product),
            *labelled("units", pl.Series(rows.units).cast(pl.String)),
            *labelled("net_sales", _money(rows.net)),
            *labelled("gross_margin", _money(rows.margin)), comma,
            gathered([_buyer(n) for n in range(BUYERS)], rows.buyer),
            pl.lit(syntax.end),
        )  # fmt: skip
        return pl.select(texts).to_series()

    def _select(self, texts: pl.Series, syntax: Syntax, selected: Selection) -> bytes:
        """Join the rows that `selected` asks for."""
        if selected != EVERYTHING:
            rows = self._rows
            keep = np.ones(self.rows, dtype=np.bool_)
            if selected.first is not None:
                keep &= rows.day >= (selected.first - FIRST_DAY).days
            if selected.last is not None:
                keep &= rows.day <= (selected.last - FIRST_DAY).days
            if selected.store_id is not None:
                keep &= rows.store == self._place(selected.store_id)
            texts = texts.filter(pl.Series(keep))
        joined: str = texts.str.join(syntax.between.decode()).item()
        return joined.encode()

    def _place(self, store_id: str) -> int:
        """Look up the number of a store; -1, where no row is, if there is no such store."""
        n = int(store_id) - FIRST_STORE if store_id.isascii() and store_id.isdigit() else -1
        return n if 0 <= n < self.stores and store_id == str(FIRST_STORE + n) else -1

    def _store(self, n: int) -> Sequence[Cell]:
        """Make up what is the same in all rows of store number `n`."""

        def below(limit: int, what: str) -> int:
            return int(_below(limit, self.seed, what, np.array([n], dtype=np.int64))[0])

        name = f"{OWNERS[below(len(OWNERS), 'owner')]}, {SHOPS[below(len(SHOPS), 'shop')]}"
        return (
            ("store_id", str(FIRST_STORE + n)),
            ("store_name", f"{name} {n % 97 + 1}"),
            ("licence_no", f"LIC-{below(1_000_000, 'licence'):06d}"),
            ("city", CITIES[below(len(CITIES), "city")]),
            ("postal_code", f"{below(10_000, 'postal code'):05d}"),
        )


def _day(n: int) -> Sequence[Cell]:
    return (("date", str(FIRST_DAY + timedelta(days=n))),)


def _product(n: int) -> Sequence[Cell]:
    kind, quality = KINDS[n // len(PRODUCERS) % len(KINDS)], QUALITIES[n // 3 % len(QUALITIES)]
    return (
        ("sku", f"SKU-{n:04d}"),
        ("product_name", f"{kind} {quality}"),
        ("producer", PRODUCERS[n % len(PRODUCERS)][0]),
    )


def _producer(n: int) -> Sequence[Cell]:
    name, country = PRODUCERS[n]
    return (
        ("producer", name),
        ("country", country),
        ("contact_email", f"orders@producer-{n}.example"),
    )


def _buyer(n: int) -> Sequence[Cell]:
    return (("buyer_email", f"{GIVEN[n % len(GIVEN)]}.{n:04d}@buyers.example"),)
