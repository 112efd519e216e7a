"""Attacks on a request's target, in raw bytes: it is exactly a catalogued path, or it is nothing."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.gateway.bursts import Bursts
from tests.harness import sales, wire
from tests.harness.proxy import stage
from tests.harness.store import Page, Store

PATH = "/sales/daily.csv"
PAGES = {PATH: sales.as_csv(sales.rows(20)), "/by-region/North": sales.as_csv(sales.rows(20))}
UNLIMITED = "limits: {requests_per_minute_per_subject: 100000000, requests_per_minute_per_address: 100000000}\n"


@pytest.fixture
def store(store) -> Store:
    store.pages.update({path: Page(body) for path, body in PAGES.items()})
    return store


@pytest.fixture
def attack(proxy, store):
    """Sends a target for one who may read; it must be refused, once, on record, unechoed, the store not asked."""
    fields = f"Host: localhost\r\nAuthorization: Bearer {proxy.issuer.token('alice', groups=('analysts',))}\r\n"

    def send(target: str | bytes, *statuses: int) -> wire.Answer:
        raw = target if isinstance(target, bytes) else target.encode()
        request = b"GET " + raw + f" HTTP/1.1\r\n{fields}Connection: close\r\n\r\n".encode()
        before = len(proxy.events())
        received = wire.exchange(proxy.url, request)
        answer = wire.parse(received)
        assert (
            len(re.findall(rb"HTTP/1\.[01] \d{3} ", received)) == 1 and answer.status in statuses
        ), answer
        (event,) = proxy.events()[before:]
        assert (event.access, event.step, event.report) == (answer.event, "refusal", "")
        assert not store.asked
        assert b"buyers.example" not in received
        return answer

    return send


def test_the_paths_themselves_are_answered(proxy, store):
    """What the attacks are variants of is there."""
    token = proxy.issuer.token("alice", groups=("analysts",))
    for path in (PATH, "/sales/North/daily.csv"):
        assert proxy.get(path, token=token).status == 200


@pytest.mark.threat("A1")
@pytest.mark.parametrize(
    "target",
    ["/sales/../sales/daily.csv", "/sales/./daily.csv", "/sales/%2e%2e/sales/daily.csv", "/sales/.%2e/daily.csv",
     "/sales/%2E./daily.csv", "/sales/%2e/daily.csv", "/..", "/.", "/sales/..", "/../../etc/passwd",
     "/sales/daily.csv/.", "/sales/daily.csv/..", "/-/../sales/daily.csv"],
)  # fmt: skip
def test_dot_segments(attack, target):
    """A1: no segment is one or two dots, however they are written."""
    attack(target, 400)


@pytest.mark.threat("A2")
@pytest.mark.parametrize(
    "target",
    ["//sales/daily.csv", "/sales//daily.csv", "/sales/daily.csv/", "/sales/daily.csv//", "/sales\\daily.csv",
     "\\sales\\daily.csv", "/sales%5Cdaily.csv", "/sales%5cdaily.csv", "/sales%2Fdaily.csv", "/sales%2fdaily.csv",
     "/%2Fsales/daily.csv", "/sales/daily.csv%2F", "/sales/%2F/daily.csv", "//evil.example/sales/daily.csv"],
)  # fmt: skip
def test_separators(attack, target):
    """A2: a separator stands once, in one way, between segments that are not empty."""
    attack(target, 400, 404)


@pytest.mark.threat("A3")
@pytest.mark.parametrize(
    "target",
    ["/sales/%252e%252e/sales/daily.csv", "/sales%252Fdaily.csv", "/sales/daily%252ecsv", "/sales/dail%2579.csv",
     "/sales/%25252e/daily.csv"],
)  # fmt: skip
def test_double_encoding(attack, target):
    """A3: what was encoded twice is decoded once, and then is no report."""
    attack(target, 404, 400) if "%2525" in target else attack(target, 404)


@pytest.mark.threat("A4")
@pytest.mark.parametrize(
    "target",
    ["/sales/..;a=b/daily.csv", "/sales/daily.csv;v=1", "/sales;x/daily.csv", "/sales/daily.csv;", "/;/sales/daily.csv",
     "/sales/daily.csv%3Bv=1"],
)  # fmt: skip
def test_path_parameters(attack, target):
    """A4: a segment has no parameters."""
    attack(target, 400)


@pytest.mark.threat("A5")
@pytest.mark.parametrize(
    "target",
    ["/sales/daily.csv%00", "/sales/%00daily.csv", "/sales/daily.csv%00.json", "/sales/%zz", "/sales/%", "/sales/%4",
     "/sales/%ff", "/sales/%c0%ae%c0%ae/daily.csv", "/sales%c0%afdaily.csv", "/sales%e0%80%afdaily.csv",
     "/sales/%ed%a0%80", "/sales/daily.csv%0d%0aX:1", "/sales/daily.csv%09", "/sales/%u0064aily.csv",
     b"/sales/daily.csv\x00", b"/sales/\xff", b"/sales/\xc0\xae\xc0\xae/daily.csv"],
)  # fmt: skip
def test_characters_that_are_none(attack, target):
    """A5: NUL, controls, half an escape and what is not UTF-8, in its shortest form, are malformed."""
    attack(target, 400)


@pytest.mark.threat("A6")
@pytest.mark.parametrize(
    "target",
    ["/sales/daily.csv%3Fa=1", "/sales/daily.csv%3ffrom=2026-01-01", "/sales/daily.csv#f", "/sales/daily.csv?#f",
     "/sales/daily.csv%23", "/sales/daily.csv%23?from=2026-01-01", "/sales/secret.csv#/sales/daily.csv"],
)  # fmt: skip
def test_queries_and_fragments_in_disguise(attack, target):
    """A6: an escaped `?` begins no query, and there is no fragment."""
    attack(target, 400)


@pytest.mark.threat("A7")
@pytest.mark.parametrize(
    "target",
    ["/SALES/daily.csv", "/sales/Daily.csv", "/sales/daily.CSV", "/ſales/daily.csv", "/sales/daıly.csv",
     "/ｓａｌｅｓ/daily.csv", "/sales/daily．csv", "/sales/dai\u0323ly.csv", "/sales/dai\u0301ly.csv",
     "/sales/daily.csv\u200b", "/sales/daily\u2024csv", "/sales／daily.csv"],
)  # fmt: skip
def test_look_alikes(attack, target):
    """A7: a name is compared as it is, not folded, composed or mapped."""
    attack(quote(target), 404)


@pytest.mark.threat("A8")
@pytest.mark.parametrize(
    "target",
    ["http://evil.example/sales/daily.csv", "https://x/sales/daily.csv", "http:/sales/daily.csv", "HTTP://x",
     "file:///etc/passwd", "x", "sales/daily.csv", "*", "?from=2026-01-01", "http://x@evil.example/sales/daily.csv"],
)  # fmt: skip
def test_targets_of_other_forms(attack, target):
    """A8: an absolute target, or one of no form at all, is refused whatever host it names."""
    attack(target, 400, 421)


@pytest.mark.threat("A13")
@pytest.mark.parametrize("agent", ["kube-probe/1.31", "ELB-HealthChecker/2.0", "GoogleHC/1.0"])
@pytest.mark.parametrize(
    ("target", "status"),
    [(PATH, 401), ("/-/live/../sales/daily.csv", 400), ("/-/ready/%2e%2e/%2e%2e/sales/daily.csv", 400),
     ("/healthz/../sales/daily.csv", 400), ("/-/live/sales/daily.csv", 401), ("/-/live?x=/sales/daily.csv", 401),
     ("/-/live;/sales/daily.csv", 400)],
)  # fmt: skip
def test_health_checks_open_nothing(proxy, store, agent, target, status):
    """A13: no User-Agent and no path below a health check's is let through without a token."""
    answer = proxy.get(target, headers={"User-Agent": agent})
    assert answer.status == status and not store.asked
    assert [event.status for event in proxy.events() if event.access == answer.event] == [status]


# ── whatever is decided, recorded and fetched is one entry of the catalogue ──

SEGMENTS = st.sampled_from(
    ["sales", "daily.csv", "daily.json", "secret.csv", "audited.csv", "..", ".", "", "North", "Öst", "-", "live",
     "%2e%2e", "%2E", "%2F", "%5C", "%00", "%3F", "%23", "%25", "%252e", ";v=1", "\\", "SALES", "daily.csv ",
     "übersicht.csv", "%C3%BCbersicht.csv", "by-region", "accented.csv", "*", "~", "@", ":", "%", "%zz", "%c0%af"]
)  # fmt: skip
QUERIES = st.sampled_from(
    ["", "?", "?from=2026-01-01", "?region=North", "?from=2026-01-01&from=2026-01-02", "?from[]=1", "?x=1", "?least=1",
     "?region=%2e%2e", "?region=a/b", "?region=a%2Fb%3Fc%23d", "#f", "?#", "?a;b", "?region=..%00", "?&", "?=", "?from"]
)  # fmt: skip
TARGETS = st.one_of(
    st.builds(lambda parts, query: "/" + "/".join(parts) + query, st.lists(SEGMENTS, max_size=5), QUERIES),
    st.builds(
        lambda path, place, junk: path[:place] + junk + path[place:],
        st.sampled_from([PATH, "/sales/North/daily.csv", "/sales/secret.csv", "/sales/audited.csv"]),
        st.integers(0, 20),
        st.text(st.characters(codec="latin-1", exclude_characters="\r\n "), max_size=3),
    ),
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n "), min_size=1, max_size=40),
)  # fmt: skip

ENTRIES = {
    "sales/daily": (
        "/sales/daily.csv",
        "/sales/daily.json",
        "/sales/daily-wrapped.json",
        "/by-region/",
    ),
    "sales/secret": (),
    "sales/audited": (),
}
"""Report -> the paths at the store that are its own and may be asked for here."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A world, and one kept connection to it."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with stage(folder, reports=sales.REPORTS, rules=sales.RULES, settings=UNLIMITED) as (
        store,
        proxy,
    ):
        store.pages.update({path: Page(body) for path, body in PAGES.items()})
        yield store, proxy, proxy.issuer.token("alice", groups=("analysts",))


def one_entry(fuzzed, target: str) -> None:
    store, proxy, token = fuzzed
    store.asked.clear()
    decided: list[str] = []
    gateway = proxy.app.gateway
    gateway.recorder._bursts = Bursts()
    recorded: list[tuple[str, str, str]] = []
    append = gateway.recorder._log.append

    async def noted(event, *, principal="", attachments=()):
        recorded.append((event.report, event.decision, event.step))
        return await append(event, principal=principal, attachments=attachments)

    policy = gateway.snapshot.policy
    slice_ = policy.slice

    def sliced(subject, report, action):
        decided.append(report)
        return slice_(subject, report, action)

    gateway.recorder._log.append, policy.slice = noted, sliced
    try:
        raw = wire.exchange(
            proxy.url,
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode("latin-1"),
        )
    finally:
        del gateway.recorder._log.append, policy.slice
    answer = wire.parse(raw)
    if target in ("/-/live", "/-/ready"):
        assert answer.status == 200 and not recorded and not store.asked
        return
    ((report, decision, _),) = {(r, d, "") for r, d, _ in recorded}
    assert set(decided) <= {report}  # Casbin decided on what was recorded, or on nothing
    asked = [at for at, _ in store.asked]
    if answer.status >= 400 and not asked:
        assert decision == "deny" or answer.status == 502
        return
    assert report in ENTRIES and set(decided) == {report}
    (path,) = asked
    assert path.startswith(ENTRIES[report])  # and the store was asked for just that
    assert answer.status in (200, 502)
    assert decision == ("permit" if answer.status == 200 else "deny")


@pytest.mark.threat("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8")
@settings(max_examples=150)
@example("/sales/North/daily.csv")
@example(PATH + "?from=2026-01-01&region=North")
@given(TARGETS)
def test_what_is_decided_recorded_and_fetched_is_one_entry(fuzzed, target):
    """Whatever the target: Casbin's report, the record's and the store's path are of one entry, or nothing is sent."""
    one_entry(fuzzed, target)


@pytest.mark.prove
@pytest.mark.threat("A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8")
@settings(max_examples=20_000)
@given(TARGETS)
def test_of_many_targets_what_is_decided_recorded_and_fetched_is_one_entry(fuzzed, target):
    """The same of 20,000 targets."""
    one_entry(fuzzed, target)
