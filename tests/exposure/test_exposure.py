"""`counterfoil log exposure`, over the log of a real proxy, held against what was really given."""

from __future__ import annotations

import contextlib
import csv
import io
import sqlite3
from collections import Counter

import pytest
from click.testing import CliRunner

from proxy.audit.query import Reader
from proxy.cli import main
from proxy.evidence.layout import inline, named
from proxy.evidence.reading import read
from tests.exposure.shop import CANARY, given, open_shop

CONDITIONS = [
    ("", lambda _: True),
    ("shop in ['S1','S2']", lambda row: row["shop"] in ("S1", "S2")),
    ("shop == 'S3' and day >= date('2026-07-01')", lambda row: row["shop"] == "S3" and row["day"] >= "2026-07-01"),
    (f"code in ['{CANARY}-3', '{CANARY}-700']", lambda row: row["code"] in (f"{CANARY}-3", f"{CANARY}-700")),
    (f"code == '{CANARY}-5' or shop == 'S2'", lambda row: row["code"] == f"{CANARY}-5" or row["shop"] == "S2"),
    ("city == 'Bath'", lambda row: None if row["city"] is None else row["city"] == "Bath"),
    ("starts(code, 'canary')", lambda _: None),
    ("mail == 'x'", lambda _: None),
    ("shop == 'S9'", lambda _: False),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with open_shop(tmp_path_factory.mktemp("shop") / "home") as at:
        yield at


def counted(who, rows, fields):
    forms = [given(who, row) for row in rows]
    chosen = [{f: form for f, form in one.items() if not fields or f in fields} for one in forms]
    found = {}
    for field, form in (pair for one in chosen for pair in one.items()):
        found.setdefault(field, Counter())[form] += 1
    return sum(map(bool, chosen)), {field: dict(each) for field, each in found.items()}


@pytest.mark.parametrize("fields", ["", "net", "city,mail"])
@pytest.mark.parametrize(
    ("text", "holds"), CONDITIONS, ids=[text or "all" for text, _ in CONDITIONS]
)
def test_each_access_is_told_with_what_it_gave(shop, text, holds, fields):
    """Rows and forms, surely and possibly, as a naive look at the rows themselves has them; none is left out."""
    named_ = frozenset(filter(None, fields.split(",")))
    expected = {}
    for access, (who, rows, surely) in shop.asked.items():
        if surely == "possible":
            if "net" in named_ or not named_:
                expected[access] = ("possible", 0, {}, 2)
            continue
        sure, forms = counted(who, [row for row in rows if holds(row) is True], named_)
        maybe, _ = counted(who, [row for row in rows if holds(row) is None], named_)
        if sure or maybe:
            expected[access] = (surely if sure else "possible", sure, forms, maybe)
    words = [*(("--where", text) if text else ()), *(("--fields", fields) if fields else ())]
    found = {
        access: (one["certainty"], one["rows"], one["fields"], one["possible"])
        for access, one in shop.exposed(*words).items()
    }
    assert found == expected


def test_evidence_is_exactly_the_rows_in_every_format(shop):
    """In their order, with what is kept of each value, whether a record holds it or names it."""
    looked = Counter()
    with Reader(shop.path) as reader:
        for access, (who, rows, surely) in shop.asked.items():
            if surely == "possible":
                continue
            kept = []
            for event in (each for each in shop.proxy.events() if each.access == access):
                for statement in event.evidence:
                    digest = named(statement)
                    looked["named" if digest else "inline"] += 1
                    evidence = inline(statement) if digest is None else reader.attachment(digest)
                    for noted in read(evidence):
                        for n in range(noted.rows):
                            at = {f: v.distinct[v.codes[n]] for f, v in noted.values.items()}
                            kept.append((at, noted.forms[noted.codes[n]]))
            assert len(kept) == len(rows)
            codes = {}
            pairs = zip(sorted(kept, key=_open), sorted(rows, key=_row), strict=True)
            if who == "alice":  # who sees by what the store orders, and so has its order
                pairs = zip(kept, rows, strict=True)
            for (at, forms), row in pairs:
                assert [at["day"], at["shop"]] == ["=" + row["day"], "=" + row["shop"]]
                assert at["city"] == (row["city"] and "=" + row["city"])
                assert forms == given(who, row)
                if who == "alice":
                    assert codes.setdefault(row["code"], at["code"]) == at["code"]
            assert len(set(codes.values())) == len(codes)
            assert all(code[0] == "#" and len(code) == 17 for code in codes.values())
    assert min(looked["named"], looked["inline"]) >= 5


def _open(kept):
    at, _ = kept
    return at["day"], at["shop"], at["city"] or ""


def _row(row):
    return "=" + row["day"], "=" + row["shop"], "=" + row["city"] if row["city"] else ""


def test_no_confidential_value_is_in_the_log(shop):
    """Not in a record, an attachment, or any file beside them."""
    with contextlib.closing(sqlite3.connect(shop.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(FULL)")
    for path in shop.path.parent.glob("access*"):
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "policies" not in str(file):
                assert b"canary" not in file.read_bytes(), file
    with Reader(shop.path) as reader, contextlib.closing(sqlite3.connect(shop.path)) as connection:
        for (digest,) in connection.execute("SELECT lower(hex(digest)) FROM attachment"):
            for noted in read(reader.attachment(digest)):
                assert "canary" not in str([each.distinct for each in noted.values.values()])


def test_without_the_keyring_a_digest_is_possible(shop):
    """Whoever has the log alone is told that it cannot be excluded, and never that there is nothing."""
    where = f"code == '{CANARY}-3'"
    ran = CliRunner().invoke(
        main, ["log", "exposure", "--log", str(shop.path), "--where", where, "--csv"],
        catch_exceptions=False,
    )  # fmt: skip
    assert ran.exit_code == 0
    found = list(csv.DictReader(io.StringIO(ran.stdout)))
    gave = [access for access, (_, rows, _) in shop.asked.items() if rows]
    assert {one["access"] for one in found} == set(gave)
    assert {one["certainty"] for one in found} == {"possible"}


def test_what_no_record_can_answer_is_said(shop):
    """A field that is not kept, one that nobody was given, a condition of another type."""
    ran = shop.log("exposure", "--where", "mail == 'x'", "--fields", "nett")
    assert "rows cannot be found by mail, but by city, code, day, shop" in ran.stderr
    assert "no cell of nett is on record" in ran.stderr
    ran = shop.log("exposure", "--where", "shop > 5")
    assert "shop/days" in ran.stderr
    assert "fields alone" in shop.log("exposure", "--where", "sub.x == 'a'", code=2).stderr
    assert (
        "no access is on record"
        in shop.log("exposure", "--where", "shop == 'S9'", "--report", "shop/days").stdout
    )


def test_time_and_report_narrow_it(shop):
    """As they do in `log query`."""
    assert shop.exposed("--to", "2020-01-01") == {}
    assert {one["report"] for one in shop.exposed("--report", "shop/totals").values()} == {
        "shop/totals"
    }
    table = shop.log("exposure", "--where", "shop == 'S1'", "--fields", "net").stdout
    assert "user:mike" in table and "net clear" in table
    assert table.splitlines()[-1].startswith(
        "29 accesses by 2 subjects: 27 confirmed, 1 assumed, 1 possible"
    )
