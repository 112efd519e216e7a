"""CSV in its dialects, JSON and NDJSON over real sockets: a store's document, and what a user is given of it."""

from __future__ import annotations

import csv
import io
import json
import logging

import pytest

from tests.harness.proxy import stage
from tests.harness.store import Page

REPORTS = """\
stores:
  main: {url: "{store}", loopback: true}
reports:
  r/items:
    title: Items
    store: main
    variants:
      - {path: /items.csv, format: csv, also: [json, ndjson]}
      - {path: /items-l1.csv, format: csv, charset: latin-1, delimiter: ";", also: [ndjson]}
      - {path: /items-16.csv, format: csv, charset: utf-16, delimiter: "\\t"}
      - {path: /items-safe.csv, format: csv, formulas: neutralise}
      - {path: /lines.ndjson, format: ndjson, also: [csv, json], formulas: neutralise}
    fields:
      id: {type: integer, class: public}
      name: {type: text, class: internal}
      cost: {type: decimal, class: public}
      secret: {type: text, class: confidential}
"""
RULES = """\
p,  tool:app,   r/items, act,  true, allow
p,  role:user,  r/items, read, true, allow
p2, role:user,  r/items, true, id|name|cost, clear
g,  group:users, role:user
"""
TABLE = 'id,name,cost,secret\n1,"Zoë, Å","007",canary\nx,=1+1,-5,canary\n,"",n/a,canary\n'
LINES = (
    '{"id":1,"name":"Zo\\u00eb","cost":1.10,"secret":"canary"}\r\n'
    '{"secret":"canary","id":"x","name":12,"cost":-5}\r\n{"name":"=1+1","cost":"-6"}'
)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("text"), reports=REPORTS, rules=RULES) as found:
        yield found


def ask(at, path: str, document: bytes, kind: str, target: str | None = None):
    store, proxy = at
    store.pages[path] = Page(document, content_type=kind)
    return proxy.get(target or path, token=proxy.issuer.token("sam", groups=("users",)))


def table(body: bytes, delimiter: str = ",") -> list[list[str]]:
    return [*csv.reader(io.StringIO(body.decode(), newline=""), delimiter=delimiter)]


def test_a_csv_store_is_read_as_json_and_as_lines_with_every_cell(at):
    document = TABLE.encode()
    records = [
        {"id": 1, "name": "Zoë, Å", "cost": 7},
        {"id": "x", "name": "=1+1", "cost": -5},
        {"id": None, "name": "", "cost": "n/a"},
    ]
    answer = ask(at, "/items.csv", document, "text/csv", "/items.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == records
    answer = ask(at, "/items.csv", document, "text/csv", "/items.ndjson")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert [json.loads(line) for line in answer.body.splitlines()] == records
    assert b"canary" not in answer.raw


def test_lines_are_read_as_csv_and_as_json_with_every_cell(at):
    answer = ask(at, "/lines.ndjson", LINES.encode(), "application/jsonl", "/lines.csv")
    rows = [["id", "name", "cost"], ["1", "Zoë", "1.10"], ["x", "12", "-5"], ["", "'=1+1", "-6"]]
    assert table(answer.body) == rows
    answer = ask(at, "/lines.ndjson", LINES.encode(), "application/x-ndjson", "/lines.json")
    assert answer.body.startswith(b'[{"id":1,"name":"Zo\\u00eb","cost":1.10},')
    assert json.loads(answer.body)[1:] == [
        {"id": "x", "name": 12, "cost": -5},
        {"id": None, "name": "=1+1", "cost": "-6"},
    ]
    answer = ask(at, "/lines.ndjson", LINES.encode(), "application/x-ndjson")
    assert answer.body.count(b"\n") == 3
    assert b"canary" not in answer.raw


@pytest.mark.parametrize("kind", ["text/csv", "text/csv; charset=ISO-8859-1"])
def test_a_dialect_is_kept_in_csv_and_a_charset_is_not(at, kind):
    document = TABLE.replace('"Zoë, Å"', "Zoë").replace(",", ";").encode("latin-1")
    answer = ask(at, "/items-l1.csv", document, kind)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert table(answer.body, ";")[:2] == [["id", "name", "cost"], ["1", "Zoë", "007"]]
    answer = ask(at, "/items-l1.csv", document, kind, "/items-l1.ndjson")
    assert json.loads(answer.body.splitlines()[0]) == {"id": 1, "name": "Zoë", "cost": 7}
    document = ("\ufeff" + TABLE.replace(",", "\t")).encode("utf-16-be")
    answer = ask(at, "/items-16.csv", document, "text/csv; charset=utf-16")
    assert table(answer.body, "\t")[1] == ["1", "Zoë\t Å", "007"]
    assert not answer.body.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("path", "document", "kind", "cause"),
    [
        ("/items.csv", TABLE.encode(), "text/csv; charset=iso-8859-1", "wrong-media-type"),
        ("/items.csv", TABLE.encode(), "text/csv; charset=utf-7", "wrong-media-type"),
        ("/items.csv", TABLE.encode("latin-1"), "text/csv", "not-utf-8"),
        ("/items.csv", TABLE.encode("utf-16"), "text/csv", "quotes-malformed"),
        ("/items-l1.csv", TABLE.encode(), "text/csv; charset=utf-8", "wrong-media-type"),
        ("/items-l1.csv", TABLE.encode(), "text/csv; charset=windows-1252", "wrong-media-type"),
        ("/items-16.csv", TABLE.encode(), "text/csv", "not-in-charset"),
        ("/items-16.csv", TABLE.encode("utf-16"), "text/csv; charset=utf-16le", "wrong-media-type"),
        ("/items.csv", TABLE.replace(",", ";").encode(), "text/csv", "quotes-malformed"),
        ("/items.csv", TABLE.replace("cost", "Cost").encode(), "text/csv", "column-missing"),
        ("/items.csv", TABLE.encode() + b'4,"canary', "text/csv", "truncated"),
        ("/items.csv", TABLE.encode() + b"4,canary\n", "text/csv", "field-count"),
        ("/lines.ndjson", LINES.encode(), "application/json", "wrong-media-type"),
        ("/lines.ndjson", LINES.encode(), "text/plain", "wrong-media-type"),
        ("/lines.ndjson", b"[" + LINES.replace("\r\n", ",").encode() + b"]", "application/ndjson", "record-not-object"),
        ("/lines.ndjson", b'{"id":1},{"secret":"canary"}\n', "application/ndjson", "line-not-one-object"),
        ("/lines.ndjson", b'{"id":1,\n"secret":"canary"}\n', "application/ndjson", "line-not-one-object"),
        ("/lines.ndjson", b'{"id":1}\n\n{"secret":"canary"}\n', "application/ndjson", "line-blank"),
        ("/lines.ndjson", b'\xef\xbb\xbf{"id":1}\n', "application/ndjson", "json-malformed"),
    ],
)  # fmt: skip
def test_what_is_not_to_the_letter_what_is_declared_is_refused(
    at, caplog, path, document, kind, cause
):
    """THREATS F50 to F52: 502 with no word of the document, in the answer or in any log."""
    with caplog.at_level(logging.DEBUG):
        answer = ask(at, path, document, kind)
    assert answer.status == 502
    (event,) = [event for event in at[1].events() if event.access == answer.event]
    assert event.cause == cause
    assert b"canary" not in answer.raw
    assert "canary" not in caplog.text


def test_formulas_are_neutralised_where_the_catalogue_says_so(at):
    """THREATS F53."""
    document = TABLE.encode()
    safe = ask(at, "/items-safe.csv", document, "text/csv")
    kept = ask(at, "/items.csv", document, "text/csv")
    assert kept.body.replace(b"=1+1", b"'=1+1") == safe.body
    assert b"x,=1+1,-5" in kept.body


@pytest.mark.parametrize(
    ("target", "start"), [("/lines.ndjson", b'{"id":0'), ("/lines.csv", b"id,name,cost\n0"), ("/lines.json", b'[{"id":0')]
)  # fmt: skip
def test_a_fault_in_a_late_line_ends_the_answer_without_its_end(at, caplog, target, start):
    """THREATS F55: what was given before it is whole lines; no raw line in any error, and no clean end."""
    good = [
        b'{"id":%d,"name":"canary-free %d","cost":1.5,"secret":"s"}\n' % (n, n)
        for n in range(60_000)
    ]
    good[50_000] = b'{"id":50000,"name":"canary","cost":canary,"secret":"canary"}\n'
    with caplog.at_level(logging.DEBUG):
        answer = ask(at, "/lines.ndjson", b"".join(good), "application/x-ndjson", target)
    assert answer.status == 200
    assert not answer.whole
    assert answer.body.startswith(start)
    assert b'"canary"' not in answer.raw
    assert b"50000" not in answer.raw
    assert "canary" not in caplog.text
    assert at[1].events()[-1].ended != "whole"
