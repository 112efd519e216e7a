"""`counterfoil reveal`: the file that went in, with the cells that the policy gives back."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import main
from proxy.cli.extracts import BadExtract, extract_of
from tests.gateway.changing import token
from tests.gateway.sealing import PATH, RULES
from tests.harness import sales
from tests.harness.proxy import stage
from tests.harness.store import Page

ROWS = sales.rows(450)
FULL = RULES + "p2, role:officer, sales/daily, true, buyer_email, reveal\n"
FULL = FULL.replace("p2, role:officer, sales/daily, row.units == 7, buyer_email, deny\n", "")
REPORTS = sales.REPORTS.replace(
    "/sales/daily.csv, format: csv}", "/sales/daily.csv, format: csv, also: [ndjson]}"
)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    with revealing(tmp_path_factory.mktemp("w"), a_minute=1_000_000) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        yield proxy


def revealing(folder, *, a_minute):
    most = f"reveal: {{cells: {min(a_minute, 500)}, cells_per_minute: {a_minute}, cells_per_hour: 1000000}}\n"
    return stage(folder, reports=REPORTS, rules=RULES, settings=most)


def run(proxy, file, *options, data=None, field="buyer_email", by=None, purpose="audit"):
    by = by or token(proxy, "olga", "officers", stores=["0", "3"])
    words = ["reveal", "sales/daily", field, str(file), "--url", proxy.url, "--token", by]
    words += ["--purpose", purpose] if purpose else []
    return CliRunner().invoke(main, [*words, *options], input=data, catch_exceptions=False)


def rules(proxy, text):
    proxy.home.write("policy.csv", text)
    assert proxy.reload()


def downloaded(proxy, folder, name="daily.csv"):
    answer = proxy.get(f"/sales/{name}", token=token(proxy, "alice", "analysts"))
    assert answer.status == 200
    path = folder / name
    path.write_bytes(answer.body)
    return path


def test_the_file_comes_back_with_its_values(proxy, tmp_path):
    """In several batches each cell that a line gives back is, the others stay; 1 says that some did."""
    file = downloaded(proxy, tmp_path)
    result = run(proxy, file)
    before = list(csv.reader(io.StringIO(file.read_text(), newline="")))
    after = list(csv.reader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    given_ = 0
    for was, now, row in zip(before[1:], after[1:], ROWS, strict=True):
        meant = (row[2] == "North" or row[1] in ("0", "3")) and row[3] != "7"
        assert now == [*was[:-1], row[5] if meant else was[-1]]
        given_ += meant
    assert after[0] == before[0]
    assert result.exit_code == 1
    assert result.stderr == f"{given_} revealed, {len(ROWS) - given_} not revealed\n"
    mine = [e for e in proxy.events() if e.action == "reveal" and e.step == "complete"]
    assert [e.rows + sum(e.unrevealed.values()) for e in mine] == [200, 200, 50]


def test_all_that_can_be_is_revealed_from_standard_input(proxy, tmp_path):
    """Where nothing stays sealed the file is what the store has, and 0 says so."""
    rules(proxy, FULL)
    try:
        file = downloaded(proxy, tmp_path)
        result = run(proxy, "-", data=file.read_bytes())
        assert (result.exit_code, result.stderr) == (0, "450 revealed, 0 not revealed\n")
        assert [row[-1] for row in csv.reader(io.StringIO(result.stdout))] == [
            "buyer_email", *(row[5] for row in ROWS),
        ]  # fmt: skip
    finally:
        rules(proxy, RULES)


def test_what_is_too_much_for_a_minute_is_waited_for(tmp_path):
    """Once, as long as the server says; it is said, and the file is whole in the end."""
    with revealing(tmp_path, a_minute=60) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(sales.rows(58)))
        assert run(proxy, downloaded(proxy, tmp_path)).exit_code == 1
        store.pages[PATH] = Page(sales.as_csv(sales.rows(8)))
        result = run(proxy, downloaded(proxy, tmp_path))
        assert re.search("^waiting [1-6] s: so much is revealed in a minute\n", result.stderr)
        assert result.stderr.endswith(" not revealed\n") and result.exit_code == 1


def test_ndjson_keeps_its_types(proxy, tmp_path):
    """Members stay as they are written; a number that is given back is one."""
    rules(proxy, FULL)
    try:
        file = downloaded(proxy, tmp_path, "daily.ndjson")
        result = run(proxy, file)
        assert result.exit_code == 0
        for was, now, row in zip(
            file.read_text().splitlines(), result.stdout.splitlines(), ROWS, strict=True
        ):
            sealed = json.loads(was)["buyer_email"]
            assert now == was.replace(f'"{sealed}"', f'"{row[5]}"')
    finally:
        rules(proxy, RULES)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"purpose": ""},
            "This report needs a stated purpose (403): Send the purpose that you act for",
        ),
        ({"field": "units"}, "No such report for you (404)"),
        ({"field": "other"}, "daily.csv: it has no column `other` in its header"),
    ],
)
def test_what_is_refused_is_said(proxy, tmp_path, how, message):
    """A refusal is one line with the server's words, no value, and not taken for a file that stays sealed."""
    result = run(proxy, downloaded(proxy, tmp_path), **how)
    assert result.exit_code == 2 and message in result.stderr
    assert "what is written is not the whole file" in result.stderr
    assert "canary" not in result.output and "Traceback" not in result.output


def test_a_file_that_is_not_there(proxy, tmp_path):
    """No file, no question."""
    result = run(proxy, tmp_path / "none.csv")
    assert result.exit_code == 1 and "cannot be read" in result.stderr


# ── extracts ──

CELL = st.text('ab,;"\n\r\t\ufeffé', max_size=6)


@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=5),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    CELL,
)
def test_all_but_one_column_stays_to_the_character(rows, delimiter, end, quoted, value):
    """Whatever a file's dialect is: its records come out as they went in, but for the cell that is written."""

    def written(cell):
        bare = not quoted and not any(mark in cell for mark in f'"\r\n{delimiter}')
        return cell if bare else '"' + cell.replace('"', '""') + '"'

    lines = [["one", "two", "three"], *rows]
    text = "".join(delimiter.join(map(written, line)) + end for line in lines)
    extract = extract_of("csv", io.StringIO(text, newline=""), "two")
    found = list(extract.rows())
    assert extract.head + "".join(row.text for row in found) == text
    assert [row.cell for row in found] == [row[1] for row in rows]
    assert [row.members for row in found] == [{"one": row[0], "three": row[2]} for row in rows]
    again = extract.head + "".join(extract.written(row, "text", value) for row in found)
    assert list(csv.reader(io.StringIO(again, newline=""), delimiter=delimiter))[1:] == [
        [row[0], value, row[2]] for row in rows
    ]


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b c", 'd"']), st.text(max_size=5) | st.integers() | st.none()), max_size=4), st.text(max_size=5))  # fmt: skip
def test_ndjson_members_stay_as_they_are(records, value):
    """The cell's member gets the value, every other one stays."""
    lines = "".join(json.dumps({**r, "x": "cf1.k.r0.AAAA"}) + "\n" for r in records)
    extract = extract_of("ndjson", io.StringIO(lines), "x")
    for row, record in zip(extract.rows(), records, strict=True):
        assert row.text == json.dumps({**record, "x": "cf1.k.r0.AAAA"}) + "\n"
        assert json.loads(extract.written(row, "text", value)) == {**record, "x": value}
        assert json.loads(extract.written(row, "decimal", "1.10")) == {**record, "x": 1.1}
        assert '"x":1.10}' in extract.written(row, "decimal", "1.10")
        assert '"x":"007"}' in extract.written(row, "integer", "007")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", ""), ("csv", "a,b\n"), ("csv", "x,x\n1,2\n"), ("csv", "x,b\n1\n"), ("csv", 'x,b\n"1\n'),
        ("csv", 'x,b\n1,a"b"\n'), ("csv", "x,b\n" + "1" * (1 << 21)), ("ndjson", "[]\n"),
        ("ndjson", '{"y":1}\n'), ("ndjson", "{\n"),
    ],
)  # fmt: skip
def test_what_is_no_extract_is_refused(kind, text):
    """A file of another shape is refused in words that hold nothing of it."""
    with pytest.raises(BadExtract):
        list(extract_of(kind, io.StringIO(text, newline=""), "x").rows())
