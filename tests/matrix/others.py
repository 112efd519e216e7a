"""Documents of every format by other people's libraries: how a store writes them, and how a reader sees them.

A cell is the plain text of a value, or None. What is read comes back as the text of the value that a
library gives, so that two documents can be compared whatever their formats are.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

Fields = Mapping[str, str]
"""Name -> type."""
Rows = Sequence[Mapping[str, str | None]]
Table = tuple[list[str], list[list[str | None]]]
"""Column names, and each row's cells."""

_ARROW = {
    "text": pa.string(),
    "integer": pa.int32(),
    "decimal": pa.decimal128(18, 4),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", tz="UTC"),
}


def python(text: str | None, type_: str) -> Any:
    """The Python value that a text writes."""
    if text is None:
        return None
    match type_:
        case "integer":
            return int(text)
        case "decimal":
            return Decimal(text)
        case "boolean":
            return text == "true"
        case "date":
            return dt.date.fromisoformat(text)
        case "datetime":
            return dt.datetime.fromisoformat(text)
    return text


def plain(value: Any) -> str | None:
    """The text of a Python value."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case dt.datetime():
            return value.replace(tzinfo=None).isoformat() + "Z"
        case dt.date():
            return value.isoformat()
    return str(value)


def _csv_line(cells: Sequence[str | None]) -> str:
    return ",".join("" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in cells)


def write_csv(fields: Fields, rows: Rows) -> bytes:
    lines = [_csv_line(list(fields)), *(_csv_line([row[n] for n in fields]) for row in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def read_csv(data: bytes) -> Table:
    names, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    return names, [[cell or None for cell in row] for row in rows]


def _token(text: str | None, type_: str) -> str:
    bare = text is not None and type_ in ("integer", "decimal", "boolean")
    return str(text) if bare else json.dumps(text)


def _object(row: Mapping[str, str | None], fields: Fields) -> str:
    return "{" + ",".join(f"{json.dumps(n)}:{_token(row[n], t)}" for n, t in fields.items()) + "}"


def write_json(fields: Fields, rows: Rows) -> bytes:
    return ("[" + ",".join(_object(row, fields) for row in rows) + "]").encode()


def write_ndjson(fields: Fields, rows: Rows) -> bytes:
    return "".join(f"{_object(row, fields)}\n" for row in rows).encode()


def _records(records: Sequence[Mapping[str, Any]]) -> Table:
    names = list(records[0]) if records else []
    return names, [[plain(record[name]) for name in names] for record in records]


def read_json(data: bytes) -> Table:
    return _records(json.loads(data, parse_float=str, parse_int=str))


def read_ndjson(data: bytes) -> Table:
    lines = data.decode().removesuffix("\n").split("\n")
    return _records([json.loads(line, parse_float=str, parse_int=str) for line in lines if line])


def _table(fields: Fields, rows: Rows) -> pa.Table:
    return pa.table(
        {n: pa.array([python(row[n], t) for row in rows], _ARROW[t]) for n, t in fields.items()}
    )


def _some(rows: Rows) -> int:
    """Rows of a part, so that a document has more than one."""
    return max(3, len(rows) // 2)


def write_parquet(fields: Fields, rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(_table(fields, rows), out, row_group_size=_some(rows))
    return out.getvalue()


def write_arrow(fields: Fields, rows: Rows) -> bytes:
    out = io.BytesIO()
    table = _table(fields, rows)
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table, max_chunksize=_some(rows))
    return out.getvalue()


def _arrow_table(table: pa.Table) -> Table:
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return table.column_names, [list(row) for row in zip(*columns, strict=True)]


def read_parquet(data: bytes) -> Table:
    return _arrow_table(pq.read_table(io.BytesIO(data)))


def read_arrow(data: bytes) -> Table:
    with pa.ipc.open_stream(data) as stream:
        return _arrow_table(stream.read_all())


def write_xlsx(fields: Fields, rows: Rows) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(fields))
    for row in rows:
        values = [python(row[name], type_) for name, type_ in fields.items()]
        sheet.append([v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v for v in values])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _shown(cell: Any) -> Any:
    """A cell's value; openpyxl knows days by their format alone."""
    day = isinstance(cell.value, dt.datetime) and "h" not in cell.number_format
    return cell.value.date() if day else cell.value


def read_xlsx(data: bytes) -> Table:
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    names, *rows = ([plain(_shown(cell)) for cell in row] for row in book.active.iter_rows())
    return [str(name) for name in names], rows


WRITERS: Mapping[str, Callable[[Fields, Rows], bytes]] = {
    "csv": write_csv,
    "json": write_json,
    "ndjson": write_ndjson,
    "parquet": write_parquet,
    "arrow": write_arrow,
    "xlsx": write_xlsx,
}
READERS: Mapping[str, Callable[[bytes], Table]] = {
    "csv": read_csv,
    "json": read_json,
    "ndjson": read_ndjson,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "xlsx": read_xlsx,
}
