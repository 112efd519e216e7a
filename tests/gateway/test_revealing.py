"""`POST /-/reveal` over real sockets: who gets what back, of which rows, and what is on record.

PROMISE 1 (no cell without a grant), PROMISE 2 (no record, no data).
"""

from __future__ import annotations

import json
import logging
import re
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.access import encode
from proxy.errors import LogUnavailable
from tests.gateway.changing import ask, lift_all, lock, token
from tests.gateway.reloading import soon
from tests.gateway.sealing import PATH, RULES, reveal, sealed, values
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page

ROWS = sales.rows(80)
EMAILS = [row[5] for row in ROWS]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w")
    most = "reveal: {cells_per_minute: 100000000, cells_per_hour: 100000000}\n"
    with stage(folder, reports=sales.REPORTS, rules=RULES, settings=most) as both:
        both[0].pages[PATH] = Page(sales.as_csv(ROWS))
        yield both


@pytest.fixture
def proxy(running):
    return running[1]


@pytest.fixture(scope="module")
def cells(running):
    return sealed(running[1])


def event(proxy, answer):
    (found,) = [one for one in proxy.events() if one.access == answer.event]
    return found


def meant(row):
    """What the rules give an officer of stores 0 and 3."""
    _, store, region, units, *_ = row
    return (region == "North" or store in ("0", "3")) and units != "7"


# ── permitted ──


def test_values_come_back_for_the_rows_that_a_line_gives(proxy, cells):
    """Rows of two lines, without those that a deny hides, are given back in order; of the rest nothing."""
    answer = reveal(proxy, cells)
    wanted = [email if meant(row) else None for email, row in zip(EMAILS, ROWS, strict=True)]
    assert values(answer) == wanted
    assert 0 < len(set(wanted)) - 1 < len(wanted)
    some = next(cell for cell in json.loads(answer.body)["cells"] if cell)
    assert some == {"type": "text", "value": EMAILS[0]}
    assert answer.headers["cache-control"] == "private, no-store"


def test_what_was_given_back_is_on_record(proxy, cells):
    """The event has counts, the field, the key and each cause; and no value, cell or row."""
    other = {"cell": "cf1.nokey.r0." + "A" * 80, "row": {}}
    moved = {"cell": cells[0]["cell"], "row": cells[1]["row"]}
    answer = reveal(proxy, [*cells, other, moved, {"cell": "none", "row": {}}])
    found = event(proxy, answer)
    given_ = sum(map(meant, ROWS))
    assert (found.step, found.action, found.decision, found.report) == (
        "complete", "reveal", "permit", "sales/daily",
    )  # fmt: skip
    assert found.fields == {"buyer_email": {"clear": given_}} and found.rows == given_
    assert found.unrevealed == {
        "not-granted": len(ROWS) - given_, "unknown-key": 1, "not-authentic": 1, "not-sealed": 1,
    }  # fmt: skip
    (key_id,) = {cell["cell"].split(".")[1] for cell in cells}
    assert found.keys == (key_id,)
    assert found.purpose == "audit" and found.bytes == len(answer.body) and found.digest
    text = encode(found).decode()
    assert "canary" not in text and "cf1." not in text and "2026-01-" not in text
    assert "policy.csv:13" in found.lines and "policy.csv:17" in found.lines


def test_a_value_is_known_to_itself(proxy):
    """A line that looks at the very field decides by the value that was sealed; its deny wins."""
    owned = sealed(proxy, by=token(proxy, "sam", "owners", stores=["0", "3"]), field="net_sales")
    clear = [cell for cell in owned if not cell["cell"].startswith("cf1.")]
    assert len(clear) == 16  # the owner's own stores
    rows = [row for row in ROWS if row[1] not in ("0", "3")]
    assert [cell["row"] for cell in owned if cell not in clear] == [
        {"date": "", "store_id": "", "region": "", "units": ""} for _ in rows
    ]
    answer = reveal(proxy, [cell for cell in owned if cell not in clear], field="net_sales")
    assert values(answer) == [row[4] if float(row[4]) <= 1060 else None for row in rows]
    assert json.loads(answer.body)["cells"][0]["type"] == "decimal"


def test_rows_may_be_stated_as_json_has_them(proxy, running):
    """What JSON writes as a number or null is stated so; numbers keep all of their digits."""
    answer = proxy.get("/sales/daily.json", token=token(proxy, "alice", "analysts"))
    if answer.status != 200:
        running[0].pages["/sales/daily.json"] = Page(
            sales.as_json(ROWS), content_type="application/json"
        )
        answer = proxy.get("/sales/daily.json", token=token(proxy, "alice", "analysts"))
    records = json.loads(answer.body)
    asked = [{"cell": record.pop("buyer_email"), "row": record} for record in records]
    wanted = [email if meant(row) else None for email, row in zip(EMAILS, ROWS, strict=True)]
    assert values(reveal(proxy, asked)) == wanted


# ── cells that do not open ──


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_altered_cell_is_as_one_that_is_not_granted(proxy, cells, data):
    """Whatever byte is another one, the answer is the same as for a row that no line gives."""
    refused = reveal(proxy, [cells[1]])
    assert not meant(ROWS[1]) and values(refused) == [None]
    cell = cells[0]["cell"]
    at = data.draw(st.integers(0, len(cell) - 1))
    other = data.draw(st.sampled_from("AQgw019_-.x").filter(lambda c: c != cell[at]))
    altered = reveal(proxy, [{"cell": cell[:at] + other + cell[at + 1 :], "row": cells[0]["row"]}])
    assert altered.seen() == refused.seen()


@pytest.mark.threat("G62")
@pytest.mark.parametrize(
    "change",
    [
        lambda c: c | {"row": c["row"] | {"store_id": "3"}},
        lambda c: c | {"row": c["row"] | {"date": "2026-01-02"}},
        lambda c: c | {"row": {"date": c["row"]["date"]}},
        lambda c: c | {"row": {}},
        lambda c: c | {"cell": "x"},
        lambda c: c | {"cell": "4111111111111111"},
        lambda c: c | {"cell": re.sub(r"cf1\.\w+", "cf1.other", c["cell"])},
        lambda c: c | {"cell": c["cell"].replace(".r3.", ".r1.")},
        lambda c: c | {"cell": c["cell"].replace(".r3.", ".d.")},
        lambda c: c | {"cell": c["cell"].replace(".r3.", ".rff.")},
    ],
)
def test_a_moved_cell_is_as_one_that_is_not_granted(proxy, cells, change):
    """Of another row, another key, or no cell at all: the answer does not tell which."""
    assert values(reveal(proxy, [cells[0]])) == [EMAILS[0]]
    assert reveal(proxy, [change(cells[0])]).seen() == reveal(proxy, [cells[1]]).seen()


@pytest.mark.threat("G62")
def test_a_cell_of_another_field_is_not_given_back(proxy, cells):
    """A cell of one field, asked for as one of another that is granted in every row, stays shut."""
    answer = reveal(proxy, cells[:1], field="net_sales")
    assert answer.seen() == reveal(proxy, [cells[1]]).seen()
    assert event(proxy, answer).unrevealed == {"not-authentic": 1}


def test_a_cell_of_another_proxy_is_not_given_back(proxy, cells, tmp_path):
    """Keys are a proxy's own."""
    with stage(tmp_path, reports=sales.REPORTS, rules=RULES) as (_, other):
        answer = reveal(other, cells[:1])
        assert values(answer) == [None]
        assert event(other, answer).unrevealed == {"unknown-key": 1}


# ── refused ──


def test_a_row_that_is_nested_too_deep_is_none(proxy):
    """Deeper than anything is read: 400 as for any other body that is none, not a fault of the proxy's."""
    row = f'{{"a":{"[" * 3000}{"]" * 3000}}}'
    raw = f'{{"report":"sales/daily","field":"buyer_email","cells":[{{"cell":"x","row":{row}}}]}}'
    answer = ask(proxy, "POST", "/-/reveal", raw=raw.encode(), by=token(proxy, "olga", "officers"))
    assert answer.status == 400 and event(proxy, answer).cause == "not-the-type"


@pytest.mark.parametrize(
    ("how", "status", "cause"),
    [
        ({"report": "sales/none"}, 404, "unknown-report"),
        ({"report": "sales/secret"}, 404, "no-allow-line"),
        ({"report": "sales/audited"}, 404, "no-allow-line"),
        ({"field": "none"}, 404, "no-such-field"),
        ({"field": "region"}, 404, "no-such-field"),
        ({"purpose": None}, 403, "purpose-required"),
        ({"purpose": "reconcile"}, 403, "purpose-required"),
        ({"purpose": "other"}, 400, "unknown-purpose"),
        ({"by": "analyst"}, 404, "no-allow-line"),
        ({"by": "tool"}, 404, "no-allow-line"),
        ({"by": "through another"}, 404, "tool-may-not-act"),
        ({"by": ""}, 401, "token-malformed"),
        ({"method": "GET"}, 405, "method"),
        ({"method": "HEAD"}, 405, "method"),
        ({"method": "DELETE"}, 405, "method"),
        ({"cells": []}, 400, "not-the-type"),
        ({"cells": [{"cell": "", "row": {}}]}, 400, "not-the-type"),
        ({"cells": [{"cell": "x", "row": {"a": {}}}]}, 400, "not-a-row"),
        ({"cells": [{"cell": "x", "row": {}, "more": 1}]}, 400, "not-the-type"),
        ({"cells": [{"cell": "x", "row": {}}] * 501}, 400, "too-many-cells"),
        ({"more": 1}, 400, "not-the-type"),
        ({"form": "tokenise"}, 400, "no-such-form"),
    ],
)  # fmt: skip
def test_what_is_not_for_them_is_refused_and_on_record(proxy, cells, how, status, cause):
    """Each refusal has its status, its record, and nothing of a value or of a cell."""
    by = {
        "analyst": token(proxy, "alice", "analysts"),
        "tool": proxy.issuer.token("app", sub="app", groups=()),
        "through another": token(proxy, "olga", "officers", tool="other"),
        "": "x",
    }
    asked = {"cells": cells[:3], **how}
    if "by" in how:
        asked["by"] = by[how["by"]]
    answer = reveal(proxy, asked.pop("cells"), **asked)
    assert answer.status == status, answer
    found = event(proxy, answer)
    assert (found.decision, found.action, found.cause) == ("deny", "reveal", cause)
    assert "canary" not in answer.body.decode() and "cf1." not in encode(found).decode()
    assert found.fields == {} and found.rows == 0


def test_unknown_and_forbidden_look_alike(proxy, cells):
    """A report that is not there, one that is not for them, and a field that is not: one answer."""
    seen = {
        reveal(proxy, cells[:1], **how).seen()
        for how in (
            {"report": "sales/none"}, {"report": "sales/secret"}, {"field": "none"}, {"field": "units"},
        )
    }  # fmt: skip
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("raw", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (
            b'{"report":"a","field":"b","cells":[{"cell":"x","row":{"a":1' + b"0" * 5000 + b"}}]}",
            {},
            404,
        ),
        (b"{}" + b" " * (1 << 20), {}, 413),
        (b"{}", {"Content_Type": "text/plain"}, 400),
    ],
)
def test_bodies_are_bounded_and_strict(proxy, raw, headers, status):
    """What is no JSON of that shape, or too large, is refused before anything is decided."""
    by = token(proxy, "olga", "officers")
    answer = ask(
        proxy,
        "POST",
        "/-/reveal",
        by=by,
        raw=raw,
        **{"Content_Type": "application/json", "Content_Length": str(len(raw)), **headers},
    )
    assert answer.status == status


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_who_leaves_in_the_middle_of_a_body_is_on_record_as_that(proxy, caplog, how):
    """A client that goes is no fault of the proxy: nothing is said of an error."""
    by = token(proxy, "olga", "officers")
    head = f"POST /-/reveal HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {by}\r\n"
    sock = wire.connect(proxy.url)
    sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode())
    assert soon(lambda: proxy.app.gateway.askers.rates._running)  # it is under way
    before = len(proxy.events())
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert soon(lambda: len(proxy.events()) > before)
    assert proxy.events()[-1].cause == "body-cut-off"
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_nothing_is_given_back_without_a_record(proxy, cells, monkeypatch):
    """Where the log cannot be written the answer is 503, and no value leaves."""
    log = proxy.app.gateway.recorder._log

    async def append(*_, **__):
        raise LogUnavailable("no space left")

    by = token(proxy, "olga", "officers", stores=["0", "3"])
    with monkeypatch.context() as patched:
        patched.setattr(log, "append", append)
        answer = reveal(proxy, cells, by=by)
    assert answer.status == 503 and "canary" not in answer.body.decode()
    assert values(reveal(proxy, cells[:1], by=by)) == EMAILS[:1]


def test_no_value_is_logged(proxy, cells, caplog):
    """At the most talkative level nothing of a value, a cell or a token is said."""
    by = token(proxy, "olga", "officers", stores=["0", "3"])
    with caplog.at_level(logging.DEBUG):
        assert EMAILS[0] in values(reveal(proxy, cells, by=by))
    for record in caplog.records:
        text = record.getMessage()
        assert "canary" not in text and "cf1." not in text and by not in text


def test_a_lockdown_ends_reveals(proxy, cells):
    """What is locked is not given back either."""
    lock(proxy)
    try:
        assert reveal(proxy, cells[:1]).status == 404
    finally:
        lift_all(proxy)
    assert reveal(proxy, cells[:1]).status == 200


# ── what a policy that changed makes of cells ──


def with_rules(proxy, rules):
    proxy.home.write("policy.csv", rules)
    assert proxy.reload()


def test_a_condition_on_what_was_not_carried_gives_nothing_back(proxy, cells):
    """A line that looks at more than the cells carry holds for none of them, however it asks; a deny for all."""
    by = token(proxy, "olga", "officers", stores=["0", "3"])
    head = sales.RULES + "p2, role:analyst, sales/daily, true, buyer_email, encrypt\n"
    head += "p, role:officer, sales/daily, reveal, true, allow\ng, group:officers, role:officer\n"
    first = head + "p2, role:officer, sales/daily, true, buyer_email, reveal\n"
    try:
        with_rules(proxy, first)
        bare = sealed(proxy)
        assert values(reveal(proxy, bare, by=by)) == EMAILS
        assert len(bare[0]["cell"]) < len(cells[0]["cell"])  # nothing is carried
        for rows in (
            "present(row.net_sales)",
            "not present(row.net_sales)",
            "row.units >= 0 or row.store_id >= ''",
        ):
            line = f"p2, role:officer, sales/daily, {rows}, buyer_email"
            with_rules(proxy, head + f"{line}, reveal\n")
            assert values(reveal(proxy, bare, by=by)) == [None] * len(bare)
            with_rules(proxy, first + f"{line}, deny\n")
            assert values(reveal(proxy, bare, by=by)) == [None] * len(bare)
        # The row's key is stated, and the cell bound to it: that much is known.
        with_rules(
            proxy,
            head + "p2, role:officer, sales/daily, row.store_id == '3', buyer_email, reveal\n",
        )
        assert values(reveal(proxy, bare, by=by)) == [
            email if row[1] == "3" else None for email, row in zip(EMAILS, ROWS, strict=True)
        ]
    finally:
        with_rules(proxy, RULES)


def test_a_reveal_line_gives_no_cell(proxy):
    """Whoever has nothing else on a report has no report; and it adds no column, row or form to one."""
    rules = RULES.replace(
        "role:officer, sales/daily, reveal, env", "role:officer, sales/daily, read, env"
    )
    rules += "p2, role:owner, sales/daily, true, buyer_email, reveal\n"
    owner = token(proxy, "sam", "owners", stores=["3"])
    before = proxy.get("/sales/daily.csv", token=owner)
    try:
        with_rules(proxy, rules)
        by = token(proxy, "olga", "officers", stores=["3"])
        assert proxy.get(PATH, token=by, headers={"Counterfoil-Purpose": "audit"}).status == 404
        after = proxy.get("/sales/daily.csv", token=owner)
        hide = re.compile(rb"cf1\.[\w.-]+")
        assert hide.sub(b"#", after.body) == hide.sub(b"#", before.body)
    finally:
        with_rules(proxy, RULES)


# ── how much ──


def test_a_subject_has_so_many_cells_a_minute(tmp_path):
    """Beyond the rate it is told when to ask again, on record; others are not kept waiting."""
    limits = "reveal: {cells: 10, cells_per_minute: 20, cells_per_hour: 100}\n"
    with stage(tmp_path, reports=sales.REPORTS, rules=RULES, settings=limits) as (store, proxy):
        store.pages[PATH] = Page(sales.as_csv(ROWS))
        asked = sealed(proxy)[:10]
        olga = token(proxy, "olga", "officers")
        assert [reveal(proxy, asked, by=olga).status for _ in range(3)] == [200, 200, 429]
        refused = reveal(proxy, asked, by=olga)
        assert refused.status == 429 and 0 < int(refused.headers["retry-after"]) <= 30
        found = event(proxy, refused)
        assert (found.cause, found.report, found.action) == (
            "too-many-cells",
            "sales/daily",
            "reveal",
        )
        assert reveal(proxy, asked, by=token(proxy, "otto", "officers")).status == 200


# ── what cells carry ──


def test_sizes_do_not_depend_on_what_is_carried(tmp_path):
    """PROMISE 1 (non-interference): two stores that differ in hidden fields alone, which cells carry, give
    answers that are equal in every byte but the ciphertexts' own; these carry them all the same.
    """
    rules = RULES.replace("p2, role:analyst, sales/*, true, net_sales, round(100)\n", "").replace(
        "row.region == 'North'", "row.net_sales > 1000 and row.note != 'x'"
    )
    reports = sales.REPORTS.replace(
        "      buyer_email:", "      note: {type: text, class: personal}\n      buyer_email:"
    )
    fields = ("date", "store_id", "region", "units", "net_sales", "note", "buyer_email")
    seen = set()
    with stage(tmp_path, reports=reports, rules=rules) as (store, proxy):
        alice = token(proxy, "alice", "analysts")
        for hidden in (("1", ""), ("1234567.89", "y" * 32), ("", "y" * 500), ("n/a", "x")):
            store.pages[PATH] = Page(sales.as_csv([(*r[:4], *hidden, r[5]) for r in ROWS], fields))
            answer = proxy.get(PATH, token=alice)
            assert answer.status == 200
            blot = re.compile(rb"cf1\.[\w.-]+")
            veiled = blot.sub(lambda found: b"#" * len(found[0]), answer.body)
            seen.add(repr((answer.headers.get("content-length"), veiled, answer.chunks)))
            back = values(
                reveal(proxy, sealed(proxy, by=alice), by=token(proxy, "olga", "officers"))
            )
            assert any(back) == (hidden[0] == "1234567.89")
    assert len(seen) == 1


def test_a_reveal_is_explained_by_the_policy_of_then(proxy, cells, capsys):
    """`policy explain --event` says of a reveal, and of one that was refused, by which lines it was."""
    from click.testing import CliRunner

    from proxy.cli import main

    log = str(proxy.home.folder / "access.db")
    for purpose, words in (
        ("audit", "permitted: user:olga: reveal on sales/daily"),
        ("reconcile", "403, cause purpose-required"),
    ):
        answer = reveal(proxy, cells[:2], purpose=purpose)
        shown = CliRunner().invoke(
            main,
            [
                "policy",
                "explain",
                "--event",
                answer.event,
                "--log",
                log,
                "--attribute",
                "stores=0|3",
            ],
        )
        assert words in shown.output, shown.output
        assert "canary" not in shown.output and "cf1." not in shown.output
    lines = CliRunner().invoke(
        main, ["log", "query", "--log", log, "--report", "sales/daily", "--limit", "5"]
    )
    assert lines.exit_code == 0 and "canary" not in lines.output
