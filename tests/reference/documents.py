"""Rows -> the CSV and JSON that a store sends, and what an answer's bytes hold, cell by cell.

A cell of a world is a `Datum`: a text or None, with the JSON token that writes it. CSV tells the
empty text (`""`) from no value (nothing between two commas).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.reference.evaluator import Source
from tests.reference.nouns import Report

_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z", re.ASCII)


@dataclass(frozen=True)
class Datum:
    text: str | None
    token: str
    """As JSON; '' for a member that is not there."""

    def source(self, format_: str, type_: str) -> Source:
        if format_ == "csv":
            return Source(self.text, self.text)
        if self.token in ("", "null") or _kind(self.token) == "container":
            return Source(None, None)
        kinds = {"integer": "number", "decimal": "number", "boolean": "boolean"}
        fits = _kind(self.token) == kinds.get(type_, "string")
        text = json.loads(self.token) if self.token.startswith('"') else self.token
        return Source(self.token, text if fits else None)


def _kind(token: str) -> str:
    if token.startswith('"'):
        return "string"
    if token in ("true", "false"):
        return "boolean"
    return "number" if _JSON_NUMBER.match(token) else "container"


def token_of(text: str | None, type_: str, *, escaped: bool = False) -> str:
    """How JSON writes a value: a bare token where the type is one that JSON has, else a string."""
    if text is None:
        return "null"
    if type_ in ("integer", "decimal") and _JSON_NUMBER.match(text):
        return text
    if type_ == "boolean" and text in ("true", "false"):
        return text
    if escaped:
        units = text.encode("utf-16-be")
        return (
            '"'
            + "".join(f"\\u{units[n]:02x}{units[n + 1]:02X}" for n in range(0, len(units), 2))
            + '"'
        )
    return json.dumps(text, ensure_ascii=False)


Row = Mapping[str, Datum]


def as_csv(names: Sequence[str], rows: Iterable[Row], *, quote_all: bool = False) -> bytes:
    def written(text: str | None) -> str:
        if text is None:
            return ""
        if quote_all or not text or any(mark in text for mark in '",\r\n'):
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [",".join(map(written, names))]
    lines += [",".join(written(row[name].text) for name in names) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def objects(names: Sequence[str], rows: Iterable[Row], *, blank: str = "") -> list[str]:
    """Each row as a JSON object."""
    return [
        "{" + f",{blank}".join(
            f"{json.dumps(name)}{blank}:{blank}{row[name].token}"
            for name in names
            if row[name].token
        ) + f"{blank}}}"
        for row in rows
    ]  # fmt: skip


def as_json(names: Sequence[str], rows: Iterable[Row], *, blank: str = "") -> bytes:
    records = f"{blank},".join(objects(names, rows, blank=blank))
    return f"{blank}[{blank}{records}{blank}]{blank}".encode()


def as_ndjson(names: Sequence[str], rows: Iterable[Row], *, blank: str = "") -> bytes:
    return "".join(f"{blank}{each}{blank}\n" for each in objects(names, rows, blank=blank)).encode()


def sources(report: Report, rows: Iterable[Row], format_: str) -> list[dict[str, Source]]:
    return [
        {field.name: row[field.name].source(format_, field.type) for field in report.fields}
        for row in rows
    ]


# ── what an answer holds ──


@dataclass(frozen=True)
class Table:
    """An answer's column names, and for each row what is written in each (None: no value)."""

    names: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def read_csv(data: bytes) -> Table:
    """RFC 4180 with LF line ends, to the letter."""
    text = data.decode()
    assert text.endswith("\n"), "the last line has no end"
    records: list[list[str | None]] = []
    at = 0
    while at < len(text):
        record: list[str | None] = []
        while True:
            if text[at] == '"':
                found = re.compile(r'"((?:[^"]|"")*)"').match(text, at)
                assert found, "a quote has no end"
                record.append(found[1].replace('""', '"'))
                at = found.end()
            else:
                found = re.compile(r'[^",\r\n]*').match(text, at)
                assert found
                record.append(found[0] or None)
                at = found.end()
            assert text[at] in ",\n", "something stands between fields"
            at += 1
            if text[at - 1] == "\n":
                break
        records.append(record)
    head, *rows = records
    assert all(len(row) == len(head) for row in rows), "records differ in length"
    return Table(tuple(name or "" for name in head), tuple(map(tuple, rows)))


def read_json(data: bytes) -> list[list[tuple[str, str]]]:
    """The records of a top-level array: member names and the exact texts of their values."""
    text = data.decode()
    decoder = json.JSONDecoder()
    records: list[list[tuple[str, str]]] = []
    at = _skip(text, 0)
    assert text[at] == "["
    at = _skip(text, at + 1)
    while text[at] != "]":
        assert text[at] == "{"
        at = _skip(text, at + 1)
        record: list[tuple[str, str]] = []
        while text[at] != "}":
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, at)
            assert text[at] == ":"
            start = _skip(text, at + 1)
            _, at = decoder.raw_decode(text, start)
            record.append((name, text[start:at]))
            at = _skip(text, at)
            if text[at] == ",":
                at = _skip(text, at + 1)
        records.append(record)
        at = _skip(text, at + 1)
        if text[at] == ",":
            at = _skip(text, at + 1)
    assert not text[at + 1 :].strip(" \t\r\n"), "something stands after the array"
    return records


def _skip(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
