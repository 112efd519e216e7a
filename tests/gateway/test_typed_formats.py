"""Arrow and Parquet over real sockets: what people's own readers find in them, and what nobody finds."""

from __future__ import annotations

import io
import json
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given as by
from hypothesis import settings
from hypothesis import strategies as st

from tests.harness.proxy import stage
from tests.harness.store import Page
from tests.promises import typed
from tests.promises.typed import COLUMNS, MINE, RULES, TYPES, disguise, given, table_of, visible

PATHS = {
    "/vault/typed.parquet": ("parquet", "parquet"), "/vault/typed.arrows": ("parquet", "arrow"),
    "/vault/typed": ("arrow", "arrow"),
}  # fmt: skip
"""Path -> the store's format, and that of the answer."""


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typed") / "home"
    with stage(folder, reports=typed.REPORTS, rules=RULES) as (store, proxy):
        yield store, proxy


@pytest.fixture(scope="module")
def in_order(tmp_path_factory):
    """The same, of a store that orders by a hidden field."""
    folder = tmp_path_factory.mktemp("sorted") / "home"
    with stage(folder, reports=typed.SORTED, rules=RULES) as (store, proxy):
        yield store, proxy


def ask(at, path, body, *, query="", **more):
    store, proxy = at
    stored = PATHS.get(path, ("parquet", ""))[0]
    source = "/vault/typed.parquet" if stored == "parquet" else "/vault/typed.arrows"
    store.pages[source] = Page(body, content_type=TYPES[stored], **more)
    token = proxy.issuer.token("sam", groups=("owners",), stores=list(MINE))
    answer = proxy.get(path + query, token=token)
    assert answer.whole
    return answer


def read(path, body) -> pa.Table:
    if PATHS[path][1] == "arrow":
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all()
    return pq.read_table(io.BytesIO(body))


def mixed(count: int) -> list[typed.Record]:
    chance = random.Random(count)
    return [visible(n) if n % 5 < 3 else typed.foreign(chance) for n in range(count)]


@pytest.mark.parametrize("path", PATHS)
def test_each_row_and_cell_is_what_the_policy_gives(at, path):
    """Types of untouched columns are the store's; what is hidden is null or not there."""
    body = typed.written(table_of(mixed(500)), PATHS[path][0], random.Random(1))
    answer = ask(at, path, body)
    assert answer.status == 200 and answer.headers["content-type"] == TYPES[PATHS[path][1]]
    found = read(path, answer.body)
    assert found.to_pylist() == [given(n) for n in range(500) if n % 5 < 3]
    assert found.schema.equals(
        pa.schema(
            {
                name: pa.decimal128(38, 4) if name == "net" else getattr(type_, "value_type", type_)
                for name, type_ in zip(typed.SCHEMA.names, typed.SCHEMA.types, strict=True)
                if name in COLUMNS
            }
        )
    )


@pytest.mark.parametrize("path", PATHS)
def test_no_canary_is_in_any_buffer_page_or_statistic(at, path):
    """F57: in raw bytes, in what is decompressed, and in what the footer tells."""
    table = table_of(mixed(3_000))
    for seed in range(4):
        body = typed.written(table, PATHS[path][0], random.Random(seed))
        answer = ask(at, path, body)
        parts = [answer.raw, *opened(path, answer.body)]
        for part in parts:
            for needle in typed.NEEDLES:
                assert needle not in part
        assert len(parts) > 10


def opened(path, body) -> list[bytes]:
    """All that is in an answer, decompressed: buffers as they are, not as values; the footer's words."""
    if PATHS[path][1] == "arrow":
        with pa.ipc.open_stream(body) as reader:
            return [
                buffer.to_pybytes()
                for batch in reader
                for column in batch.columns
                for buffer in column.buffers()
                if buffer is not None
            ]
    from proxy.formats.parquet_footer import footer_of
    from proxy.formats.parquet_pages import _pages

    size = int.from_bytes(body[-8:-4], "little")
    parts = [body[-8 - size :], repr(pq.read_metadata(io.BytesIO(body)).to_dict()).encode()]
    for group in footer_of(body[-8 - size : -8], 99).groups:
        for chunk in group.chunks:
            end = chunk.start + chunk.size
            place = chunk.start
            for page in _pages(
                lambda a, n: body[a : a + n], chunk.start, chunk.size + chunk.start, chunk.values
            ):
                # A page's bytes follow its head: found by their size, from the end of what was read.
                place = body.index(b"\x28\xb5\x2f\xfd", place, end) if page.stored else place
                parts.append(
                    pa.decompress(
                        body[place : place + page.stored], page.stated, "zstd"
                    ).to_pybytes()
                )
                place += page.stored
    return parts


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=12)
@by(
    count=st.sampled_from([0, 1, 2, 63, 300]),
    seeds=st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True),
    foreigners=st.tuples(st.sampled_from([0, 1, 9, 200]), st.sampled_from([0, 3, 900])),
)
def test_answers_do_not_depend_on_what_is_hidden(at, path, count, seeds, foreigners):
    """PROMISE 1 (non-interference): values, their lengths, dictionaries, statistics, bytes under nulls, the
    number of hidden rows, row groups, compression and pages of the store change nothing in one byte.
    """
    seen = [
        ask(at, path, disguise(count, PATHS[path][0], seed, many)).seen()
        for seed, many in zip(seeds, foreigners, strict=True)
    ]
    assert seen[0] == seen[1] and seen[0][0] == 200


@pytest.mark.parametrize("path", PATHS)
def test_long_answers_do_not_depend_on_what_is_hidden(at, path):
    """PROMISE 1 (non-interference), with several divisions of ours: of 70,000 and of 9,000 rows."""
    count = 66_000 if PATHS[path][1] == "parquet" else 9_000
    answers = [
        ask(at, path, disguise(count, PATHS[path][0], seed, many), pieces=size)
        for seed, many, size in ((1, 0, 0), (2, 4_000, 70_000))
    ]
    assert answers[0].seen() == answers[1].seen() and read(path, answers[0].body).num_rows == count
    if PATHS[path][1] == "parquet":
        metadata = pq.read_metadata(io.BytesIO(answers[0].body))
        assert [metadata.row_group(n).num_rows for n in range(2)] == [65_536, count - 65_536]


@pytest.mark.parametrize("path", PATHS)
def test_pages_and_orders_are_those_of_the_requesters_own_rows(at, in_order, path):
    """A page is cut from what is released; where the store orders by what is hidden, rows are sorted."""
    records = mixed(400)
    mine = [given(n) for n in range(400) if n % 5 < 3]
    body = typed.written(table_of(records), PATHS[path][0], random.Random(3))
    page = ask(at, path, body, query="?limit=70&offset=100")
    assert read(path, page.body).to_pylist() == mine[100:170]
    answers = []
    for seed in range(2):
        shuffled = random.Random(seed).sample(records, len(records))
        body = typed.written(table_of(shuffled), PATHS[path][0], random.Random(seed))
        answers.append(ask(in_order, path, body))
    assert answers[0].seen() == answers[1].seen()
    assert read(path, answers[0].body).to_pylist() == mine
    body = typed.written(table_of(records), PATHS[path][0], random.Random(5))
    page = ask(in_order, path, body, query="?limit=7&offset=3")
    assert read(path, page.body).to_pylist() == mine[3:10]


def test_an_answer_without_rows_has_the_same_schema(at):
    for path, (stored, _) in PATHS.items():
        schemas = []
        for records in ([], [typed.foreign(random.Random(1))], [visible(1)]):
            answer = ask(at, path, typed.written(table_of(records), stored, random.Random(0)))
            schemas.append(read(path, answer.body).schema)
        assert schemas[0] == schemas[1] == schemas[2]


def test_readers_of_others_read_what_is_served(at, tmp_path):
    """pandas, Polars and DuckDB find the values, of their own types; from a CSV store as well."""
    import duckdb
    import pandas as pd
    import polars as pl

    rows = [given(n) for n in range(200) if n % 5 < 3]
    for path, (stored, as_) in PATHS.items():
        body = ask(at, path, typed.written(table_of(mixed(200)), stored, random.Random(1))).body
        polars = pl.read_parquet(body) if as_ == "parquet" else pl.read_ipc_stream(body)
        assert polars["id"].to_list() == [row["id"] for row in rows]
        assert polars["price"].to_list() == [row["price"] for row in rows]
        assert polars["name"].to_list() == [row["name"] for row in rows]
        if as_ == "parquet":
            file = tmp_path / "answer.parquet"
            file.write_bytes(body)
            pandas = pd.read_parquet(file)
            assert pandas["units"].isna().tolist() == [row["units"] is None for row in rows]
            asked = f"select sum(price), count(name), epoch(min(\"at\")), max(day) from '{file}'"
            ((total, names, first, last),) = duckdb.sql(asked).fetchall()
            assert total == sum(row["price"] for row in rows)
            assert names == sum(row["name"] is not None for row in rows)
            assert first == min(row["at"] for row in rows).timestamp()
            assert last == max(row["day"] for row in rows if row["day"])


def test_a_parquet_store_is_read_as_csv_and_json(at):
    """Values in plain text: decimals with their scale, times in UTC, nothing for null."""
    body = typed.written(table_of([visible(1), visible(3)]), "parquet", random.Random(1))
    lines = ask(at, "/vault/typed.csv", body).body.decode().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == (
        "1,2,open,2026-01-02,2026-03-01T00:00:01.000001Z,0.01,0.14285714285714285,1,name 1,false,31000"
    )
    assert lines[2].startswith("3,2,secret,2026-01-04,2026-03-01T00:00:03.000001Z,0.03,") and lines[
        2
    ].endswith(",,,false,31000")
    found = json.loads(ask(at, "/vault/typed.json", body).body, parse_float=Decimal)
    assert (
        found[0]["price"] == Decimal("0.01")
        and found[1]["name"] is None
        and found[0]["open"] is False
    )


CSV = """\
id,store,flag,day,at,price,ratio,units,name,open,net,pin,mail
1,1,open,2026-03-01,2026-03-01T10:00:00+02:00,1.10,0.5,+7,a,true,1499.5,x,y
2,9,open,never,never,much,?,?,b,?,?,x,y
3,2,secret,,,,,no number,hidden,false,1,x,y
"""


def test_a_csv_store_is_read_as_parquet_by_duckdb_and_pandas(at, tmp_path):
    """What is no value matters only where it is given."""
    import duckdb
    import pandas as pd

    store, proxy = at
    token = proxy.issuer.token("sam", groups=("owners",), stores=list(MINE))
    store.pages["/vault/texts.csv"] = Page(CSV.encode(), content_type="text/csv")
    answer = proxy.get("/vault/texts.parquet", token=token)
    assert answer.status == 200
    file = tmp_path / "texts.parquet"
    file.write_bytes(answer.body)
    found = duckdb.sql(
        f"select id, price, units, name, open, net, epoch(\"at\") from '{file}'"
    ).fetchall()
    assert found[0] == (1, Decimal("1.100000000"), 7, "a", True, Decimal(1000), 1_772_352_000.0)
    assert found[1][:4] == (3, None, None, None) and len(found) == 2
    frame = pd.read_parquet(file)
    assert list(frame.columns) == COLUMNS and frame["price"][0] == Decimal("1.100000000")
    refused = CSV.replace("1.10,0.5", "1.10.1,0.5")
    store.pages["/vault/texts.csv"] = Page(refused.encode(), content_type="text/csv")
    answer = proxy.get("/vault/texts.parquet", token=token)
    assert answer.status == 502 and b"1.10.1" not in answer.raw
    assert proxy.get("/vault/texts.csv", token=token).status == 200


def test_a_hostile_or_broken_document_is_a_plain_refusal(at):
    """502, nothing of it in the answer, and the spool's room is given back."""
    _, proxy = at
    good = typed.written(table_of(mixed(50)), "parquet", random.Random(1))
    stream = typed.written(table_of(mixed(50)), "arrow", random.Random(1))
    before = proxy.app.gateway._bounds.spools._left
    for path, body in (
        ("/vault/typed.parquet", good[:-1]), ("/vault/typed.parquet", good + b"canary"),
        ("/vault/typed.parquet", b"PAR1" + b"canary" * 9 + b"\xff\0\0\0PAR1"), ("/vault/typed.parquet", b""),
        ("/vault/typed", stream[:-8]), ("/vault/typed", stream + b"canary"), ("/vault/typed", b""),
        ("/vault/typed", b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"canary"),
    ):  # fmt: skip
        answer = ask(at, path, body)
        assert answer.status == 502 and b"canary" not in answer.raw, (path, len(body))
        assert proxy.app.gateway._bounds.spools._left == before


EXTENSIONS = {"arrow": "arrows", "parquet": "parquet"}
NUMBERS = """\
stores:
  main: {url: "{store}", loopback: true}
reports:
  vault/numbers:
    title: Numbers
    store: main
    variants: [{path: /vault/numbers.csv, format: csv, also: [arrow, parquet]}]
    fields:
      store: {type: text, class: public}
      count: {type: decimal, class: public, scale: 0}
"""


@pytest.mark.threat("G59")
@pytest.mark.parametrize("as_", ["arrow", "parquet"])
@pytest.mark.parametrize("odd", ["+5", "1e2"])
def test_how_many_hidden_rows_lie_between_two_numbers_makes_no_difference(tmp_path, as_, odd):
    """A long number and one of another spelling are given, whether they are read together or apart."""
    rules = (
        "p, tool:app, vault/*, act, true, allow\np, anyone, vault/*, read, true, allow\n"
        "p2, anyone, vault/*, row.store == '1', *, clear\n"
    )
    with stage(tmp_path / "home", reports=NUMBERS, rules=rules) as (store, proxy):
        seen = set()
        for hidden in (0, 300, 100_000):
            body = f"store,count\n1,{'9' * 37}\n" + "2,7\n" * hidden + f"1,{odd}\n"
            store.pages["/vault/numbers.csv"] = Page(body.encode())
            answer = proxy.get(f"/vault/numbers.{EXTENSIONS[as_]}", token=proxy.issuer.token("sam"))
            assert answer.status == 200
            seen.add(answer.seen())
        assert len(seen) == 1


RATIOS = """\
stores:
  main: {url: "{store}", loopback: true}
reports:
  vault/ratios:
    title: Ratios
    store: main
    variants: [{path: /vault/ratios.arrows, format: arrow, also: [parquet, csv]}]
    fields:
      store: {type: text, class: public}
      flag: {type: text, class: public}
      ratio: {type: decimal, class: public}
"""


@pytest.mark.threat("G59")
@pytest.mark.parametrize("as_", ["arrows", "parquet", "csv"])
@pytest.mark.parametrize("bits", [0xFFF8_0000_0000_0123, 0x7FF0_0000_0000_0001, 1 << 63])
def test_how_many_hidden_rows_lie_before_a_hidden_cell_makes_no_difference(tmp_path, as_, bits):
    """A NaN of any bits, and a zero with a sign, are given alike, whatever is read in one go with them."""
    rules = (
        "p, tool:app, vault/*, act, true, allow\np, anyone, vault/*, read, true, allow\n"
        "p2, anyone, vault/*, row.store == '1', *, clear\np2, anyone, vault/*, row.flag == 'x', ratio, deny\n"
    )
    with stage(tmp_path / "home", reports=RATIOS, rules=rules) as (store, proxy):
        seen = set()
        for hidden in (0, 20_000):
            ratios = np.full(hidden + 2, bits, np.uint64).view(np.float64)
            columns = {
                "store": ["1", *["2"] * hidden, "1"],
                "flag": ["", *[""] * hidden, "x"],
                "ratio": pa.array(ratios),
            }
            body, table = io.BytesIO(), pa.table(columns)
            with pa.ipc.new_stream(body, table.schema) as writer:
                writer.write_table(table, max_chunksize=1_000)
            page = Page(body.getvalue(), content_type=TYPES["arrow"])
            store.pages["/vault/ratios.arrows"] = page
            answer = proxy.get(f"/vault/ratios.{as_}", token=proxy.issuer.token("sam"))
            assert answer.status == 200
            seen.add(answer.seen())
        assert len(seen) == 1


@pytest.mark.threat("G59")
@pytest.mark.parametrize(("as_", "status"), [("arrows", 200), ("parquet", 502), ("csv", 200)])
def test_decimals_of_tens_are_given_alike_or_refused(tmp_path, as_, status):
    """A scale below 0, however many hidden rows there are; Parquet has none such, and refuses."""
    rules = (
        "p, tool:app, vault/*, act, true, allow\np, anyone, vault/*, read, true, allow\n"
        "p2, anyone, vault/*, row.store == '1', *, clear\np2, anyone, vault/*, row.flag == 'x', ratio, deny\n"
    )
    with stage(tmp_path / "home", reports=RATIOS, rules=rules) as (store, proxy):
        seen = set()
        for hidden in (0, 20_000):
            tens = b"".join(n.to_bytes(16, "little") for n in (10**37, *[7] * hidden, 5))
            stored = pa.decimal128(38, -5)
            columns = {
                "store": ["1", *["2"] * hidden, "1"],
                "flag": ["", *[""] * hidden, "x"],
                "ratio": pa.Array.from_buffers(stored, hidden + 2, [None, pa.py_buffer(tens)]),
            }
            body, table = io.BytesIO(), pa.table(columns)
            with pa.ipc.new_stream(body, table.schema) as writer:
                writer.write_table(table, max_chunksize=1_000)
            page = Page(body.getvalue(), content_type=TYPES["arrow"])
            store.pages["/vault/ratios.arrows"] = page
            answer = proxy.get(f"/vault/ratios.{as_}", token=proxy.issuer.token("sam"))
            assert answer.status == status
            seen.add(answer.seen())
        assert len(seen) == 1
