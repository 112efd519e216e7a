"""A report of typed columns with something to hide, and documents of it that differ where sam may not look."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REPORTS = """\
stores:
  main: {url: "{store}", loopback: true}
reports:
  vault/typed:
    title: Typed
    store: main
    key: [id]
    variants:
      - {path: /vault/typed.parquet, format: parquet, also: [arrow, csv, json]}
      - {path: /vault/typed, source: /vault/typed.arrows, format: arrow, also: [parquet]}
      - {path: /vault/texts.csv, format: csv, also: [parquet, arrow]}
    parameters:
      limit: {by: limit, most: 100000}
      offset: {by: offset, most: 100000}
    fields:
      id: {type: integer, class: public}
      store: {type: text, class: public}
      flag: {type: text, class: public}
      day: {type: date, class: public}
      at: {type: datetime, class: public}
      price: {type: decimal, class: public}
      ratio: {type: decimal, class: public}
      units: {type: integer, class: internal}
      name: {type: text, class: internal}
      open: {type: boolean, class: internal}
      net: {type: decimal, class: confidential}
      pin: {type: integer, class: confidential}
      mail: {type: text, class: personal}
"""
SORTED = REPORTS.replace("    key: [id]\n", "    key: [id]\n    ordered_by: [pin]\n")
RULES = """\
p,  tool:app,   vault/*, act,  true, allow
p,  role:owner, vault/*, read, true, allow
p2, role:owner, vault/typed, row.store in sub.stores, @public|name, clear
p2, role:owner, vault/typed, row.store in sub.stores, units|open, clear
p2, role:owner, vault/typed, row.store in sub.stores, net, round(1000)
p2, role:owner, vault/typed, row.flag == 'secret', name|units, deny
g,  group:owners, role:owner
"""
SCHEMA = pa.schema(
    {
        "id": pa.int32(),
        "store": pa.dictionary(pa.int32(), pa.string()),
        "flag": pa.string(),
        "day": pa.date32(),
        "at": pa.timestamp("us", "Europe/Berlin"),
        "price": pa.decimal128(12, 2),
        "ratio": pa.float64(),
        "units": pa.int64(),
        "name": pa.dictionary(pa.int32(), pa.string()),
        "open": pa.bool_(),
        "net": pa.decimal128(18, 4),
        "pin": pa.int64(),
        "mail": pa.string(),
    }
)
MINE = ("1", "2")
COLUMNS = [name for name in SCHEMA.names if name not in ("pin", "mail")]
NEEDLES = (b"canary", (31337_31337_31337).to_bytes(8, "little"), b"313373133731337")
"""What every hidden cell holds: in texts, and as an integer of 64 bits."""
TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
    "csv": "text/csv",
}

Record = dict[str, Any]


def visible(n: int) -> Record:
    """A row of sam's; every third row's name and units are hidden, and the pin and mail of each."""
    secret = n % 3 == 0
    return {
        "id": n,
        "store": MINE[n % 2],
        "flag": "secret" if secret else "open" if n % 5 else None,
        "day": date(2026, 1, 1) + timedelta(days=n % 400) if n % 7 else None,
        "at": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=n, microseconds=n % 2),
        "price": Decimal(n).scaleb(-2),
        "ratio": n / 7,
        "units": 31337_31337_31337 if secret or not n % 5 else n,
        "name": f"canary-{n}" if secret or not n % 5 else f"name {n % 50}",
        "open": n % 4 == 0 if n % 6 else None,
        "net": Decimal(7_000 + n).scaleb(-4) + 31_000,
        "pin": 31337_31337_31337,
        "mail": f"canary-{n}@mail.example",
    }


def given(n: int) -> Record:
    """What sam is given of it."""
    row = visible(n)
    hidden = row["flag"] != "open"
    row["name"] = None if hidden else row["name"]
    row["units"] = None if hidden else row["units"]
    row["net"] = Decimal(31_000)
    return {name: row[name] for name in COLUMNS}


def disguised(row: Record, chance: random.Random) -> Record:
    """The same row to sam, with others of his hidden cells."""
    other = dict(row)
    if row["flag"] != "open":
        other["name"] = chance.choice([None, "canary" * chance.randint(0, 30)])
        other["units"] = chance.choice([None, 0, chance.randrange(2**60)])
    other["net"] = Decimal(chance.randrange(30_600_0000, 31_400_0000)).scaleb(-4)
    other["pin"] = chance.choice([None, chance.randrange(2**62)])
    other["mail"] = chance.choice([None, "canary" * chance.randint(0, 40)])
    return other


def foreign(chance: random.Random) -> Record:
    """A row of somebody else's store, or of none."""
    row = disguised(visible(chance.randrange(10**6)), chance)
    row["store"] = chance.choice([None, "canary", f"canary-{chance.randrange(1000)}"])
    row["ratio"] = chance.choice([None, float("nan"), float("inf"), 1.5])
    row["flag"] = chance.choice([None, "canary" * chance.randint(1, 20)])
    return row


def table_of(records: Sequence[Record], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.table(
        {f.name: pa.array([r[f.name] for r in records], f.type) for f in schema}, schema=schema
    )


def written(table: pa.Table, format_: str, chance: random.Random) -> bytes:
    """The table in a document, divided, compressed and annotated in any way."""
    sink = io.BytesIO()
    table = table.replace_schema_metadata({"pandas": "canary" * chance.randint(1, 9)})
    rows = (
        chance.choice([1_000, 70, 5_000, 200_000])
        if table.num_rows < 5_000
        else chance.choice([5_000, 200_000])
    )
    if format_ == "parquet":
        pq.write_table(
            table, sink, row_group_size=rows, compression=chance.choice(["snappy", "zstd", "none", "lz4"]),
            use_dictionary=chance.choice([True, False, ["name"]]), write_statistics=chance.choice([True, False]),
            data_page_version=chance.choice(["1.0", "2.0"]), write_page_index=chance.choice([True, False]),
        )  # fmt: skip
    else:
        options = pa.ipc.IpcWriteOptions(
            compression=chance.choice([None, "zstd", "lz4"]), unify_dictionaries=True
        )
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def disguise(count: int, format_: str, seed: int, foreigners: int) -> bytes:
    """One of many documents of which sam sees the same `count` rows."""
    chance = random.Random(seed)
    records = [disguised(visible(n), chance) for n in range(count)]
    for _ in range(foreigners):
        records.insert(chance.randrange(len(records) + 1), foreign(chance))
    table = table_of(records)
    for extra in range(chance.randint(0, 2)):
        table = table.append_column(f"canary{extra}", pa.array(["canary"] * table.num_rows))
    names = table.column_names
    chance.shuffle(names)
    return written(table.select(names), format_, chance)
