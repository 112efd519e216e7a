"""HEAD, `If-None-Match`, `If-Match` and ranges over real sockets: on the requester's own view, decided and on record."""

from __future__ import annotations

import csv
import io
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.gateway.kept import KeptBlocks
from proxy.gateway.view import BLOCK
from tests.gateway.reloading import soon
from tests.harness.proxy import stage
from tests.harness.store import Page

REPORTS = """\
stores: {main: {url: "{store}", loopback: true}}
reports:
  r/short:
    title: Some rows
    store: main
    variants: [{path: /short.csv, format: csv}]
    fields: {k: {type: text, class: public}, s: {type: text, class: personal}}
  r/long:
    title: Many rows
    store: main
    variants: [{path: /long.csv, format: csv}]
    fields: {k: {type: text, class: public}, s: {type: text, class: personal}}
  r/sealed:
    title: Rows that come out otherwise each time
    store: main
    key: [k]
    variants: [{path: /sealed.csv, format: csv}]
    fields: {k: {type: text, class: public}, s: {type: text, class: personal}}
"""
RULES = """\
p,  tool:app, r/*, act,  true, allow
p,  role:x,   r/*, read, true, allow
p2, role:x,   r/short, row.s != 'hidden', k, clear
p2, role:x,   r/long, true, k, clear
p2, role:x,   r/sealed, true, k, clear
p2, role:x,   r/sealed, true, s, encrypt
g,  group:x,  role:x
"""
SETTINGS = "limits: {kept_view_bytes: 2000000}\n"
SHORT = "k,s\n" + "".join(f"key{n:07},s\n" for n in range(100))
LONG = "k,s\n" + "".join(f"key{n:07},s\n" for n in range(100_000))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validated")
    with stage(folder, reports=REPORTS, rules=RULES, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def ask(world):
    """Asks as alice, after the store's pages are what they are at the start."""
    store, proxy = world
    for path, text in {"/short.csv": SHORT, "/long.csv": LONG, "/sealed.csv": SHORT}.items():
        store.pages[path] = Page(text.encode())
    store.asked.clear()
    token = proxy.issuer.token("alice", groups=("x",))

    def asked(path, *, user=None, method="GET", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        own = token if user is None else proxy.issuer.token(user, groups=("x",))
        return proxy.get(path, token=own, method=method, headers=named)

    return asked


def event_of(world, answer):
    found = [event for event in world[1].events() if event.access == answer.event]
    return found[-1]


@pytest.mark.parametrize("path", ["/short.csv", "/long.csv"])
def test_head_says_what_get_gives(world, ask, path):
    """HEAD has the size, the validator and the type of the requester's own answer, and no content."""
    whole = ask(path)
    head = ask(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.raw.endswith(b"\r\n\r\n")
    assert int(head.headers["content-length"]) == len(whole.body)
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert head.headers["accept-ranges"] == "bytes"
    assert head.headers["cache-control"].startswith("private")
    event = event_of(world, head)
    assert (event.step, event.status, event.method, event.bytes) == ("complete", 200, "HEAD", 0)


@pytest.mark.parametrize("path", ["/short.csv", "/long.csv"])
def test_what_a_requester_has_is_not_given_again(world, ask, path):
    etag = ask(path, method="HEAD").headers["etag"]
    for stated in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = ask(path, If_None_Match=stated)
        assert (again.status, again.body) == (304, b""), stated
        assert again.headers["etag"] == etag
        event = event_of(world, again)
        assert (event.decision, event.status, event.bytes, event.rows) == ("permit", 304, 0, 0)
    assert ask(path, If_None_Match=f', "other", , {etag} ,').status == 304
    for stated in ('"other"', "nonsense", f"{etag[:-1]}", f'"other" {etag}', ","):
        assert ask(path, If_None_Match=stated).status == 200, stated


def test_a_change_in_the_store_is_seen_at_once(world, ask):
    """Whether there is anything new is looked up, not remembered."""
    etag = ask("/short.csv").headers["etag"]
    world[0].pages["/short.csv"] = Page(SHORT.replace("key0000007", "key0000008").encode())
    changed = ask("/short.csv", If_None_Match=etag)
    assert changed.status == 200
    assert changed.headers["etag"] != etag
    assert ask("/short.csv", If_Match=etag).status == 412
    assert ask("/short.csv", If_Match=changed.headers["etag"]).status == 200


@pytest.mark.threat("E44")
def test_a_validator_tells_nothing_of_hidden_rows(world, ask):
    """Equal views have one validator, whatever else the store's document holds."""
    before = ask("/short.csv", method="HEAD")
    hidden = "".join(f"hidden{n},hidden\n" for n in range(77))
    world[0].pages["/short.csv"] = Page((SHORT + hidden).encode())
    after = ask("/short.csv", method="HEAD")
    assert before.seen() == after.seen()


def test_a_validator_is_the_requesters_own(ask):
    etag = ask("/short.csv", method="HEAD").headers["etag"]
    other = ask("/short.csv", method="HEAD", user="bob")
    assert other.headers["etag"] != etag
    assert ask("/short.csv", user="bob", If_None_Match=etag).status == 200


@pytest.mark.threat("E43")
@pytest.mark.parametrize("path", ["/short.csv", "/long.csv"])
@given(data=st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_range_is_those_bytes_of_the_view(world, ask, path, data):
    """A range, wherever it begins and ends, is what it names of the answer; its record counts all of it."""
    whole = ask(path).body
    size = len(whole)
    near = st.one_of(
        st.integers(0, size + 10), st.sampled_from([0, 1, BLOCK - 1, BLOCK, size - 1, size])
    )
    first, last = data.draw(
        st.one_of(
            st.tuples(near, st.none()),
            st.tuples(st.none(), near),
            st.tuples(near, near).map(lambda pair: tuple(sorted(pair))),
        )
    )
    stated = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None:
        expected = whole[size - min(last, size) :]
    else:
        expected = whole[first:] if last is None else whole[first : last + 1]
    got = ask(path, Range=stated)
    event = event_of(world, got)
    if not expected:
        assert (got.status, got.headers["content-range"]) == (416, f"bytes */{size}")
        assert event.decision == "deny"
        return
    start = size - len(expected) if first is None else first
    assert (got.status, got.body, got.whole) == (206, expected, True)
    span = f"{start}-{start + len(expected) - 1}/{size}"
    assert got.headers["content-range"] == f"bytes {span}"
    assert (event.status, event.span, event.bytes) == (206, span, len(expected))
    assert event.rows == whole.count(b"\n") - 1
    assert event.fields == {"k": {"clear": event.rows}}


def test_ranges_are_of_one_view(world, ask):
    """What the store changes between two ranges does not mix two documents; `If-Range` and time end it."""
    store, _ = world
    head = ask("/long.csv", method="HEAD")
    asked = len(store.asked)
    first = ask("/long.csv", Range="bytes=0-99")
    store.pages["/long.csv"] = Page(SHORT.encode())
    second = ask("/long.csv", Range="bytes=100-199", If_Range=head.headers["etag"])
    assert len(store.asked) == asked, "the store was asked again"
    assert (
        first.body + second.body
        == ("k\n" + "".join(f"key{n:07}\n" for n in range(99))).encode()[:200]
    )
    new = ask("/long.csv", method="HEAD")
    assert new.headers["etag"] != head.headers["etag"]
    mixed = ask("/long.csv", Range="bytes=200-299", If_Range=head.headers["etag"])
    assert (mixed.status, len(mixed.body)) == (200, int(new.headers["content-length"]))


@pytest.mark.parametrize(
    "stated",
    ["bytes=5-2", "bytes=-", "bytes=1-2,4-5", "items=1-2", "bytes=a-b", "bytes=1", "bytes=--1"],
)
def test_what_is_no_range_that_is_understood_is_passed_over(ask, stated):
    assert ask("/short.csv", Range=stated).body == ask("/short.csv").body


def test_ranges_are_not_kept_for_anybody_else(world, ask):
    """Another requester, another role, a lockdown: each range is decided, and made, for who asks."""
    store, proxy = world
    ask("/short.csv", method="HEAD")
    asked = len(store.asked)
    assert ask("/short.csv", Range="bytes=0-3", user="carol").status == 206
    assert len(store.asked) == asked + 1
    assert (
        proxy.get(
            "/short.csv", token=proxy.issuer.token("alice"), headers={"Range": "bytes=0-3"}
        ).status
        == 404
    )


def test_what_is_sealed_anew_each_time_has_no_validator(world, ask):
    """A view with randomised ciphertexts is given whole, and HEAD tells no size."""
    whole = ask("/sealed.csv", Range="bytes=0-9")
    assert (whole.status, len(csv_rows(whole.body))) == (200, 100)
    assert "etag" not in whole.headers
    head = ask("/sealed.csv", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert "content-length" not in head.headers
    assert event_of(world, head).status == 200


def test_a_view_that_is_too_large_to_be_kept_is_given_whole(world, ask):
    text = "k,s\n" + "".join(f"{random.Random(n).randbytes(500).hex()},s\n" for n in range(2_500))
    world[0].pages["/long.csv"] = Page(text.encode())
    answer = ask("/long.csv", Range="bytes=0-99", user="dave")
    assert (answer.status, len(csv_rows(answer.body))) == (200, 2_500)
    assert "content-length" not in ask("/long.csv", method="HEAD", user="dave").headers


def test_a_store_that_fails_fails_head_and_ranges_too(world, ask):
    world[0].pages["/short.csv"] = Page(b"", status=500)
    for method, stated in (
        ("HEAD", {}),
        ("GET", {"Range": "bytes=0-"}),
        ("GET", {"If_None_Match": "*"}),
    ):
        answer = ask("/short.csv", user=f"fresh-{method}-{len(stated)}", method=method, **stated)
        assert answer.status == 502
        assert event_of(world, answer).decision == "deny"


def test_no_validator_is_the_one_that_is_asked_for(world, ask):
    """`If-Match` fails where an answer has none, and whatever it names that we never gave."""
    for path, stated in (("/short.csv", '"\xe9"'), ("/sealed.csv", '"x"'), ("/short.csv", 'W/"x"')):
        for method in ("GET", "HEAD"):
            answer = ask(path, method=method, If_Match=stated)
            assert answer.status == 412, (path, stated)
            event = event_of(world, answer)
            assert (event.decision, event.status, event.cause) == ("deny", 412, "if-match")
    assert ask("/sealed.csv", If_Match="*").status == 200


def test_what_holds_of_a_coded_answer_does_not_hold_of_a_range(ask):
    """Bytes of the answer without a coding are never added to some of the coded one."""
    etag = ask("/short.csv", Accept_Encoding="gzip").headers["etag"]
    asked = {"Accept_Encoding": "gzip", "Range": "bytes=0-9"}
    assert ask("/short.csv", If_Match=etag, **asked).status == 412
    assert ask("/short.csv", If_None_Match=etag, **asked).status == 206
    assert ask("/short.csv", If_Match=etag, Accept_Encoding="gzip").status == 200


@pytest.mark.parametrize("path", ["/short.csv", "/sealed.csv"])
def test_head_tells_of_the_coding_that_is_insisted_on(ask, path):
    stated = "gzip, identity;q=0"
    whole = ask(path, Accept_Encoding=stated)
    head = ask(path, method="HEAD", Accept_Encoding=stated)
    for name in ("content-encoding", "etag", "vary", "accept-ranges"):
        assert head.headers.get(name) == whole.headers.get(name), name
    assert "content-length" not in head.headers


def test_an_accept_that_names_nothing_prefers_nothing(ask):
    assert ask("/short.csv", Accept="").status == 200


@pytest.mark.parametrize("number", [1, 2])
def test_a_permit_that_ends_while_kept_bytes_are_read_ends_the_range(tmp_path, monkeypatch, number):
    """Before the first block nothing of the view is given; after it, nothing more."""
    with stage(tmp_path, reports=REPORTS, rules=RULES) as (store, proxy):
        store.pages["/long.csv"] = Page(LONG.encode())
        token = proxy.issuer.token("alice", groups=("x",))
        size = int(proxy.get("/long.csv", token=token, method="HEAD").headers["content-length"])
        take, taken = KeptBlocks.take, []

        async def taking(self):
            found = await take(self)
            taken.append(found)
            if len(taken) == number:
                proxy.home.write("policy.csv", RULES + "p, anyone, r/*, read, true, deny\n")
                assert await proxy.app.reload()
            return found

        monkeypatch.setattr(KeptBlocks, "take", taking)
        answer = proxy.get("/long.csv", token=token, headers={"Range": f"bytes=1-{size - 1}"})
        assert len(taken) == number

        def events():
            return [event for event in proxy.events() if event.access == answer.event]

        if number == 1:
            assert (answer.status, [event.step for event in events()]) == (404, ["refusal"])
        else:
            assert (answer.status, answer.whole, len(answer.body)) == (206, False, BLOCK)
            soon(lambda: [event.step for event in events()] == ["intent", "outcome"])
            assert (events()[-1].ended, events()[-1].bytes) == ("policy-changed", BLOCK)


def test_other_methods_are_refused(ask):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = ask("/short.csv", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), method


def csv_rows(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode())))[1:]
