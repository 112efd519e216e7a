"""Every kind of bad input gets its clear answer and its event, and the store learns nothing of it."""

from __future__ import annotations

import json
import re
import time

import pytest
from click.testing import CliRunner

from proxy.access import AccessEvent
from proxy.cli import main
from tests.harness import aside, sales, wire
from tests.harness.issuer import Issuer
from tests.harness.proxy import Proxy, stage
from tests.harness.store import Page, Store

PATHS = {"csv": "/sales/daily.csv", "json": "/sales/daily.json"}


@pytest.fixture
def store(store) -> Store:
    """With the report in both formats."""
    store.pages["/sales/daily.json"] = Page(
        sales.as_json(sales.rows(20)), content_type="application/json"
    )
    return store


@pytest.fixture
def alice(proxy) -> str:
    return proxy.issuer.token("alice", groups=("analysts",))


def problem(proxy: Proxy, answer: wire.Answer, status: int, slug: str) -> AccessEvent:
    """The answer is this problem, and its event is on record; gives the event."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    document = json.loads(answer.body)
    assert document["type"] == f"urn:counterfoil:problem:{slug}"
    assert document["status"] == status
    assert document["event"] == answer.event
    assert document["title"] and document["detail"]
    assert b"canary" not in answer.raw
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert event.step == "refusal" and event.decision == "deny"
    assert event.reason == slug and event.status == status
    return event


def test_the_report_itself_is_answered(proxy, store, alice):
    """The analyst sees rounded amounts and no e-mail, in both formats."""
    answer = proxy.get(PATHS["csv"], token=alice)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv")
    lines = answer.body.decode().splitlines()
    assert lines[0] == "date,store_id,region,units,net_sales"
    assert lines[1] == "2026-01-01,0,North,0,1000"
    answer = proxy.get(PATHS["json"], token=alice)
    first = json.loads(answer.body)[0]
    assert first == {
        "date": "2026-01-01", "store_id": "0", "region": "North", "units": 0, "net_sales": 1000
    }  # fmt: skip


# ── who asks ──


def test_no_token(proxy, store):
    """Without a token: 401 with a challenge, and the store is not asked."""
    answer = proxy.get(PATHS["csv"])
    event = problem(proxy, answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert event.cause == "token-missing" and not store.asked


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", "Bearer", "eyJhbGciOiJub25lIn0.e30.", "é" * 10, "a" * 20_000],
)
def test_a_broken_token(proxy, store, token):
    """Whatever is no token is refused as one, or as a malformed request, and never echoed."""
    answer = proxy.get(PATHS["csv"], token=token)
    assert answer.status in (400, 401, 431)
    assert not store.asked
    if len(token) > 6:
        assert token.encode("latin-1") not in answer.raw


def test_a_token_for_another_audience(proxy, store):
    """A token that was made for another service: 401."""
    token = proxy.issuer.token("alice", groups=("analysts",), aud="payroll")
    problem(proxy, proxy.get(PATHS["csv"], token=token), 401, "unauthenticated")
    assert not store.asked


def test_an_expired_token(proxy, store):
    """An expired token: 401."""
    token = proxy.issuer.token("alice", groups=("analysts",), lifetime=-3600)
    event = problem(proxy, proxy.get(PATHS["csv"], token=token), 401, "unauthenticated")
    assert event.cause == "token-expired" and not store.asked


def test_a_token_of_an_unknown_issuer_or_key(proxy, store):
    """Another issuer's token, and one in the right name under another key: 401."""
    for issuer in (Issuer("https://evil.invalid"), Issuer()):
        token = issuer.token("alice", groups=("analysts",))
        problem(proxy, proxy.get(PATHS["csv"], token=token), 401, "unauthenticated")
    assert not store.asked


def test_two_tokens(proxy, store, alice):
    """Two Authorization headers: 400 or 401, never a choice between them."""
    raw = wire.exchange(
        proxy.url,
        f"GET {PATHS['csv']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer x\r\nAuthorization: Bearer {alice}\r\n\r\n".encode(),
    )
    assert wire.parse(raw).status in (400, 401)
    assert not store.asked


# ── what is asked ──


@pytest.mark.threat("G60")
def test_unknown_and_forbidden_reports_are_one(proxy, store, alice):
    """A report that is not there, one that is not for you and a path outside: the same answer."""
    answers = [
        proxy.get(target, token=alice)
        for target in ("/sales/secret.csv", "/sales/none.csv", "/", "/sales/daily.csv/")
    ]
    for answer in answers:
        problem(proxy, answer, 404, "not-found")
    assert len({answer.seen() for answer in answers}) == 1
    assert not store.asked


@pytest.mark.threat("G60")
def test_an_unauthorised_user_is_told_nothing_by_method_or_parameter(proxy, store):
    """Without a grant, a wrong method, parameter or purpose gives the same 404 as an unknown report."""
    nora = proxy.issuer.token("nora")
    answers = [
        proxy.get("/sales/none.csv", token=nora),
        proxy.get(PATHS["csv"], token=nora),
        proxy.get(PATHS["csv"], token=nora, method="DELETE"),
        proxy.get(PATHS["csv"] + "?x=1", token=nora),
        proxy.get(PATHS["csv"], token=nora, headers={"Counterfoil-Purpose": "none"}),
        proxy.get(PATHS["csv"], token=nora, headers={"Accept": "image/png"}),
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.seen() for answer in answers}) == 1
    assert not store.asked


@pytest.mark.threat("A11")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods(proxy, store, alice, method):
    """Reports are read with GET and HEAD: 405 with Allow."""
    answer = proxy.get(PATHS["csv"], token=alice, method=method)
    assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"
    assert not store.asked


def test_a_format_that_is_not_there(proxy, store, alice):
    """An Accept header that leaves out the path's format: 406."""
    answer = proxy.get(PATHS["csv"], token=alice, headers={"Accept": "application/json"})
    problem(proxy, answer, 406, "not-acceptable")
    for accept, status in (
        ("text/html, text/csv;q=0.5", 200),
        ("text/*", 200),
        ("text/csv;q=0, */*", 406),  # the most specific range decides (RFC 9110 §12.5.1)
        ("*/*;q=0.000, text/csv", 200),
        ("text/csv; q=0.00", 406),
    ):
        accepted = {"Accept": accept}
        assert proxy.get(PATHS["csv"], token=alice, headers=accepted).status == status, accept


@pytest.mark.threat("E45")
@pytest.mark.parametrize(
    "query",
    ["x=1", "from=yesterday", "from=2026-01-01&from=2026-01-02", "from[]=2026-01-01", "from",
     "from=2026-01-01;x=1", "=1", "from=%zz", "FROM=2026-01-01", "from=2026-02-30"],
)  # fmt: skip
def test_unknown_and_malformed_parameters(proxy, store, alice, query):
    """A parameter that is undeclared, repeated or of another type: 400, and the store is not asked."""
    answer = proxy.get(f"{PATHS['csv']}?{query}", token=alice)
    assert answer.status == 400
    assert not store.asked


def test_a_declared_parameter_goes_to_the_store_anew(proxy, store, alice):
    """What the store is asked is written from the catalogue and the typed value."""
    assert proxy.get(PATHS["csv"] + "?from=2026-01-0%35", token=alice).status == 200
    assert [target for target, _ in store.asked] == ["/sales/daily.csv?from=2026-01-05"]


def test_a_parameter_on_a_hidden_field(proxy, store, alice):
    """Selecting on a field that is not clear for the requester: 403."""
    answer = proxy.get(PATHS["csv"] + "?least=1000", token=alice)
    problem(proxy, answer, 403, "parameter-forbidden")
    assert not store.asked


def test_purposes(proxy, store, alice):
    """An uncatalogued purpose is 400, a missing one 403, the right one is served and on record."""
    audited = "/sales/audited.csv"
    answer = proxy.get(audited, token=alice, headers={"Counterfoil-Purpose": "curiosity"})
    problem(proxy, answer, 400, "unknown-purpose")
    problem(proxy, proxy.get(audited, token=alice), 403, "purpose-required")
    answer = proxy.get(audited, token=alice, headers={"Counterfoil-Purpose": "reconcile"})
    problem(proxy, answer, 403, "purpose-required")
    answer = proxy.get(audited, token=alice, headers={"Counterfoil-Purpose": "audit"})
    assert answer.status == 200
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert event.purpose == "audit"


@pytest.mark.parametrize(
    "target",
    ["/sales/../sales/daily.csv", "/sales/%2e%2e/daily.csv", "/sales/./daily.csv", "//sales/daily.csv",
     "/sales\\daily.csv", "/sales%2Fdaily.csv", "/sales%5Cdaily.csv", "/sales/daily.csv%00",
     "/sales/daily.csv;v=1", "/sales/daily.csv%3Fa=1", "/sales/daily.csv#f", "/sales/daily.csv%23",
     "/sales/%zz", "/sales/%ff", "/sales/%252e", "/SALES/daily.csv", "http://evil/sales/daily.csv",
     "*", "sales/daily.csv"],
)  # fmt: skip
def test_targets_that_are_no_catalogued_path(proxy, store, alice, target):
    """A target that is not exactly a catalogued path reaches no report, and is on record."""
    answer = proxy.get(target, token=alice)
    assert answer.status in (400, 404)
    assert [event.status for event in proxy.events() if event.access == answer.event] == [
        answer.status
    ]
    assert not store.asked


@pytest.mark.threat("B14", "B18")
@pytest.mark.parametrize(
    "request_",
    [
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\nabc",
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nX : canary-echo\r\n\r\n",
        b"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\n canary-echo\r\n\r\n",
        b"GET /canary-echo\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: canary-echo\r\n" * 3_000 + b"\r\n",
        b"canary-echo\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_framing_faults_are_recorded_and_echo_nothing(proxy, store, request_):
    """What aiohttp's parser refuses is refused by us: a problem document, an event, no echo, closed."""
    answer = wire.parse(wire.exchange(proxy.url, request_))
    assert answer.status in (400, 431)
    assert json.loads(answer.body)["event"] == answer.event
    echoed = answer.raw.replace(answer.event.encode(), b"")  # a random id may hold anything
    assert b"canary-echo" not in echoed and b"aaaa" not in echoed
    (event,) = [event for event in proxy.events() if event.access == answer.event]
    assert event.step == "refusal" and event.cause in ("framing", "head-too-large")
    assert (event.cause == "head-too-large") == (answer.status == 431) == (len(request_) > 10_000)
    assert not store.asked


@pytest.mark.threat("B15")
def test_a_body_on_a_read(proxy, store, alice):
    """A GET with a body that holds a second request: one answer, one event, nothing of the second."""
    inner = (
        f"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {alice}\r\n\r\n"
    )
    before = len(proxy.events())
    raw = wire.exchange(
        proxy.url,
        f"GET /sales/daily.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {alice}\r\n"
        f"Content-Length: {len(inner)}\r\n\r\n{inner}".encode(),
    )
    assert raw.count(b"HTTP/1.1 ") == 1
    problem(proxy, wire.parse(raw), 413, "body-not-allowed")
    assert len(proxy.events()) == before + 1 and not store.asked


def test_floods_without_a_token_are_counted_together(proxy, store):
    """Beyond a rate, refusals of one address share a record that was durable before their answers."""
    before = len(proxy.events())
    answers = [proxy.get(PATHS["csv"]) for _ in range(200)]
    assert {answer.status for answer in answers} == {401}
    records = proxy.events()
    assert len(records) - before < 150
    known = {event.access for event in records}
    assert all(answer.event in known for answer in answers)
    assert any(event.step == "burst" for event in records)


# ── what the store says ──


def broken(body: bytes, **more: object) -> Page:
    return Page(body, **more)  # type: ignore[arg-type]


GOOD = sales.as_csv(sales.rows(20))


@pytest.mark.threat("E40", "E41")
@pytest.mark.parametrize(
    ("page", "status", "slug", "cause"),
    [
        (Page(b"canary stack trace", status=500), 502, "store-unavailable", "store-status-5xx"),
        (Page(b"canary", status=404), 502, "store-unavailable", "store-status-4xx"),
        (Page(b"", status=302, headers={"Location": "https://canary/"}), 502, "store-unavailable",
         "store-status-3xx"),
        (Page(GOOD, status=206), 502, "store-unavailable", "store-status-2xx"),
        (Page(b"<html>canary</html>", content_type="text/html"), 502, "store-answer-refused",
         "wrong-media-type"),
        (Page(GOOD, content_type="text/csv; charset=utf-16"), 502, "store-answer-refused",
         "wrong-media-type"),
        (Page(GOOD, headers={"Content-Encoding": "gzip"}), 502, "store-answer-refused",
         "coding-malformed"),
        (Page(GOOD, headers={"Content-Encoding": "compress"}), 502, "store-answer-refused",
         "content-coding"),
        (Page(GOOD.replace(b"net_sales", b"net_sale")), 502, "store-answer-refused",
         "column-missing"),
        (Page(GOOD.replace(b",units,", b",")), 502, "store-answer-refused", None),
        (Page(GOOD + b"2026-01-01,canary\n"), 502, "store-answer-refused", None),
        (Page(GOOD + b'2026-01-01,1,"canary'), 502, "store-answer-refused", None),
        (Page(GOOD + b"\xff\xfe,1,1,1,1,1\n"), 502, "store-answer-refused", None),
        (Page(GOOD, cut_after=300), 502, "store-unavailable", "store-cut-off"),
        (Page(b""), 502, "store-answer-refused", None),
    ],
)  # fmt: skip
def test_what_the_store_gets_wrong(proxy, store, alice, page, status, slug, cause):
    """The store fails or sends what was not declared: 502 with nothing of its answer, and an event."""
    store.pages["/sales/daily.csv"] = page
    answer = proxy.get(PATHS["csv"], token=alice)
    event = problem(proxy, answer, status, slug)
    assert event.subject and event.report == "sales/daily"
    if cause:
        assert event.cause == cause


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[1]", b"[{]", b'[{"date":"a","date":"b"}]', b'[{"date":NaN}]', b"[] canary",
     b"\xef\xbb\xbf[]", b'[{"date":"\xff"}]', b'[{"date":"a"}', b'[{"date":"\\ud800"}]',
     b"[" * 3000 + b"]" * 3000],
)  # fmt: skip
def test_json_that_is_not_the_report(proxy, store, alice, body):
    """A JSON document that is malformed or no array of objects: 502."""
    store.pages["/sales/daily.json"] = Page(body, content_type="application/json")
    problem(proxy, proxy.get(PATHS["json"], token=alice), 502, "store-answer-refused")


def test_a_store_that_is_down(tmp_path):
    """A store that cannot be reached: 502."""
    with stage(tmp_path, reports=sales.REPORTS, rules=sales.RULES) as (store, proxy):
        store.close()
        token = proxy.issuer.token("alice", groups=("analysts",))
        answer = proxy.get(PATHS["csv"], token=token)
        event = problem(proxy, answer, 502, "store-unavailable")
        assert event.cause == "store-unreachable"


def test_a_column_too_many_is_not_passed_and_raises_one_alarm(proxy, store, alice, caplog):
    """An undeclared column is absent, the answer is as without it, and drift is said once."""
    known = {event.access for event in proxy.events()}
    plain = proxy.get(PATHS["csv"], token=alice)
    with_more = [(*row, f"canary-{n}") for n, row in enumerate(sales.rows(20))]
    store.pages["/sales/daily.csv"] = Page(sales.as_csv(with_more, (*sales.FIELDS, "salary")))
    answers = [proxy.get(PATHS["csv"], token=alice) for _ in range(3)]
    assert {answer.seen() for answer in answers} == {plain.seen()}
    alarms = [record for record in caplog.records if "does not declare" in record.getMessage()]
    assert len(alarms) == 1 and "salary" not in caplog.text
    for _ in range(100):  # no requester waits for the record of it
        drift = (event for event in proxy.events() if event.step == "drift")
        records = [event for event in drift if event.access not in known]
        if records:
            break
        time.sleep(0.05)
    (record,) = records
    assert (record.report, record.count, record.cause) == ("sales/daily", 1, "undeclared-field")
    assert not any("salary" in str(event) for event in proxy.events())
    words = ["policy", "status", "-c", str(proxy.home.settings), "--json"]
    told = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    assert told["drift"]["sales/daily"]["undeclared-field"] >= 1


def test_a_store_that_breaks_off_in_mid_stream(proxy, store, alice):
    """A long answer that the store cuts is cut for the requester too, and the record says so."""
    body = sales.as_csv(sales.rows(40_000))
    store.pages["/sales/daily.csv"] = Page(body, cut_after=len(body) - 5000, pieces=1 << 16)
    answer = proxy.get(PATHS["csv"], token=alice)
    assert answer.status == 200 and not answer.whole
    for _ in range(100):  # the connection is broken first, the record follows
        records = [event for event in proxy.events() if event.access == answer.event]
        if records[-1].ended:
            break
        time.sleep(0.05)
    assert records[-1].ended == "store-failed" and records[-1].bytes >= len(answer.body) > 0


@pytest.mark.threat("A10", "E42")
def test_headers_of_the_store_and_of_the_client_stay_where_they_are(proxy, store, alice):
    """Nothing of the store's header reaches the client, nothing of the client's the store."""
    store.pages["/sales/daily.csv"].headers = {
        "Set-Cookie": "canary=1", "ETag": '"canary"', "X-Trace": "canary", "Link": "</canary>",
        "Content-Disposition": "attachment; filename=canary.csv", "Last-Modified": "canary",
    }  # fmt: skip
    answer = proxy.get(
        PATHS["csv"],
        token=alice,
        headers={"Cookie": "a=1", "X-Original-URL": "/sales/secret.csv", "If-Modified-Since": "canary",
                 "Content-Range": "bytes 0-5/9", "X-Forwarded-User": "root", "User-Agent": "canary-agent"},
    )  # fmt: skip
    assert answer.status == 200
    assert set(answer.headers) == {
        "content-type", "counterfoil-event", "cache-control", "x-content-type-options", "server",
        "content-length", "date", "connection", "vary", "etag",
    }  # fmt: skip
    ((_, asked),) = store.asked
    assert "canary" not in str(answer.headers)
    assert set(asked) == {"host", "accept", "accept-encoding"}


def test_the_events_of_a_session_hold_no_value(proxy, store, alice):
    """No cell, token or credential is in the access log's file."""
    proxy.get(PATHS["csv"], token=alice)
    content = aside.content(proxy.home.folder.glob("access.db*"))
    assert b"canary" not in content
    assert alice.encode() not in content
    assert not re.search(rb"eyJ[A-Za-z0-9_-]{20,}\.eyJ", content)


def test_a_policy_file_with_ten_faults_is_refused_with_all_of_them(proxy, store, alice, caplog):
    """Ten different faults are all named with file, line and column; the last good policy stays."""
    good = (proxy.home.policies / "policy.csv").read_text()
    bad = [
        "P, role:analyst, sales/daily, read, true, allow",
        "p, role:analyst, sales/daily, read, true, Allow",
        "p, role:analyst, sales/daily, read, true",
        "p, analyst, sales/daily, read, true, allow",
        "p, role:analyst, sales/dail, read, true, allow",
        "p, role:analyst, sales/daily, write, true, allow",
        "p, role:analyst, sales/daily, read, env.purpos == '', allow",
        "p2, role:analyst, sales/daily, row.nothing == '1', units, clear",
        "p2, role:analyst, sales/daily, true, salary, clear",
        "p2, role:analyst, sales/daily, true, units, rond(10)",
    ]
    first = good.count("\n") + 1
    proxy.home.write("policy.csv", good + "\n".join(bad) + "\n")
    try:
        assert not proxy.reload()
        said = caplog.text
        for line in range(first, first + len(bad)):
            assert re.search(rf"policy\.csv:{line}:\d+: ", said), (line, said)
        assert proxy.get(PATHS["csv"], token=alice).status == 200
    finally:
        proxy.home.write("policy.csv", good)
    assert proxy.reload()
